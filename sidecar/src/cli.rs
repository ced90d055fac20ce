//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt as _};

/// Printed by `--help`.
pub const HELP: &str = "\
tidegate: the native half of an LLM-aware gateway; the other half is a filter in Envoy.

usage:
  tidegate run --config FILE     serve until SIGTERM; SIGHUP reads FILE again
  tidegate check --config FILE   validate FILE and print every error with its YAML path
  tidegate envoy --config FILE   print a complete envoy.yaml for FILE
  tidegate hash-key KEY          print the digest of KEY for auth.api_keys[].hash
  tidegate hash-password         read a password from standard input, print its hash for auth.users
  tidegate check-audit --config FILE   verify the audit log of a sidecar that is not running
  tidegate --help | --version

FILE is configs/gateway.yaml unless given. Any key of FILE can be overridden by the environment:
GATEWAY__SECTION__KEY=value, list items by index: GATEWAY__PROVIDERS__0__API_KEY=value.
GATEWAY_ADMIN_KEY is the operator's key; without it one is made at the first start and shown once.

exit status: 0 done, 1 failed, 2 bad command line, bad configuration or unsuitable processor
";

const CONFIG: &str = "configs/gateway.yaml";

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run(PathBuf),
    /// Validate.
    Check(PathBuf),
    /// Print envoy.yaml.
    Envoy(PathBuf),
    /// Print a key's digest.
    HashKey(String),
    /// Print the hash of a password on standard input.
    HashPassword,
    /// Verify the audit log.
    CheckAudit(PathBuf),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let mut words: Vec<String> = Vec::new();
    let mut config = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Short('c') | Arg::Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Arg::Value(word) if words.len() < 2 => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let file = config.clone().unwrap_or_else(|| PathBuf::from(CONFIG));
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run"] => Ok(Command::Run(file)),
        ["check"] => Ok(Command::Check(file)),
        ["envoy"] => Ok(Command::Envoy(file)),
        ["hash-key", key] if config.is_none() => Ok(Command::HashKey((*key).to_owned())),
        ["hash-key"] => Err("hash-key needs the key: tidegate hash-key KEY".into()),
        ["hash-password"] if config.is_none() => Ok(Command::HashPassword),
        ["check-audit"] => Ok(Command::CheckAudit(file)),
        [] => {
            Err("which command? run, check, envoy, hash-key, hash-password or check-audit; see --help".into())
        }
        _ => Err(format!("unknown command `{}`; see --help", words.join(" ")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn commands_are_read_with_their_file() {
        assert_eq!(parsed("run --config a.yaml"), Ok(Command::Run("a.yaml".into())));
        assert_eq!(parsed("--config=a.yaml check"), Ok(Command::Check("a.yaml".into())));
        assert_eq!(parsed("envoy"), Ok(Command::Envoy("configs/gateway.yaml".into())));
        assert_eq!(parsed("hash-key k"), Ok(Command::HashKey("k".into())));
        assert_eq!(parsed("hash-password"), Ok(Command::HashPassword));
        assert_eq!(parsed("check-audit -c a"), Ok(Command::CheckAudit("a".into())));
        assert_eq!(parsed("run --help"), Ok(Command::Help));
        assert_eq!(parsed("--version"), Ok(Command::Version));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "serve",
            "hash-key",
            "hash-password secret",
            "run run",
            "run --port 1",
            "run a b c",
            "check --config",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
