//! One scenario from its first request to its last, a millisecond at a time.

use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_core::event::Report;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Protocol;
use tidegate_core::wire::path;
use tidegate_filter::config::PluginConfig;
use tidegate_filter::pipeline::{Flow, LocalReply};
use tidegate_filter::sync::Sync;
use tidegate_filter::vm::Vm;

use super::super::file::Scenario;
use super::super::script::{Drawn, Script, request};
use super::super::traffic::Sent;
use super::super::watch::Watched;
use super::host::{Process, Stream};
use super::sidecar::Sidecar;
use crate::error::BenchError;

/// From here on time counts, in milliseconds since 1970.
const START_MS: u64 = 1_700_000_000_000;
/// Between ticks of the filter, and between looks of the learning loop, in milliseconds.
const TICK_MS: u64 = 100;
const LOOK_MS: u64 = 250;
/// From the filter to the sidecar or back, and from there to an answer, in milliseconds.
const HOP_MS: u64 = 2;
const ANSWER_MS: u64 = 8;
/// The provider's timeout, in milliseconds, as in the scenarios with a real gateway.
const TIMEOUT_MS: u64 = 2_000;
/// What is still under way at the end may take so long, in milliseconds.
const REST_MS: u64 = 6_000;

/// Something on its way.
enum Due {
    /// A request, to the provider.
    Asked(u64),
    /// The provider's answer.
    Answered(u64, u16, Vec<u8>),
    /// The sidecar's answer to a call of the filter's.
    Told(u32, u16, Vec<u8>),
    /// A report.
    Reported(u32, Vec<u8>),
}

struct Asking {
    stream: Stream,
    drawn: Drawn,
    at_s: f64,
}

pub(super) struct World<'s> {
    scenario: &'s Scenario,
    process: Rc<Process>,
    vm: Vm,
    sync: Sync,
    sidecar: Sidecar,
    /// Milliseconds since the start.
    at_ms: u64,
    due: BTreeMap<u64, Vec<Due>>,
    asking: BTreeMap<u64, Asking>,
    held: Vec<u64>,
    /// The filter's long poll, with the revision it has.
    polling: Option<(u32, String)>,
    sent: Vec<Sent>,
    watched: Option<Watched>,
}

/// Plays a scenario that begins `moment_ms` after a full second.
pub(super) async fn play(
    scenario: &Scenario,
    moment_ms: u64,
    verbose: bool,
) -> Result<Vec<Sent>, BenchError> {
    let mut world = World::new(scenario, moment_ms, verbose)?;
    let mut script = Script::new(scenario);
    let (count, mut number) = (script.count(), 0);
    while world.at_ms < scenario.length_s() * 1000 + REST_MS {
        world.step().await?;
        while number < count && number * 1000 / u64::from(scenario.rate) <= world.at_ms {
            let drawn = script.next(world.at_s());
            world.send(number, drawn);
            number += 1;
        }
        world.at_ms += 1;
    }
    let mut sent = world.sent;
    sent.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Ok(sent)
}

impl<'s> World<'s> {
    fn new(scenario: &'s Scenario, moment_ms: u64, verbose: bool) -> Result<Self, BenchError> {
        let process = Rc::new(Process::default());
        process.now_ms.set(START_MS + moment_ms);
        let plugin = PluginConfig::parse(br#"{"cluster":"tidegate_sidecar","authority":"a","token":"t"}"#);
        Ok(Self {
            scenario,
            vm: Vm::new(plugin.map_err(BenchError::new)?),
            sync: Sync::new(&*process),
            process,
            sidecar: Sidecar::new(scenario)?,
            at_ms: 0,
            due: BTreeMap::new(),
            asking: BTreeMap::new(),
            held: Vec::new(),
            polling: None,
            sent: Vec::new(),
            watched: verbose.then(Watched::default),
        })
    }

    fn at_s(&self) -> f64 {
        self.at_ms as f64 / 1000.0
    }

    fn later(&mut self, ms: u64, due: Due) {
        self.due.entry(self.at_ms + ms).or_default().push(due);
    }

    /// What happens within this millisecond.
    async fn step(&mut self) -> Result<(), BenchError> {
        let now_ms = self.process.now_ms.get();
        self.process.now_ms.set(now_ms + 1);
        for due in self.due.remove(&self.at_ms).unwrap_or_default() {
            match due {
                Due::Asked(id) => self.ask(id),
                Due::Answered(id, status, body) => self.answer(id, status, &body),
                Due::Told(call, status, body) => {
                    self.sync.on_answer(&mut self.vm, &*self.process, call, Some(status), &body);
                }
                Due::Reported(call, body) => {
                    let report: Report =
                        serde_json::from_slice(&body).map_err(BenchError::doing("reading a report"))?;
                    self.sidecar.hear(report, now_ms).await?;
                    self.later(HOP_MS, Due::Told(call, 204, Vec::new()));
                }
            }
        }
        if now_ms.is_multiple_of(TICK_MS) {
            self.tick();
        }
        if self.at_ms.is_multiple_of(LOOK_MS) {
            self.sidecar.decide(now_ms)?;
            let at_s = self.at_s();
            if let Some(watched) = &mut self.watched {
                let pages = self.sidecar.records().map(|record| serde_json::json!(record)).collect();
                watched.look(at_s, pages);
            }
        }
        if let Some((_, have)) = &self.polling
            && let Some(document) = self.sidecar.document(have).map(<[u8]>::to_vec)
            && let Some((call, _)) = self.polling.take()
        {
            self.later(HOP_MS, Due::Told(call, 200, document));
        }
        self.calls();
        Ok(())
    }

    fn tick(&mut self) {
        self.sync.on_tick(&mut self.vm, &*self.process);
        self.vm.held = self.held.len();
        for id in std::mem::take(&mut self.held) {
            let Some(asking) = self.asking.get_mut(&id) else { continue };
            let flow = asking.stream.ask_again(&mut self.vm);
            self.go_on(id, flow);
        }
    }

    /// What the filter has asked the sidecar.
    fn calls(&mut self) {
        for (token, call) in self.process.take_calls() {
            if call.path == path::EVENTS {
                self.later(HOP_MS, Due::Reported(token, call.body));
            } else if let Some(question) = call.path.strip_prefix(path::SNAPSHOT) {
                let have = question.strip_prefix("?have=").and_then(|rest| rest.split('&').next());
                self.polling = Some((token, have.unwrap_or_default().to_owned()));
            }
        }
    }

    fn send(&mut self, number: u64, drawn: Drawn) {
        let (path, body) = request(&drawn.values, number, "");
        let value = |name: &str| drawn.values.get(name).map_or("", String::as_str);
        let tenant = if value("tenant").is_empty() { "acme" } else { value("tenant") };
        let key = format!("Bearer sk-key-of-{tenant}");
        let verdict = format!(
            r#"{{"verdict":"granted","identity":{{"tenant":"{tenant}","key":"{tenant}","role":"user"}},"ttl_ms":600000,"generation":1}}"#
        );
        let headers = [
            (":method", "POST"),
            (":path", path),
            ("x-request-id", "virtual"),
            ("authorization", key.as_str()),
            ("x-region", value("region")),
        ];
        let mut stream = Stream::new(&self.process, body);
        let flow = stream.begin(&mut self.vm, &headers, &verdict);
        self.asking.insert(number, Asking { stream, drawn, at_s: self.at_s() });
        self.go_on(number, flow);
    }

    fn go_on(&mut self, id: u64, flow: Flow) {
        match flow {
            Flow::Hold => {
                self.vm.held += 1;
                self.held.push(id);
            }
            Flow::Reply(reply) => {
                let is_refusal = reply.headers.iter().any(|(name, _)| *name == "x-gateway-policy")
                    || reply.details == Code::CircuitOpen.as_str();
                self.finish(id, is_refusal, !is_refusal);
            }
            Flow::Continue | Flow::Pause | Flow::Ask(_) => self.later(HOP_MS, Due::Asked(id)),
        }
    }

    /// A request arrives at the provider, which fails it while its fault lasts.
    fn ask(&mut self, id: u64) {
        let Some(asking) = self.asking.get(&id) else { return };
        let hit = asking.drawn.doom.map(|(plan, variant)| (&self.scenario.faults[plan], variant));
        let hit = hit.filter(|(fault, _)| fault.is_active(self.scenario, self.at_s()));
        let (ms, status, body) = match hit {
            Some((fault, variant)) => effect(&fault.effects[variant]),
            None => (ANSWER_MS, 200, b"{}".to_vec()),
        };
        self.later(ms, Due::Answered(id, status, body));
    }

    fn answer(&mut self, id: u64, status: u16, body: &[u8]) {
        let Some(asking) = self.asking.remove(&id) else { return };
        asking.stream.end(&mut self.vm, status, body);
        self.note(asking.drawn, asking.at_s, (false, status >= 400));
    }

    fn finish(&mut self, id: u64, refused: bool, failed: bool) {
        if let Some(Asking { drawn, at_s, .. }) = self.asking.remove(&id) {
            self.note(drawn, at_s, (refused, failed));
        }
    }

    fn note(&mut self, drawn: Drawn, at_s: f64, (refused, failed): (bool, bool)) {
        let Drawn { values, doom } = drawn;
        let (doomed, looks_failed) = (doom.is_some(), self.scenario.looks_failed(doom));
        self.sent.push(Sent { values, at_s, doomed, looks_failed, refused, failed, refused_by_envoy: None });
    }
}

/// What the caller gets, and after how many milliseconds: the provider's words, or the sidecar's.
fn effect(effect: &serde_json::Value) -> (u64, u16, Vec<u8>) {
    let own = |code: Code, words: &str| LocalReply::refusal(&Reply::new(code, words), Protocol::OpenAi, "");
    if effect["delay_ms"].as_u64().is_some_and(|ms| ms > TIMEOUT_MS) {
        let reply = own(Code::UpstreamTimeout, "Provider openai did not answer within 2000 ms.");
        return (TIMEOUT_MS, reply.status, reply.body);
    }
    if effect["reset"] == true {
        let words = "Provider openai closed the connection before its answer.";
        let reply = own(Code::UpstreamReset, words);
        return (ANSWER_MS, reply.status, reply.body);
    }
    let status = effect["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
    (ANSWER_MS, status, effect["body"].to_string().into_bytes())
}
