//! A model that keeps failing is left alone, its neighbours are not, and it comes back by steps.

use std::time::Duration;

use tidegate_e2e::emulator::{Fault, FaultMatch};
use tidegate_e2e::harness::{Answer, Client, Gateway, chat, chat_with, eventually, expect_error};

const DEADLINE: Duration = Duration::from_secs(20);
const THRESHOLD: usize = 10;
/// Requests sent at most until the breaker does what it should.
const REQUESTS_MAX: usize = 2_000;
const BREAKER: &str = "\
breaker:
  failure_threshold: 10
  window: 60s
  recovery_timeout: 1s
  recovery_increment: 0.2
routing:
  enabled: false
policy:
  mode: shadow
";

struct Setup {
    gateway: Gateway,
    client: Client,
    asked: usize,
}

impl Setup {
    /// A question that was never asked before, so that no cache answers it.
    async fn ask_anew(&mut self, model: &str) -> Answer {
        self.asked += 1;
        let body = chat_with(model, &format!("question {}", self.asked));
        self.gateway.ask(&self.client, body).await.unwrap()
    }

    fn arm(&self, model: &str, status: u16) {
        let matches = FaultMatch { model: Some(model.to_owned()), ..FaultMatch::default() };
        self.gateway.emulator.arm(Fault { status: Some(status), matches, ..Fault::default() }).unwrap();
    }

    async fn metrics_say(&self, line: &str) {
        let admin = self.gateway.admin();
        eventually(&format!("/metrics has {line}"), DEADLINE, || async {
            let page = admin.get(&self.gateway.url("/metrics")).await.ok()?;
            page.text().lines().any(|l| l == line).then_some(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_failing_model_is_left_alone_and_comes_back_by_steps() {
    let gateway = Gateway::builder().add_config(BREAKER).workers(4).start().await.unwrap();
    let mut setup = Setup { gateway, client: Client::new(), asked: 0 };
    let known = setup.gateway.ask(&setup.client, chat("known")).await.unwrap();
    assert_eq!(known.status, 200);

    refusals_of_the_caller_open_nothing(&mut setup).await;
    failures_open_it(&mut setup).await;
    others_go_on_meanwhile(&mut setup, &known).await;
    it_recovers_by_steps(&mut setup).await;
}

async fn refusals_of_the_caller_open_nothing(setup: &mut Setup) {
    for status in [400, 429] {
        setup.arm("gpt-4o", status);
        for _ in 0..2 * THRESHOLD {
            assert_eq!(setup.ask_anew("gpt-4o").await.status, status);
        }
        setup.gateway.emulator.disarm_all();
    }
    assert_eq!(setup.ask_anew("gpt-4o").await.status, 200);
}

async fn failures_open_it(setup: &mut Setup) {
    setup.arm("gpt-4o", 500);
    let mut failed = 0;
    let refused = loop {
        let answer = setup.ask_anew("gpt-4o").await;
        if answer.status != 500 {
            break answer;
        }
        failed += 1;
        assert!(failed <= REQUESTS_MAX, "it never opens");
    };
    // The successes before count too: half of what was seen must have failed.
    assert!(failed >= THRESHOLD, "{failed}");
    expect_error(&refused, 503, "circuit_open");
    let ms: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((1..=1000).contains(&ms), "{ms}");
    let asked = setup.gateway.emulator.stats().requests_total;
    // Over other connections, and so in other workers, it is as open.
    for _ in 0..8 {
        setup.client = Client::new();
        let answer = setup.ask_anew("gpt-4o").await;
        if answer.status == 503 {
            expect_error(&answer, 503, "circuit_open");
        }
    }
    let probed = setup.gateway.emulator.stats().requests_total - asked;
    assert!(probed <= 2, "{probed} of 8 requests reached a provider that is left alone");
    setup.metrics_say("gateway_circuit_breaker_state{route=\"chat_completions\"} 2").await;
}

async fn others_go_on_meanwhile(setup: &mut Setup, known: &Answer) {
    let answer = setup.ask_anew("gpt-4o-mini").await;
    assert_eq!(answer.status, 200, "another model: {}", answer.text());
    let answer = setup.gateway.ask(&setup.client, chat("known")).await.unwrap();
    assert_eq!(answer.header("x-gateway-cache"), Some("hit"), "{}", answer.text());
    assert_eq!(answer.body, known.body);
}

async fn it_recovers_by_steps(setup: &mut Setup) {
    setup.gateway.emulator.disarm_all();
    let (mut admitted, mut refused_between, mut in_a_row) = (0, 0, 0);
    for _ in 0..REQUESTS_MAX {
        let answer = setup.ask_anew("gpt-4o").await;
        if answer.status == 200 {
            admitted += 1;
            in_a_row += 1;
        } else {
            expect_error(&answer, 503, "circuit_open");
            refused_between += usize::from(admitted > 0);
            in_a_row = 0;
            wait_as_told_at_first(&answer, admitted).await;
        }
        if in_a_row == 2 * THRESHOLD {
            break;
        }
    }
    assert_eq!(in_a_row, 2 * THRESHOLD, "it never closes");
    assert!(refused_between >= 4, "it opened its doors at once: {refused_between} refused");
    setup.metrics_say("gateway_circuit_breaker_state{route=\"chat_completions\"} 0").await;
    setup.metrics_say("gateway_circuit_breaker_transitions_total{to=\"closed\"} 1").await;
}

/// Before the first probe an open breaker is not hammered; afterwards the traffic decides.
async fn wait_as_told_at_first(answer: &Answer, admitted: usize) {
    if admitted > 0 {
        return;
    }
    let ms: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
    let due = std::time::Instant::now() + Duration::from_millis(ms);
    eventually("the advised wait is over", DEADLINE, || async {
        (std::time::Instant::now() >= due).then_some(())
    })
    .await
    .unwrap();
}
