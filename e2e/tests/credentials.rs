//! Who gets in: no credential, a wrong one, several, a forged identity, too small a role.

use http::Method;
use tidegate_e2e::harness::{Answer, Client, Gateway, RawConnection, chat, expect_error};

const USER_KEY: &str = "user-key-0123456789";
const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
auth:
  api_keys:
    - name: user
      key: user-key-0123456789
      tenant: acme
";
/// Everything that operators alone may use.
const ADMIN_PATHS: [&str; 12] = [
    "/admin/keys",
    "/admin/limits",
    "/admin/anything",
    "/admin",
    "/v1/providers",
    "/v1/providers/openai",
    "/v1/routing/config",
    "/v1/admin/status",
    "/v1/cache",
    "/api/v1/monitoring/health",
    "/metrics",
    "/metrics?x=1",
];

async fn models(gateway: &Gateway, client: &Client) -> Answer {
    client.get(&gateway.url("/v1/models")).await.unwrap()
}

#[tokio::test]
async fn only_a_good_credential_opens_a_closed_gateway() {
    let gateway = Gateway::builder().config_yaml(CONFIG).start().await.unwrap();
    missing_and_wrong_keys_are_refused(&gateway).await;
    several_credentials_are_one_too_many(&gateway).await;
    each_credential_header_works(&gateway).await;
    forged_headers_gain_nothing(&gateway).await;
    a_user_is_no_operator(&gateway).await;
    the_sidecars_own_port_asks_too(&gateway).await;
}

async fn missing_and_wrong_keys_are_refused(gateway: &Gateway) {
    let answer = models(gateway, &Client::new()).await;
    expect_error(&answer, 401, "missing_api_key");
    let answer = gateway.ask(&Client::new(), chat("x")).await.unwrap();
    expect_error(&answer, 401, "missing_api_key");
    let wrong = "wrong-key-9876543210";
    // The second time, the verdict is remembered.
    for _ in 0..3 {
        let answer = models(gateway, &Client::new().with_key(wrong)).await;
        expect_error(&answer, 401, "invalid_api_key");
        assert!(!answer.text().contains(wrong));
    }
    for value in ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", USER_KEY] {
        let client = Client::new().with_header("authorization", value);
        expect_error(&models(gateway, &client).await, 401, "invalid_api_key");
    }
    let anthropic = Client::new().post_json(&gateway.url("/v1/messages"), "{}").await.unwrap();
    assert_eq!(anthropic.status, 401);
    assert_eq!(anthropic.json()["error"]["type"], "authentication_error");
}

async fn several_credentials_are_one_too_many(gateway: &Gateway) {
    let both = Client::new().with_key(USER_KEY).with_header("x-api-key", USER_KEY);
    expect_error(&models(gateway, &both).await, 400, "duplicate_credential");
    let twice = Client::new().with_key(USER_KEY).with_key("another-key-0123456789");
    let answer = models(gateway, &twice).await;
    assert!(matches!(answer.status.as_u16(), 400 | 401), "{}", answer.text());
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\nx-api-key: {USER_KEY}\r\nX-Api-Key: {USER_KEY}\r\n\r\n"
    );
    let mut raw = RawConnection::open(gateway.address()).await.unwrap();
    let text = String::from_utf8(raw.exchange(request.as_bytes()).await.unwrap()).unwrap();
    assert!(text.starts_with("HTTP/1.1 40"), "{text}");
    assert!(!text.contains("\"data\""), "{text}");
}

async fn each_credential_header_works(gateway: &Gateway) {
    let bearer = format!("Bearer {USER_KEY}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-api-key", USER_KEY),
        ("api-key", USER_KEY),
        ("x-goog-api-key", USER_KEY),
    ];
    for (name, value) in headers {
        let answer = models(gateway, &Client::new().with_header(name, value)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
}

async fn forged_headers_gain_nothing(gateway: &Gateway) {
    let forged = [
        ("x-tidegate-identity", "acme;root;admin"),
        ("x-tidegate-proxied", "guess"),
        ("x-tidegate-internal", "guess"),
        ("x-tidegate-answered", "1"),
        ("X-Tidegate-Identity", "acme;root;admin"),
        ("x-tidegate-future", "1"),
    ];
    let with_all =
        |client: Client| forged.iter().fold(client, |client, (name, value)| client.with_header(name, value));
    let nobody = with_all(Client::new());
    expect_error(&models(gateway, &nobody).await, 401, "missing_api_key");
    let user = with_all(Client::new().with_key(USER_KEY));
    for path in ["/admin/keys", "/metrics"] {
        let answer = user.get(&gateway.url(path)).await.unwrap();
        expect_error(&answer, 403, "permission_denied");
    }
    let answer = gateway.ask(&user, chat("forged")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-tidegate")));
    let seen = gateway.emulator.requests().pop().unwrap();
    for (name, value) in &seen.headers {
        assert!(!name.starts_with("x-tidegate"), "{name}: {value}");
    }
    assert_eq!(seen.header("authorization"), Some("***6789"), "the provider's key, not the caller's");
    for name in ["x-api-key", "api-key", "x-goog-api-key", "cookie"] {
        assert_eq!(seen.header(name), None);
    }
    let underscored = Client::new().with_header("x_tidegate_identity", "acme;root;admin");
    assert!(models(gateway, &underscored).await.status.is_client_error());
}

async fn a_user_is_no_operator(gateway: &Gateway) {
    let (nobody, user) = (Client::new(), Client::new().with_key(USER_KEY));
    for path in ADMIN_PATHS {
        let answer = nobody.get(&gateway.url(path)).await.unwrap();
        expect_error(&answer, 401, "missing_api_key");
        let answer = user.get(&gateway.url(path)).await.unwrap();
        expect_error(&answer, 403, "permission_denied");
    }
    let status = gateway.admin().get(&gateway.url("/v1/admin/status")).await.unwrap();
    assert_eq!(status.status, 200, "{}", status.text());
}

async fn the_sidecars_own_port_asks_too(gateway: &Gateway) {
    let forged = Client::new()
        .with_header("x-tidegate-identity", "acme;root;admin")
        .with_header("x-tidegate-proxied", "guess");
    for client in [Client::new(), forged] {
        for path in ["/v1/models", "/admin/keys"] {
            let answer = client.get(&gateway.sidecar_url(path)).await.unwrap();
            assert_eq!(answer.status, 401, "{}", answer.text());
        }
    }
    let user = Client::new().with_key(USER_KEY);
    let direct = user.get(&gateway.sidecar_url("/v1/models")).await.unwrap();
    assert_eq!(direct.status, 200, "{}", direct.text());
}

#[tokio::test]
async fn anonymous_callers_use_the_llm_api_and_nothing_else() {
    let gateway = Gateway::builder().start().await.unwrap();
    let nobody = Client::new();
    assert_eq!(models(&gateway, &nobody).await.status, 200);
    for path in ADMIN_PATHS {
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
            let answer = nobody.send(&method, &gateway.url(path), &[], "{}").await.unwrap();
            expect_error(&answer, 401, "missing_api_key");
        }
    }
    for path in
        ["/health", "/health/live", "/health/detailed", "/livez", "/ready", "/readyz", "/health/ready"]
    {
        let answer = nobody.get(&gateway.url(path)).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(!answer.text().contains("sk-emulated") && !answer.text().contains("127.0.0.1"));
    }
}
