//! On requests signed by Alibaba Cloud's own SDK: `testdata/make.py` says how they were made.

use serde::Deserialize;
use tidegate_core::wire::Role;

use super::*;
use crate::secret::Secret;

const WINDOW_MS: u64 = 900_000;

#[derive(Deserialize)]
struct Fixture {
    access_key: Pair,
    requests: Vec<Sent>,
}

#[derive(Deserialize)]
struct Pair {
    id: String,
    secret: String,
}

#[derive(Deserialize, Clone)]
struct Sent {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Sent {
    fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(n, _)| n == name).expect(name).1
    }

    fn signed(&self) -> SignedRequest {
        let (method, target) = (self.method.clone(), self.target.clone());
        SignedRequest { method, target, headers: self.headers.clone() }
    }

    fn at_ms(&self) -> u64 {
        date::unix_ms(self.header(DATE)).expect("date")
    }
}

fn fixture() -> (Vec<Sent>, RamSettings) {
    let Fixture { access_key: Pair { id, secret }, requests } =
        serde_json::from_str(include_str!("testdata/signed.json")).expect("fixture");
    let key = AccessKey { id, secret: Secret::new(secret), tenant: "acme".into(), role: Role::Operator };
    (requests, RamSettings { access_keys: vec![key], clock_window_ms: WINDOW_MS })
}

async fn verify(signatures: &Signatures, sent: &Sent, now_ms: u64) -> Result<Identity, Refused> {
    signatures.verify(sent.header("authorization"), &sent.signed(), None, now_ms).await
}

#[tokio::test]
async fn what_the_sdk_signs_is_believed_once() {
    let (requests, settings) = fixture();
    let signatures = Signatures::new(settings.clone());
    assert!(requests.len() >= 4);
    for sent in &requests {
        assert_eq!(canonical::sha256_hex(sent.body.as_bytes()), sent.header(CONTENT_SHA256));
        let identity = verify(&signatures, sent, sent.at_ms()).await.expect("good");
        assert_eq!((identity.tenant.as_str(), identity.role), ("acme", Role::Operator));
        assert_eq!(identity.key.as_deref(), Some(settings.access_keys[0].id.as_str()));
        let again = verify(&signatures, sent, sent.at_ms() + WINDOW_MS).await;
        assert_eq!(again, Err(SignatureFault::Replayed.into()));
    }
    signatures.install(RamSettings { access_keys: Vec::new(), ..settings });
    let gone = verify(&signatures, &requests[0], requests[0].at_ms()).await;
    assert_eq!(gone, Err(SignatureFault::Invalid.into()));
}

#[tokio::test]
async fn a_date_counts_within_the_window_either_way() {
    let (requests, settings) = fixture();
    let (sent, signatures) = (&requests[0], Signatures::new(settings));
    for now_ms in [sent.at_ms() - WINDOW_MS - 1, sent.at_ms() + WINDOW_MS + 1] {
        assert_eq!(verify(&signatures, sent, now_ms).await, Err(SignatureFault::Expired.into()));
    }
    assert!(verify(&signatures, sent, sent.at_ms() - WINDOW_MS).await.is_ok());
}

#[tokio::test]
async fn whatever_is_changed_the_signature_no_longer_fits() {
    let (requests, settings) = fixture();
    let signatures = Signatures::new(settings.clone());
    let sent = &requests[1];
    let spoiled = |spoil: &dyn Fn(&mut Sent)| {
        let mut sent = sent.clone();
        spoil(&mut sent);
        sent
    };
    let mut cases = vec![
        spoiled(&|s| s.method = "POST".into()),
        spoiled(&|s| s.target.push_str("&more=1")),
        spoiled(&|s| s.target = s.target.replace("/status", "/Status")),
    ];
    for name in ["host", DATE, NONCE, CONTENT_SHA256, "x-acs-action", "accept"] {
        let named = |s: &Sent| s.headers.iter().position(|(n, _)| n == name).expect(name);
        cases.push(spoiled(&|s| {
            let at = named(s);
            s.headers[at].1.push('1');
        }));
        cases.push(spoiled(&|s| {
            let at = named(s);
            s.headers.remove(at);
        }));
        cases.push(spoiled(&|s| {
            let at = named(s);
            s.headers.push(s.headers[at].clone());
        }));
    }
    for (from, to) in [("Signature=", "Signature=0"), ("LTAI", "LTBI"), ("accept;", ""), ("host;", "")] {
        cases.push(spoiled(&|s| {
            let at = s.headers.iter().position(|(n, _)| n == "authorization").expect("authorization");
            s.headers[at].1 = s.headers[at].1.replacen(from, to, 1);
        }));
    }
    for case in &cases {
        let outcome = verify(&signatures, case, sent.at_ms()).await;
        assert_eq!(outcome, Err(SignatureFault::Invalid.into()), "{:?} {}", case.headers, case.target);
    }
    let other = AccessKey { secret: Secret::new("another-secret-0123"), ..settings.access_keys[0].clone() };
    let signatures = Signatures::new(RamSettings { access_keys: vec![other], clock_window_ms: WINDOW_MS });
    assert_eq!(verify(&signatures, sent, sent.at_ms()).await, Err(SignatureFault::Invalid.into()));
}

#[tokio::test]
async fn a_nonce_is_good_once_in_the_whole_fleet() {
    use prometheus_client::registry::Registry;
    use tidegate_e2e::harness::RedisServer;

    let mut server = RedisServer::start().await.unwrap();
    let (requests, settings) = fixture();
    let config = crate::config::parse(&format!("redis: {{url: '{}'}}", server.url()), &Default::default());
    let redis = Redis::start(config.unwrap().redis.unwrap(), &mut Registry::default());
    let mut states = redis.watch();
    states.wait_for(|state| state.is_usable()).await.unwrap();
    let (here, there) = (Signatures::new(settings.clone()), Signatures::new(settings));
    let at = |gateway, sent| verify_with(gateway, sent, &redis);
    assert!(at(&here, &requests[0]).await.is_ok());
    assert_eq!(at(&there, &requests[0]).await, Err(SignatureFault::Replayed.into()));
    server.kill().unwrap();
    assert!(at(&there, &requests[1]).await.is_ok(), "without Redis each gateway checks for itself");
    assert_eq!(at(&there, &requests[1]).await, Err(SignatureFault::Replayed.into()));
}

async fn verify_with(gateway: &Signatures, sent: &Sent, redis: &Redis) -> Result<Identity, Refused> {
    gateway.verify(sent.header("authorization"), &sent.signed(), Some(redis), sent.at_ms()).await
}
