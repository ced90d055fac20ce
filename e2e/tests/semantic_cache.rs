//! The semantic cache with a real model, through a real Envoy.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::emulator::Fault;
use tidegate_e2e::harness::{
    Answer, Client, Gateway, chat, content, embedding_files, eventually, expect_error, stream,
    streamed_content,
};

const DEADLINE: Duration = Duration::from_secs(20);
/// Another tenant, and the cache. Continues the section `auth` of the default configuration.
const CONFIG: &str = "  api_keys:
    - {name: other, key: other-key-0123456789, tenant: other}
embedding: {deadline: 10s}
cache: {l2: {enabled: true, never_store: ['code \\d{6}']}}
";
const STORED: &str = "How do I reset my password?";
const SIMILAR: &str = "How can I reset my password?";

async fn gateway() -> Gateway {
    let files = embedding_files().unwrap();
    let builder = Gateway::builder().add_config(CONFIG);
    builder.env("TIDEGATE_MODELS", files.models).env("ORT_DYLIB_PATH", files.library).start().await.unwrap()
}

async fn ask(gateway: &Gateway, body: String) -> Answer {
    let answer = gateway.ask(&Client::new(), body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

async fn look_up(gateway: &Gateway, prompt: &str) -> Value {
    let answer =
        gateway.admin().post_json(&gateway.url("/v1/cache/lookup?tenant=demo"), chat(prompt)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Answers are stored after they were sent.
async fn until_stored(gateway: &Gateway, prompt: &str) {
    let probe = || async { (look_up(gateway, prompt).await["hit"] == true).then_some(()) };
    eventually("the answer is stored", DEADLINE, probe).await.unwrap();
}

fn cache(answer: &Answer) -> (&str, Option<&str>) {
    (answer.header("x-gateway-cache").unwrap_or("none"), answer.header("x-gateway-cache-layer"))
}

fn asked(gateway: &Gateway) -> u64 {
    gateway.emulator.stats().requests_total
}

#[tokio::test]
async fn a_question_in_other_words_is_answered_from_the_cache() {
    let gateway = gateway().await;
    let first = ask(&gateway, chat(STORED)).await;
    assert_eq!(cache(&first), ("miss", None));
    until_stored(&gateway, STORED).await;
    let before = asked(&gateway);

    let similar = ask(&gateway, chat(SIMILAR)).await;
    assert_eq!(cache(&similar), ("hit", Some("semantic")), "{:?}", similar.headers);
    assert_eq!(similar.body, first.body);
    let similarity: f32 = similar.header("x-gateway-cache-similarity").unwrap().parse().unwrap();
    assert!((0.85..1.0).contains(&similarity), "{similarity}");
    assert!(similar.header("age").is_some_and(|age| age.parse::<u64>().is_ok()));
    assert_eq!(similar.header("x-gateway-provider"), Some("openai"));
    assert_eq!(similar.header("x-gateway-model"), Some("gpt-4o"));
    assert_eq!(similar.header("x-gateway-attempts"), Some("0"));
    assert_eq!(similar.header("content-length").map(str::parse), Some(Ok(similar.body.len())));
    // By meaning, every time: it does not become an exact answer to these words.
    assert_eq!(cache(&ask(&gateway, chat(SIMILAR)).await), ("hit", Some("semantic")));

    let streamed = ask(&gateway, stream(SIMILAR)).await;
    assert_eq!(cache(&streamed), ("hit", Some("semantic")));
    assert!(streamed.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
    assert_eq!(streamed_content(&streamed), content(&first));
    assert_eq!(streamed.events().last().map(String::as_str), Some("[DONE]"));
    assert!(streamed.events().len() > 3, "in pieces: {}", streamed.text());
    assert_eq!(asked(&gateway), before, "the provider was not asked");

    what_must_not_share_does_not(&gateway).await;
    operators_see_and_take_back(&gateway, &similar).await;
}

async fn what_must_not_share_does_not(gateway: &Gateway) {
    let other = Client::new().with_key("other-key-0123456789");
    let elsewhere = gateway.ask(&other, chat(SIMILAR)).await.unwrap();
    assert_eq!(cache(&elsewhere), ("miss", None), "another tenant");
    for body in [
        json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": SIMILAR}]}),
        json!({"model": "gpt-4o", "temperature": 0.5, "messages": [{"role": "user", "content": SIMILAR}]}),
        json!({"model": "gpt-4o", "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": SIMILAR}]}),
    ] {
        assert_eq!(cache(&ask(gateway, body.to_string()).await), ("miss", None), "{body}");
    }
    let fresh = Client::new().with_header("cache-control", "no-cache");
    let fresh = gateway.ask(&fresh, chat("Which colours does a rainbow have?")).await.unwrap();
    assert_eq!(cache(&fresh), ("bypass", None));

    ask(gateway, chat("Set a timer for 30 seconds please")).await;
    until_stored(gateway, "Set a timer for 30 seconds please").await;
    let longer = ask(gateway, chat("Set a timer for 300 seconds please")).await;
    assert_eq!(cache(&longer), ("miss", None));
    let secret = "My one-time code 123456 does not work";
    for _ in 0..2 {
        assert_eq!(cache(&ask(gateway, chat(secret)).await).0, "miss", "not in any cache");
    }
    assert_eq!(look_up(gateway, secret).await["hit"], false);
}

async fn operators_see_and_take_back(gateway: &Gateway, similar: &Answer) {
    let before = asked(gateway);
    let found = look_up(gateway, SIMILAR).await;
    assert_eq!((&found["hit"], &found["layer"]), (&json!(true), &json!("semantic")), "{found}");
    assert_eq!((&found["reason"], &found["tenant"]), (&json!("similar"), &json!("demo")), "{found}");
    assert_eq!(found["answer"], content(similar));
    let guarded = look_up(gateway, "Set a timer for 40 seconds please").await;
    assert_eq!((&guarded["hit"], &guarded["reason"]), (&json!(false), &json!("guard")), "{guarded}");
    assert_eq!(guarded["guard"], "number");
    assert!(guarded["similarity"].as_f64().unwrap() > 0.85);
    let far = look_up(gateway, "What is the boiling point of water?").await;
    assert_eq!((&far["hit"], &far["reason"]), (&json!(false), &json!("below_threshold")), "{far}");
    assert_eq!(asked(gateway), before, "a look-up asks nobody");
    let user = Client::new().post_json(&gateway.url("/v1/cache/lookup"), chat(SIMILAR)).await.unwrap();
    expect_error(&user, 401, "missing_api_key");

    let entry = json!({"entry": similar.header("x-gateway-cache-entry").unwrap()}).to_string();
    let feedback = gateway.url("/v1/cache/feedback");
    let taken = gateway.admin().post_json(&feedback, entry.clone()).await.unwrap();
    assert_eq!((taken.status.as_u16(), &taken.json()["evicted"]), (200, &json!(1)), "{}", taken.text());
    expect_error(&gateway.admin().post_json(&feedback, entry).await.unwrap(), 404, "not_found");
    assert_eq!(cache(&ask(gateway, chat("How could I reset my password?")).await), ("miss", None));

    purges_are_counted_and_audited(gateway).await;
}

async fn purges_are_counted_and_audited(gateway: &Gateway) {
    let admin = gateway.admin();
    let purge = |body: Value| {
        let (admin, url) = (admin.clone(), gateway.url("/admin/cache/purge"));
        async move { admin.post_json(&url, body.to_string()).await.unwrap() }
    };
    for nothing in [json!({}), json!({"all": true, "tenant": "demo"}), json!({"older_than": "5"})] {
        assert_eq!(purge(nothing).await.status, 400);
    }
    assert_eq!(purge(json!({"older_than": "1h"})).await.json()["purged"], 0);
    assert_eq!(purge(json!({"tenant": "demo", "prefix": "Set a timer for 30 "})).await.json()["purged"], 1);
    assert_eq!(look_up(gateway, "Set a timer for 30 seconds please").await["hit"], false);
    assert!(purge(json!({"all": true})).await.json()["purged"].as_u64().unwrap() > 0);
    let shown = admin.get(&gateway.url("/admin/cache")).await.unwrap().json();
    assert_eq!((&shown["entries"], &shown["bytes"]), (&json!(0), &json!(0)), "{shown}");
    let audit = admin.get(&gateway.url("/admin/audit")).await.unwrap().text();
    assert!(audit.contains("cache_purged") && !audit.contains("Set a timer"), "{audit}");
}

#[tokio::test]
async fn what_is_taken_back_leaves_the_cache_inside_envoy_too() {
    let gateway = gateway().await;
    for (prompt, path) in [(STORED, "/admin/cache/purge"), ("Where is my order?", "/v1/cache/feedback")] {
        assert_eq!(cache(&ask(&gateway, chat(prompt)).await), ("miss", None), "{prompt}");
        until_stored(&gateway, prompt).await;
        assert_eq!(cache(&ask(&gateway, chat(prompt)).await), ("hit", Some("l1")), "{prompt}");
        let body = match path {
            "/admin/cache/purge" => json!({"tenant": "demo"}),
            _ => json!({"entry": look_up(&gateway, prompt).await["entry"]}),
        };
        let done = gateway.admin().post_json(&gateway.url(path), body.to_string()).await.unwrap();
        assert_eq!(done.status, 200, "{}", done.text());
        let asked_anew =
            || async { (cache(&ask(&gateway, chat(prompt)).await) == ("miss", None)).then_some(()) };
        eventually("the provider is asked again", DEADLINE, asked_anew).await.unwrap();
    }
    let shown = gateway.admin().get(&gateway.url("/admin/cache")).await.unwrap().json();
    assert_eq!((&shown["mode"], &shown["backend"]), (&json!("static"), &json!("memory")), "{shown}");
    assert!(shown["lookups"]["misses"].as_u64().unwrap() > 0 && shown["audit"]["checked"] == 0, "{shown}");
}

#[tokio::test]
async fn audits_ask_again_and_report_how_often_a_hit_was_wrong() {
    let files = embedding_files().unwrap();
    let config = CONFIG.replace("enabled: true", "enabled: true, audit_rate: 1.0");
    let gateway = Gateway::builder().add_config(&config).env("TIDEGATE_MODELS", files.models);
    let mut gateway = gateway.env("ORT_DYLIB_PATH", files.library).start().await.unwrap();
    ask(&gateway, chat(STORED)).await;
    until_stored(&gateway, STORED).await;
    assert_eq!(cache(&ask(&gateway, chat(SIMILAR)).await), ("miss", None), "asked again");
    let audited = || async {
        let shown = gateway.admin().get(&gateway.url("/admin/cache")).await.ok()?.json();
        (shown["audit"]["checked"] == 1).then_some(shown)
    };
    let shown = eventually("the audit is counted", DEADLINE, audited).await.unwrap();
    // The emulator repeats the question, so that the answers differ by one word.
    let (wrong, error) = (&shown["tenants"]["demo"]["wrong"], &shown["audit"]["error"]);
    assert_eq!(error["observed"].as_f64(), wrong.as_f64(), "{shown}");
    assert!(error["low"].as_f64().unwrap() < error["high"].as_f64().unwrap(), "{shown}");
    let page = gateway.admin().get(&gateway.url("/metrics")).await.unwrap().text();
    for line in
        ["gateway_semantic_cache_audits_total{result=", "gateway_semantic_cache_audit_error{bound=\"high\"}"]
    {
        assert!(page.contains(line), "{line}");
    }

    assert!(gateway.stop_sidecar_gracefully().await.unwrap().success());
    gateway.restart_sidecar().unwrap();
    gateway.wait_until_ready().await.unwrap();
    let again = gateway.admin().get(&gateway.url("/admin/cache")).await.unwrap().json();
    assert_eq!((&again["audit"], &again["entries"]), (&shown["audit"], &json!(0)), "{again}");
}

#[tokio::test]
async fn requests_for_the_same_answer_share_one_call_even_if_the_first_leaves() {
    let gateway = gateway().await;
    gateway.emulator.arm(Fault { stall_after_chunks: Some(1), ..Fault::default() }).unwrap();
    let client = Client::new();
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(gateway.open_chat(&client, stream("tell me all together")).await.unwrap());
    }
    let others = gateway.open_chat(&client, stream("tell me something else")).await.unwrap();
    assert_eq!(asked(&gateway), 2, "one call for the five, one for the sixth");
    drop(open.remove(0));
    gateway.emulator.release_stalled();
    for answer in open {
        let whole = answer.finish().await.unwrap();
        assert_eq!(streamed_content(&whole), "You said: tell me all together");
        assert_eq!(whole.events().last().map(String::as_str), Some("[DONE]"));
    }
    assert_eq!(streamed_content(&others.finish().await.unwrap()), "You said: tell me something else");
    assert_eq!(asked(&gateway), 2);
    until_stored(&gateway, "tell me all together").await;
}

#[tokio::test]
async fn requests_in_other_words_share_a_call_that_is_under_way() {
    let gateway = gateway().await;
    gateway.emulator.arm(Fault { stall_after_chunks: Some(1), ..Fault::default() }).unwrap();
    let client = Client::new();
    let first = gateway.open_chat(&client, stream(STORED)).await.unwrap();
    let near = gateway.open_chat(&client, stream(SIMILAR)).await.unwrap();
    let other = gateway.open_chat(&client, stream("What is the boiling point of water?")).await.unwrap();
    assert_eq!(asked(&gateway), 2, "one call for both, one for the third");
    drop(first);
    gateway.emulator.release_stalled();
    let near = near.finish().await.unwrap();
    assert_eq!(streamed_content(&near), format!("You said: {STORED}"), "the first one left alone");
    assert_eq!(cache(&near), ("hit", Some("semantic")));
    assert!(near.header("x-gateway-cache-similarity").is_some());
    assert_eq!(cache(&other.finish().await.unwrap()), ("miss", None));
    assert_eq!(asked(&gateway), 2);
}

#[tokio::test]
async fn without_its_model_the_gateway_answers_as_ever() {
    let gateway =
        Gateway::builder().add_config(CONFIG).env("TIDEGATE_MODELS", "/nowhere").start().await.unwrap();
    assert_eq!(cache(&ask(&gateway, chat(STORED)).await), ("miss", None));
    assert_eq!(cache(&ask(&gateway, chat(SIMILAR)).await), ("miss", None));
    assert_eq!(cache(&ask(&gateway, chat(SIMILAR)).await), ("hit", Some("l1")));
    let found = look_up(&gateway, SIMILAR).await;
    assert_eq!((&found["hit"], &found["reason"]), (&json!(false), &json!("unavailable")), "{found}");
}

#[tokio::test]
async fn prompts_of_any_kind_are_answered() {
    let gateway = gateway().await;
    let long = "word ".repeat(20_000);
    for prompt in ["x", "\u{1F600}\u{1F680}", "你好 привет hello \u{202E}", "\u{FFFD}\u{0}", &long] {
        for _ in 0..2 {
            let answer = ask(&gateway, chat(prompt)).await;
            assert!(content(&answer).starts_with("You said:"), "{}", answer.text());
        }
    }
    let invalid =
        [b"{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"".as_slice(), b"\xFF\"}]}"];
    let refused = gateway.ask(&Client::new(), invalid.concat()).await.unwrap();
    expect_error(&refused, 400, "invalid_json");
}

#[tokio::test]
async fn the_verified_mode_serves_nothing_by_meaning_before_it_has_learned() {
    let files = embedding_files().unwrap();
    let config = CONFIG.replace("enabled: true,", "mode: verified, error_bound: 0.02,");
    let builder = Gateway::builder().add_config(&config).env("TIDEGATE_MODELS", files.models);
    let gateway = builder.env("ORT_DYLIB_PATH", files.library).start().await.unwrap();
    ask(&gateway, chat(STORED)).await;
    until_stored(&gateway, STORED).await;
    let found = look_up(&gateway, SIMILAR).await;
    assert_eq!((&found["hit"], &found["reason"]), (&json!(false), &json!("unsure")), "{found}");
    assert_eq!(cache(&ask(&gateway, chat(SIMILAR)).await), ("miss", None));
    let streamed = ask(&gateway, stream(STORED)).await;
    assert_eq!(cache(&streamed), ("hit", Some("semantic")), "the same words need no experience");
}
