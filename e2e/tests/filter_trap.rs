//! A filter that traps must let nothing pass, and must be back at once with everything it knew.

use std::time::Duration;

use tidegate_e2e::harness::{Answer, Client, Gateway, eventually, expect_error, fault_filter};

const DEADLINE: Duration = Duration::from_secs(20);
/// Requests that the whole test has; at this rate none comes back in time.
const BURST: usize = 40;
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
limiter:
  default_rate: 0.001
  burst: 40
auth:
  api_keys:
    - {name: user, key: user-key-0123456789, tenant: acme}
";
const TRAPS: usize = 6;

async fn models(gateway: &Gateway, client: &Client) -> Answer {
    client.get(&gateway.url("/v1/models")).await.unwrap()
}

fn user() -> Client {
    Client::new().with_key("user-key-0123456789")
}

#[tokio::test]
async fn a_trap_fails_closed_and_the_filter_comes_back_with_its_limits() {
    let filter = fault_filter().unwrap();
    let gateway = Gateway::builder().config_yaml(CONFIG).filter(filter).start().await.unwrap();
    let mut admitted = 0;
    for _ in 0..3 {
        assert_eq!(models(&gateway, &user()).await.status, 200);
        admitted += 1;
    }
    for n in 0..TRAPS {
        // Without a key: whatever a trap does, it must not open the door.
        let trap = Client::new().with_header("x-test-trap", "1");
        let trapped = models(&gateway, &trap).await;
        assert!(trapped.status.is_server_error(), "{} {}", trapped.status, trapped.text());
        assert!(!trapped.text().contains("gpt-4o"));

        let back = eventually(&format!("the filter is back after trap {n}"), DEADLINE, || async {
            let answer = models(&gateway, &user()).await;
            (!answer.status.is_server_error()).then_some(answer)
        })
        .await
        .unwrap();
        assert_eq!(back.status, 200, "{}", back.text());
        admitted += 1;
        let nobody = eventually("anonymous callers are asked for a key", DEADLINE, || async {
            let answer = models(&gateway, &Client::new()).await;
            (!answer.status.is_server_error()).then_some(answer)
        })
        .await
        .unwrap();
        expect_error(&nobody, 401, "missing_api_key");
    }
    // Buckets live in shared data, which a trap does not touch.
    let refused = loop {
        let answer = models(&gateway, &user()).await;
        match answer.status.as_u16() {
            200 => admitted += 1,
            429 => break answer,
            status => assert!(status >= 500, "{}", answer.text()),
        }
        assert!(admitted <= BURST, "more than the burst got in");
    };
    expect_error(&refused, 429, "rate_limit_exceeded");
    assert_eq!(admitted, BURST);
}
