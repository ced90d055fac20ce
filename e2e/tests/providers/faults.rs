//! Every way in which an emulated provider can fail, as each kind of caller sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tidegate_e2e::emulator::{Fault, FaultMatch, Outcome, Refusal, RequestRecord};
use tidegate_e2e::harness::{Answer, EMULATED, EmulatedProvider, eventually};

use super::front::{Ask, FRONTS, Front};
use super::setup::Setup;

/// How long a provider of these tests may be silent.
const TIMEOUT: &str = ", timeout: 1500ms";
/// Longer than any test waits.
const FOR_EVER_MS: u64 = 600_000;
const DEADLINE: Duration = Duration::from_secs(20);

struct Case<'a> {
    setup: &'a Setup,
    provider: &'a EmulatedProvider,
    front: Front,
}

/// All of them, one after the other.
fn cases(setup: &Setup) -> impl Iterator<Item = Case<'_>> {
    EMULATED.iter().flat_map(move |provider| FRONTS.map(|front| Case { setup, provider, front }))
}

impl Case<'_> {
    fn name(&self, what: &str) -> String {
        format!("{what}: {:?} on {}", self.front, self.provider.name)
    }

    /// Asks with this fault in the way, which hits nothing but the question.
    async fn under(&self, fault: Fault, stream: bool) -> Answer {
        let prompt = "a rather long question, so that its answer has several pieces";
        let contains = Some(prompt.to_owned());
        self.setup.arm_once(Fault { matches: FaultMatch { contains, ..FaultMatch::default() }, ..fault });
        let answer = self.setup.ask(self.front, self.provider, &Ask { stream, ..Ask::say(prompt) }).await;
        assert!(self.setup.gateway.emulator.armed().is_empty(), "{}", self.name("the fault hit nothing"));
        answer
    }

    /// A refusal is told, with this status.
    async fn is_told(&self, what: &str, fault: Fault, statuses: &[u16]) -> Answer {
        let mut last = None;
        for stream in [false, true] {
            let answer = self.under(fault.clone(), stream).await;
            let name = self.name(what);
            assert!(
                statuses.contains(&answer.status.as_u16()),
                "{name}: {} {}",
                answer.status,
                answer.text()
            );
            self.front.expect_error(&answer, &name);
            assert!(!answer.text().contains('<'), "{name}: {}", answer.text());
            last = Some(answer);
        }
        last.expect("asked twice")
    }
}

#[tokio::test]
async fn refusals_keep_their_meaning_on_every_front() {
    let setup = Setup::new("").await;
    for case in cases(&setup) {
        let refused = |refusal| Fault { refusal: Some(refusal), ..Fault::default() };
        let limited = case.is_told("rate limit", refused(Refusal::RateLimit), &[429]).await;
        let says_when =
            matches!(case.provider.name, "openai" | "anthropic" | "azure" | "gemini" | "vertex" | "ernie");
        let wait = limited.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
        assert_eq!(wait, Some(if says_when { 7 } else { 1 }), "{}", case.name("rate limit"));
        case.is_told("quota", refused(Refusal::Quota), &[400, 429]).await;
        case.is_told("overloaded", refused(Refusal::Overloaded), &[503, 529]).await;
        case.is_told("too long", refused(Refusal::ContextLength), &[400]).await;
    }
    // What they mean for routing does not depend on who said it how.
    let metrics = setup.gateway.admin().get(&setup.gateway.url("/metrics")).await.unwrap().text();
    for provider in &EMULATED {
        for kind in ["rate_limit", "quota", "server", "context_length"] {
            let wanted =
                format!("gateway_provider_faults_total{{provider=\"{}\",kind=\"{kind}\"}} 6", provider.name);
            let of_it = |line: &&str| {
                line.starts_with("gateway_provider_faults_total") && line.contains(provider.name)
            };
            let found: Vec<_> = metrics.lines().filter(of_it).collect();
            assert!(found.contains(&wanted.as_str()), "{wanted} is not in {found:#?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_on_every_front() {
    let setup = Setup::new(TIMEOUT).await;
    for case in cases(&setup) {
        let html = || Some(json!("<html><h1>502 Bad Gateway</h1></html>"));
        let status = |status| Fault { status: Some(status), ..Fault::default() };
        case.is_told("500", status(500), &[500, 503]).await;
        case.is_told("HTML", Fault { body: html(), ..status(502) }, &[502]).await;
        case.is_told("HTML as a 200", Fault { body: html(), ..Fault::default() }, &[502]).await;
        case.is_told("reset", Fault { reset: true, ..Fault::default() }, &[502]).await;
        let cut = case.under(Fault { truncate_after_chunks: Some(1), ..Fault::default() }, false).await;
        assert_eq!(cut.status, 502, "{}: {}", case.name("cut"), cut.text());
        case.front.expect_error(&cut, &case.name("cut"));
    }
    // Silence costs its time each, so one front has to do for a provider.
    for (provider, front) in EMULATED.iter().zip(FRONTS.into_iter().cycle()) {
        let case = Case { setup: &setup, provider, front };
        let silent = case.under(Fault { delay_ms: Some(FOR_EVER_MS), ..Fault::default() }, false).await;
        assert_eq!(silent.status, 504, "{}: {}", case.name("silent"), silent.text());
        case.front.expect_error(&silent, &case.name("silent"));
        let stalled = case.under(Fault { stall_after_chunks: Some(3), ..Fault::default() }, true).await;
        case.front.last_error(&stalled, &case.name("stalled"));
    }
}

/// A provider whose answer is in another's protocol is no provider of this type.
#[tokio::test]
async fn an_answer_in_anothers_protocol_is_an_error_on_every_front() {
    let setup = Setup::new("").await;
    let openais =
        json!({"id": "x", "object": "chat.completion", "choices": [{"message": {"content": "hi"}}]});
    let anthropics =
        json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}]});
    for case in cases(&setup) {
        let speaks_openai = matches!(case.provider.name, "openai" | "azure" | "ernie");
        let body = if speaks_openai { &anthropics } else { &openais };
        let passes = (case.front == Front::Chat && speaks_openai)
            || (case.front == Front::Messages && case.provider.name == "anthropic");
        if !passes {
            let fault = Fault { body: Some(body.clone()), ..Fault::default() };
            let answer = case.under(fault, false).await;
            assert_eq!(answer.status, 502, "{}: {}", case.name("foreign"), answer.text());
            case.front.expect_error(&answer, &case.name("foreign"));
        }
    }
}

#[tokio::test]
async fn streams_that_fail_say_so_on_every_front() {
    let setup = Setup::new("").await;
    for case in cases(&setup) {
        // Past the first token: whatever comes now cannot be taken back.
        let fault = Fault { error_in_stream_after_chunks: Some(6), ..Fault::default() };
        let failed = case.under(fault, true).await;
        assert_eq!(failed.status, 200, "{}: {}", case.name("error event"), failed.text());
        case.front.last_error(&failed, &case.name("error event"));
        for reset in [false, true] {
            let fault = Fault { truncate_after_chunks: Some(6), reset, ..Fault::default() };
            let cut = case.under(fault, true).await;
            assert_eq!(cut.status, 200, "{}: {}", case.name("cut"), cut.text());
            case.front.last_error(&cut, &case.name("cut"));
        }
    }
}

#[tokio::test]
async fn streams_that_are_late_or_in_disorder_stay_streams_on_every_front() {
    let setup = Setup::new("").await;
    let mut ends = BTreeMap::new();
    for case in cases(&setup) {
        let slow = case.under(Fault { first_chunk_delay_ms: Some(50), ..Fault::default() }, true).await;
        let heard = case.front.heard(&slow, true);
        assert!(heard.text.starts_with("You said: a rather"), "{}: {heard:?}", case.name("slow"));

        for fault in [
            Fault { duplicate_chunk: Some(5), ..Fault::default() },
            Fault { swap_chunk: Some(5), ..Fault::default() },
        ] {
            // Nothing numbers the pieces of a text, so they pass as they come; the protocol in
            // front must hold all the same.
            let answer = case.under(fault, true).await;
            let heard = case.front.heard(&answer, true);
            *ends.entry(heard.finish).or_insert(0) += 1;
        }
    }
    assert_eq!(
        ends.into_iter().collect::<Vec<_>>(),
        [("stop".to_owned(), EMULATED.len() * FRONTS.len() * 2)]
    );
}

#[tokio::test]
async fn a_caller_that_leaves_takes_the_call_with_it_on_every_front() {
    let setup = Setup::new("").await;
    for case in cases(&setup) {
        let prompt = format!("leaving soon, {}", case.name(""));
        let contains = Some(prompt.clone());
        let matches = FaultMatch { contains, ..FaultMatch::default() };
        setup.arm_once(Fault { stall_after_chunks: Some(6), matches, ..Fault::default() });
        let mut answer = setup.open(case.front, case.provider, &Ask::say(&prompt).streamed()).await;
        answer.next_chunk().await.unwrap().unwrap();
        drop(answer);
        eventually(&case.name("the provider's call ends"), DEADLINE, || async {
            let of_it = |record: &RequestRecord| record.body.contains(&prompt);
            let record = setup.gateway.emulator.requests().into_iter().find(of_it);
            record.filter(|record| record.outcome == Outcome::ClientLeft)
        })
        .await
        .unwrap();
    }
}
