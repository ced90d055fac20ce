//! The official `openai` client for Python, unchanged, through a real Envoy.

use std::process::Stdio;

use tidegate_e2e::harness::{Gateway, client_python, workspace_root};
use tokio::process::Command;

const KEY: &str = "python-key-0123456789";
const LIMITED_KEY: &str = "limited-key-0123456789";
const CONFIG: &str = "\
providers:
  - name: openai
    type: openai
    base_url: \"{{emulator}}\"
    api_key: sk-emulated-0123456789
    models: [gpt-4o, gpt-3.5-turbo-instruct]
limiter:
  rules:
    - {tenant: limited, rate: 1, burst: 1}
auth:
  api_keys:
    - {name: python, key: python-key-0123456789, tenant: acme}
    - {name: limited, key: limited-key-0123456789, tenant: limited}
";

#[tokio::test]
async fn the_official_python_client_works_unchanged() {
    let gateway = Gateway::builder().config_yaml(CONFIG).start().await.unwrap();
    let script = workspace_root().join("e2e/clients/openai_smoke.py");
    let output = Command::new(client_python().unwrap())
        .arg(script)
        .args([&gateway.url("/v1"), KEY, LIMITED_KEY])
        // What the machine is set up for is nobody's business here.
        .env_remove("OPENAI_BASE_URL")
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim_end() == "ok", "{out}{err}");
}
