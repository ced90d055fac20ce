//! Forged, expired, misdirected and replaced tokens, of the gateway and of others. The keys in
//! `testdata` exist for these tests alone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidegate_core::wire::Role;

use super::jws::VerifyingKey;
use super::*;
use crate::config::{self, Env};
use crate::keys::unix_ms;
use crate::store::Store;

const RSA: &str = include_str!("testdata/rsa.pem");
const ED25519: &str = include_str!("testdata/ed25519.pem");
const P256: &str = include_str!("testdata/p256.pem");
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Of the password `correct horse`.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$ezyyWf7nn6UC1No4WLeUtA$+ZmLlC/5cz7gyYZ/q8Z5SYPQJY4dKF1kY+aRCQbey38";

fn auth(yaml: &str) -> Auth {
    config::parse(yaml, &Env::new()).unwrap_or_else(|problems| panic!("{problems}")).auth
}

fn own(users: &str) -> Auth {
    auth(&format!("auth: {{jwt: {{secret: {SECRET}}}, users: [{users}]}}"))
}

fn alice(role: &str) -> String {
    format!("{{name: alice, tenant: acme, role: {role}, password_hash: '{HASH}'}}")
}

fn sessions() -> (tempfile::TempDir, Sessions) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(&folder.path().join("state.redb")).expect("opens");
    (folder, Sessions::start(Arc::new(store)).expect("starts"))
}

fn bad<T: std::fmt::Debug>(result: Result<T, Refused>) -> TokenError {
    match result.expect_err("refused") {
        Refused::Bad(error) => error,
        Refused::Unavailable => panic!("could not be checked"),
    }
}

#[tokio::test]
async fn an_own_token_says_who_and_what_the_configuration_says_now() {
    let (_folder, sessions) = sessions();
    let tokens = Tokens::new(&own(&alice("user"))).expect("usable");
    let user = tokens.user("alice").expect("there");
    let opened = sessions.begin("alice", &user.stamp(), 9_000_000, 0).expect("begins");
    let issued = tokens.issue(user, &opened.sid, 0).expect("signed");
    assert_eq!(issued.expires_in_s, 900);
    let verify = async |tokens: &Tokens, at_ms| tokens.verify(&issued.token, &sessions, at_ms).await;
    let (identity, left_ms) = verify(&tokens, 10_000).await.expect("good");
    assert_eq!(identity.to_header(), "acme;user.alice;user");
    assert_eq!(left_ms, 900_000 + 30_000 - 10_000);
    assert_eq!(bad(verify(&tokens, 930_000).await), TokenError::Expired);

    let promoted = Tokens::new(&own(&alice("operator"))).expect("usable");
    assert_eq!(verify(&promoted, 0).await.expect("good").0.role, Role::Operator);
    let gone = Tokens::new(&own("")).expect("usable");
    assert_eq!(bad(verify(&gone, 0).await), TokenError::Subject);
    let changed = alice("user").replace("$+ZmL", "$AZmL");
    let changed = Tokens::new(&own(&changed)).expect("usable");
    assert_eq!(bad(verify(&changed, 0).await), TokenError::Subject, "another password");
    assert!(sessions.refresh(&opened.refresh_token, "", 1).is_ok());
    assert!(sessions.refresh(&opened.refresh_token, "", 2).is_err());
    assert_eq!(bad(verify(&tokens, 10_000).await), TokenError::Subject, "its session was ended");
}

#[tokio::test]
async fn forged_own_tokens_are_refused() {
    let (_folder, sessions) = sessions();
    let tokens = Tokens::new(&own(&alice("user"))).expect("usable");
    let user = tokens.user("alice").expect("there");
    let opened = sessions.begin("alice", &user.stamp(), 9_000_000, 0).expect("begins");
    let good = tokens.issue(user, &opened.sid, 0).expect("signed").token;
    let (signed, signature) = good.rsplit_once('.').expect("parts");
    let (header, payload) = signed.split_once('.').expect("parts");
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let raw = |header: &str, signature: &str| format!("{}.{payload}.{signature}", encode(header));
    let other = encode(
        &String::from_utf8(URL_SAFE_NO_PAD.decode(payload).expect("base64"))
            .expect("text")
            .replace("alice", "admin"),
    );
    for (token, why) in [
        (raw(r#"{"alg":"none"}"#, ""), TokenError::Algorithm),
        (raw(r#"{"alg":"None"}"#, signature), TokenError::Algorithm),
        (raw(r#"{"alg":"hs256"}"#, signature), TokenError::Algorithm),
        (raw(r#"{"alg":"HS512"}"#, signature), TokenError::Algorithm),
        (raw(r#"{"alg":"RS256"}"#, signature), TokenError::Algorithm),
        (raw(r#"{"alg":"HS256"}"#, signature), TokenError::Signature),
        (raw(r#"{"alg":"HS256","crit":["exp"]}"#, signature), TokenError::Critical),
        (raw(r#"{"alg":"HS256","alg":"none"}"#, signature), TokenError::Malformed),
        (raw(r#"{"alg":7}"#, signature), TokenError::Malformed),
        (raw("{}", signature), TokenError::Malformed),
        (raw("x", signature), TokenError::Malformed),
        (format!("{header}.{other}.{signature}"), TokenError::Signature),
        (format!("{header}.{payload}."), TokenError::Signature),
        (format!("{header}.{payload}.{signature}="), TokenError::Malformed),
        (format!("{header}.{payload}"), TokenError::Malformed),
        (format!("{good}.x"), TokenError::Malformed),
        (format!("{header}..{signature}"), TokenError::Claims),
        (format!("{header}.{}.{signature}", "A".repeat(TOKEN_BYTES_MAX)), TokenError::Malformed),
    ] {
        assert_eq!(bad(tokens.verify(&token, &sessions, 0).await), why, "{token}");
    }
    let stranger = SigningKey::of_secret(b"another secret of another gateway");
    let token = stranger.sign(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("signed");
    assert_eq!(bad(tokens.verify(&token, &sessions, 0).await), TokenError::Signature);
}

fn claims(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut claims = json!({"iss": "https://idp", "sub": "u@x", "aud": ["tidegate"], "exp": 1000,
        "tenant": "acme", "groups": ["operator"]});
    change(&mut claims);
    claims.to_string().into_bytes()
}

/// A token of `payload` that names its key, as the gateway's own do not need to.
fn with_key_id(key: &SigningKey, payload: &[u8], id: &str) -> String {
    let algorithm = if matches!(key, SigningKey::Hs256(_)) { "HS256" } else { "EdDSA" };
    let header = json!({"alg": algorithm, "kid": id}).to_string();
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = match key {
        SigningKey::EdDsa(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        SigningKey::Hs256(key) => ring::hmac::sign(key, message.as_bytes()).as_ref().to_vec(),
        SigningKey::Rs256(_) | SigningKey::Es256(_) => panic!("not needed"),
    };
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn jwk(key: &SigningKey, id: Option<&str>) -> Value {
    let mut jwk = match key.verifying() {
        VerifyingKey::Rs256(key) => {
            let (n, e) = (URL_SAFE_NO_PAD.encode(key.n), URL_SAFE_NO_PAD.encode(key.e));
            json!({"kty": "RSA", "alg": "RS256", "use": "sig", "n": n, "e": e})
        }
        VerifyingKey::Es256(point) => {
            let (x, y) = point[1..].split_at(32);
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y})
        }
        VerifyingKey::EdDsa(x) => json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(x)}),
        VerifyingKey::Hs256(_) => panic!("never published"),
    };
    if let Some(id) = id {
        jwk["kid"] = id.into();
    }
    jwk
}

fn issuer(keys: &str) -> Tokens {
    let yaml = format!(
        "auth: {{jwt: {{issuers: [{{issuer: 'https://idp', audience: tidegate, {keys}, role_claim: groups}}]}}}}"
    );
    Tokens::new(&auth(&yaml)).expect("usable")
}

#[tokio::test]
async fn another_issuers_tokens_are_believed_by_its_published_key() {
    let (folder, sessions) = sessions();
    let file = folder.path().join("jwks.json");
    let key = SigningKey::of_pem(Algorithm::Rs256, RSA.as_bytes()).expect("RSA");
    std::fs::write(&file, json!({"keys": [jwk(&key, None)]}).to_string()).expect("writes");
    let tokens = issuer(&format!("jwks_path: '{}'", file.display()));
    let verify = async |payload: Vec<u8>, at_ms| {
        let token = key.sign(&payload).expect("signed");
        tokens.verify(&token, &sessions, at_ms).await
    };
    let (identity, left_ms) = verify(claims(|_| ()), 0).await.expect("good");
    assert_eq!((identity.tenant.as_str(), identity.role, left_ms), ("acme", Role::Operator, 1_030_000));
    assert!(identity.key.is_some_and(|key| key.starts_with("jwt_") && !key.contains("u@x")));
    let refused = async |change: fn(&mut Value)| bad(verify(claims(change), 0).await);
    assert_eq!(refused(|c| c["aud"] = "other".into()).await, TokenError::Audience);
    assert_eq!(refused(|c| c["iss"] = "https://other".into()).await, TokenError::Issuer);
    assert_eq!(refused(|c| c["iss"] = Value::Null).await, TokenError::Claims);
    assert_eq!(refused(|c| c["nbf"] = 31.into()).await, TokenError::NotYetValid);
    assert_eq!(refused(|c| c["nbf"] = "never".into()).await, TokenError::Claims);
    assert_eq!(refused(|c| c["tenant"] = "a;b".into()).await, TokenError::Subject);
    assert_eq!(refused(|c| c["tenant"] = 7.into()).await, TokenError::Subject);
    assert_eq!(bad(verify(claims(|_| ()), 1_030_000).await), TokenError::Expired);
    let user = verify(claims(|c| c["groups"] = json!(["staff"])), 0).await.expect("good").0;
    assert_eq!(user.role, Role::User);
}

#[tokio::test]
async fn a_published_rsa_key_is_no_hmac_secret_and_an_hmac_secret_no_rsa_key() {
    let (folder, sessions) = sessions();
    let file = folder.path().join("jwks.json");
    let key = SigningKey::of_pem(Algorithm::Rs256, RSA.as_bytes()).expect("RSA");
    std::fs::write(&file, json!({"keys": [jwk(&key, None)]}).to_string()).expect("writes");
    let tokens = issuer(&format!("jwks_path: '{}'", file.display()));
    let VerifyingKey::Rs256(public) = key.verifying() else { panic!("RSA") };
    for secret in [RSA.as_bytes(), &public.n] {
        let token = SigningKey::of_secret(secret).sign(&claims(|_| ())).expect("signed");
        assert_eq!(bad(tokens.verify(&token, &sessions, 0).await), TokenError::Algorithm);
    }
    let ours = Tokens::new(&own(&alice("user"))).expect("usable");
    let payload = json!({"iss": "tidegate", "aud": "tidegate", "sub": "alice", "exp": 1}).to_string();
    let token = key.sign(payload.as_bytes()).expect("signed");
    assert_eq!(bad(ours.verify(&token, &sessions, 0).await), TokenError::Algorithm);
}

/// Serves what `set` holds, and counts.
async fn serve(set: Arc<std::sync::Mutex<Option<String>>>, fetched: Arc<AtomicUsize>) -> SocketAddr {
    let answer = async move || {
        fetched.fetch_add(1, Ordering::SeqCst);
        let body = set.lock().expect("lock").clone();
        body.ok_or(http::StatusCode::INTERNAL_SERVER_ERROR)
    };
    let router = axum::Router::new().route("/jwks", axum::routing::get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("address");
    let serving = crate::server::Listener::Tcp(listener);
    let (_never, draining) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let service = move |request| tower_service::Service::call(&mut router.clone(), request);
        // Kept alive here, so that it serves until the test ends.
        let _never = _never;
        crate::server::serve(serving, service, draining, std::time::Duration::ZERO).await
    });
    address
}

#[tokio::test]
async fn a_new_key_is_fetched_once_and_an_issuer_that_is_down_locks_nobody_out() {
    let (_folder, sessions) = sessions();
    let old = SigningKey::of_pem(Algorithm::EdDsa, ED25519.as_bytes()).expect("Ed25519");
    let set = Arc::new(std::sync::Mutex::new(None));
    let fetched = Arc::new(AtomicUsize::new(0));
    let address = serve(set.clone(), fetched.clone()).await;
    let tokens = issuer(&format!("jwks_url: 'http://{address}/jwks'"));
    let token = with_key_id(&old, &claims(|_| ()), "1");
    let verify = async |token: &str| tokens.verify(token, &sessions, 0).await;
    assert_eq!(verify(&token).await.expect_err("down"), Refused::Unavailable);
    *set.lock().expect("lock") = Some(json!({"keys": [jwk(&old, Some("1"))]}).to_string());
    assert_eq!(verify(&token).await.expect_err("not asked again yet"), Refused::Unavailable);
    assert_eq!(fetched.load(Ordering::SeqCst), 1);

    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    assert!(verify(&token).await.is_ok());
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    for id in 0..100 {
        let unknown = with_key_id(&old, &claims(|_| ()), &format!("unknown-{id}"));
        assert_eq!(bad(verify(&unknown).await), TokenError::UnknownKey);
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 2, "a flood of key ids asks for nothing");

    *set.lock().expect("lock") = Some(json!({"keys": [jwk(&old, Some("2"))]}).to_string());
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    assert!(verify(&with_key_id(&old, &claims(|_| ()), "2")).await.is_ok(), "rotated");
    assert_eq!(bad(verify(&token).await), TokenError::UnknownKey, "the old key is gone");

    *set.lock().expect("lock") = None;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    tokio::time::resume();
    assert!(verify(&with_key_id(&old, &claims(|_| ()), "2")).await.is_ok(), "down, with keys at hand");
    let hmac = SigningKey::of_secret(ED25519.as_bytes());
    assert_eq!(bad(verify(&with_key_id(&hmac, &claims(|_| ()), "2")).await), TokenError::Algorithm);
}

#[tokio::test]
async fn every_algorithm_signs_what_it_verifies() {
    let (folder, sessions) = sessions();
    for (name, algorithm, pem) in [("rsa", "RS256", RSA), ("ec", "ES256", P256), ("ed", "EdDSA", ED25519)] {
        let file = folder.path().join(name);
        std::fs::write(&file, pem).expect("writes");
        let yaml = format!(
            "auth: {{jwt: {{private_key_path: '{}', algorithm: {algorithm}}}, users: [{}]}}",
            file.display(),
            alice("user")
        );
        let tokens = Tokens::new(&auth(&yaml)).expect("usable");
        let user = tokens.user("alice").expect("there");
        let opened = sessions.begin("alice", &user.stamp(), 9_000_000, 0).expect("begins");
        let token = tokens.issue(user, &opened.sid, unix_ms()).expect("signed").token;
        assert!(tokens.verify(&token, &sessions, unix_ms()).await.is_err(), "the session is over");
        let token = tokens.issue(user, &opened.sid, 0).expect("signed").token;
        assert!(tokens.verify(&token, &sessions, 0).await.is_ok(), "{algorithm}");
    }
}

#[tokio::test]
async fn an_issuer_may_sign_on_p_256_and_nothing_else_with_that_key() {
    let (folder, sessions) = sessions();
    let file = folder.path().join("jwks.json");
    let key = SigningKey::of_pem(Algorithm::Es256, P256.as_bytes()).expect("P-256");
    std::fs::write(&file, json!({"keys": [jwk(&key, None)]}).to_string()).expect("writes");
    let tokens = issuer(&format!("jwks_path: '{}'", file.display()));
    let token = key.sign(&claims(|_| ())).expect("signed");
    let (identity, _) = tokens.verify(&token, &sessions, 0).await.expect("good");
    assert_eq!(identity.tenant, "acme");
    let (signed, _) = token.rsplit_once('.').expect("a token");
    for (signature, why) in [("", TokenError::Signature), (&"A".repeat(86), TokenError::Signature)] {
        let forged = format!("{signed}.{signature}");
        assert_eq!(bad(tokens.verify(&forged, &sessions, 0).await), why, "{forged}");
    }
    let VerifyingKey::Es256(public) = key.verifying() else { panic!("an EC key") };
    let confused = SigningKey::of_secret(&public).sign(&claims(|_| ())).expect("signed");
    assert_eq!(bad(tokens.verify(&confused, &sessions, 0).await), TokenError::Algorithm);
}
