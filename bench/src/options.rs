//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::cases::{CASES, Case};
use crate::scenarios::Play;
use crate::semantic::{self, Wanted};

pub(crate) const USAGE: &str = "\
usage: tidegate-bench [options]

  --rounds N       rounds of all cases, medians are shown (default 5)
  --seconds N      length of each measurement (default 3)
  --cases A,B      only these of: bare, noop, settings, nostore, filter, l1, full,
                   plain, socket, http1 (bare is always run), litellm, portkey (after
                   scripts/bench-peers, and only when named)
  --memory         instead, send many requests and watch the memory
  --requests N     requests of each case with --memory (default 1000000)
  --understanding  instead, how well errors are understood
  --events         instead, how many errors a second the sidecar learns from, and what a
                   thousand policies cost a request
  --semantic       instead, how well the semantic cache judges what is the same, and how fast it
                   is; all of it, or --only some of: english, chinese, python, index, gateway
  --entries N      entries of the semantic cache (default 100000)
  --data DIR       the material: pairs/ for --semantic, errors/ and logs/ for --understanding
  --fleet          instead, three gateways that share one limit through a real Redis
                   (30 s each, unless --seconds says otherwise)
  --fairness       instead, what tenants get of a limit that they share, from one gateway and
                   from three (30 s for each load)
  --settlement     instead, many requests of every kind, and then the ledger beside the
                   provider's own count (10000, unless --requests says otherwise)
  --keys           instead, what 100,000 API keys cost beside 10
  --failover       instead, kill one of three providers at full load (12 s, unless --seconds)
  --streams        instead, a thousand streams at a time (60 s, unless --seconds)
  --leaving        instead, callers who leave: how long the provider's call outlives them
  --translation    instead, what translation between protocols costs
  --scenarios      instead, play incidents through the gateway (bench/scenarios), or only those
                   whose names have a word of --only A,B in them; --ours leaves out the plain Envoy
                   beside it, --verbose tells what becomes of the policies
  --help           this text
";

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) cases: Vec<Case>,
    pub(crate) mode: Mode,
}

/// Which figures are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Throughput, latency and CPU.
    Speed { rounds: u32, length: Duration },
    /// Resident memory.
    Memory { requests: u64 },
    /// Understanding of errors.
    Understanding { data: Option<PathBuf> },
    /// Events at volume.
    Events,
    /// How exactly a limit is shared.
    Fleet { length: Duration },
    /// What tenants get of a limit that they share.
    Fairness { length: Duration },
    /// The ledger beside the provider's count.
    Settlement { requests: u64 },
    /// What many API keys cost.
    Keys,
    /// Incidents.
    Scenarios(Play),
    /// What callers see of a provider that is killed.
    Failover { length: Duration },
    /// Many streams at a time.
    Streams { length: Duration },
    /// Callers who leave.
    Leaving,
    /// The cost of translation.
    Translation,
    /// Judgement of the semantic cache.
    Semantic(Wanted),
}

impl Options {
    /// Reads the arguments; `None` when help is asked for.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut rounds, mut seconds, mut requests) = (5_u32, None, None);
        let (mut memory, mut fleet, mut cases) = (false, false, own_cases());
        let (mut fairness, mut settlement, mut keys) = (false, false, false);
        let (mut scenarios, mut play) = (false, Play::default());
        let (mut failover, mut streams, mut leaving, mut translation) = (false, false, false, false);
        let mut entries = semantic::ENTRIES;
        let (mut understanding, mut events, mut semantic, mut data) = (false, false, false, None);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--memory" => memory = true,
                "--understanding" => understanding = true,
                "--events" => events = true,
                "--semantic" => semantic = true,
                "--data" => data = arguments.next().map(PathBuf::from),
                "--fleet" => fleet = true,
                "--fairness" => fairness = true,
                "--settlement" => settlement = true,
                "--keys" => keys = true,
                "--failover" => failover = true,
                "--streams" => streams = true,
                "--leaving" => leaving = true,
                "--translation" => translation = true,
                "--scenarios" => scenarios = true,
                "--only" => {
                    let words = arguments.next().unwrap_or_default();
                    play.only = words.split(',').map(str::to_owned).collect();
                }
                "--ours" => play.ours = true,
                "--verbose" => play.verbose = true,
                "--rounds" => rounds = number(&argument, arguments.next())?,
                "--seconds" => seconds = Some(number(&argument, arguments.next())?),
                "--entries" => entries = number(&argument, arguments.next())?,
                "--requests" => requests = Some(number(&argument, arguments.next())?),
                "--cases" => cases = chosen(&arguments.next().unwrap_or_default())?,
                other => return Err(format!("unknown option `{other}`")),
            }
        }
        let length = |default| Duration::from_secs(seconds.unwrap_or(default));
        let mode = if understanding {
            Mode::Understanding { data }
        } else if failover {
            Mode::Failover { length: length(12) }
        } else if streams {
            Mode::Streams { length: length(60) }
        } else if leaving {
            Mode::Leaving
        } else if translation {
            Mode::Translation
        } else if events {
            Mode::Events
        } else if scenarios {
            Mode::Scenarios(play)
        } else if semantic {
            let data = data.ok_or("--semantic: needs --data DIR, a folder with `pairs/*.jsonl`")?;
            if let Some(unknown) = play.only.iter().find(|part| !semantic::PARTS.contains(&part.as_str())) {
                return Err(format!("--only: `{unknown}` is none of {}", semantic::PARTS.join(", ")));
            }
            Mode::Semantic(Wanted { data, only: play.only, entries })
        } else if memory {
            Mode::Memory { requests: requests.unwrap_or(1_000_000) }
        } else if settlement {
            Mode::Settlement { requests: requests.unwrap_or(10_000) }
        } else if keys {
            Mode::Keys
        } else if fleet {
            Mode::Fleet { length: length(30) }
        } else if fairness {
            Mode::Fairness { length: length(30) }
        } else {
            Mode::Speed { rounds, length: length(3) }
        };
        Ok(Some(Self { cases, mode }))
    }
}

fn number<T: std::str::FromStr + Default + PartialEq>(
    option: &str,
    value: Option<String>,
) -> Result<T, String> {
    let value = value.unwrap_or_default();
    match value.parse() {
        Ok(number) if number != T::default() => Ok(number),
        _ => Err(format!("{option}: needs a whole number above 0, got `{value}`")),
    }
}

fn own_cases() -> Vec<Case> {
    CASES.iter().filter(|case| !case.is_peer()).copied().collect()
}

fn chosen(ids: &str) -> Result<Vec<Case>, String> {
    let ids: Vec<&str> = ids.split(',').collect();
    let known: Vec<&str> = CASES.iter().map(|case| case.id).collect();
    if let Some(unknown) = ids.iter().find(|id| !known.contains(id)) {
        return Err(format!("--cases: `{unknown}` is none of {}", known.join(", ")));
    }
    let wanted = |index: usize, case: &Case| index == 0 || ids.contains(&case.id);
    Ok(CASES.iter().enumerate().filter(|(i, c)| wanted(*i, c)).map(|(_, c)| *c).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>, String> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn scenarios_can_be_chosen() {
        let mode = read("--scenarios --only quota,calm --ours").unwrap().unwrap().mode;
        let only = vec!["quota".to_owned(), "calm".to_owned()];
        assert_eq!(mode, Mode::Scenarios(Play { only, ours: true, verbose: false }));
    }

    #[test]
    fn options_are_strict() {
        assert!(read("--help").unwrap().is_none());
        assert!(read("--rounds x").unwrap_err().contains("--rounds"));
        assert!(read("--rounds 0").is_err());
        assert!(read("--cases bare,what").unwrap_err().contains("`what`"));
        assert!(read("--fast").is_err());
        assert!(read("--semantic").unwrap_err().contains("--data"));
        assert_eq!(read("--understanding").unwrap().unwrap().mode, Mode::Understanding { data: None });
        assert_eq!(read("--events").unwrap().unwrap().mode, Mode::Events);
    }

    #[test]
    fn semantic_runs_take_their_data_from_a_folder() {
        let options = read("--semantic --data /there --only index --entries 5").unwrap().unwrap();
        let (data, only) = (PathBuf::from("/there"), vec!["index".to_owned()]);
        assert_eq!(options.mode, Mode::Semantic(Wanted { data, only, entries: 5 }));
        assert!(read("--semantic --data /there --only indices").unwrap_err().contains("`indices`"));
    }

    #[test]
    fn bare_is_always_among_the_cases() {
        let options = read("--cases l1 --rounds 2").unwrap().unwrap();
        let ids: Vec<&str> = options.cases.iter().map(|c| c.id).collect();
        assert_eq!(ids, ["bare", "l1"]);
        let others = read("").unwrap().unwrap().cases;
        assert!(others.iter().all(|case| !case.is_peer()), "nothing is needed that is not installed");
        let length = Duration::from_secs(3);
        assert_eq!(options.mode, Mode::Speed { rounds: 2, length });
        let memory = read("--memory --requests 5").unwrap().unwrap().mode;
        assert_eq!(memory, Mode::Memory { requests: 5 });
        let settlement = read("--settlement").unwrap().unwrap().mode;
        assert_eq!(settlement, Mode::Settlement { requests: 10_000 });
        assert_eq!(read("--leaving").unwrap().unwrap().mode, Mode::Leaving);
        let fairness = read("--fairness --seconds 9").unwrap().unwrap().mode;
        assert_eq!(fairness, Mode::Fairness { length: Duration::from_secs(9) });
        let fleet = read("--fleet").unwrap().unwrap().mode;
        assert_eq!(fleet, Mode::Fleet { length: Duration::from_secs(30) });
    }
}
