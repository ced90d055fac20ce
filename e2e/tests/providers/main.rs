//! Every protocol in front, on every emulated provider, through a real Envoy: what callers ask
//! and hear is the same, whoever answers.

mod faults;
mod front;
mod hear;
mod setup;
mod wishes;

use serde_json::json;

use self::front::{Ask, FRONTS, Front, Heard, schema};
use self::setup::Setup;
use tidegate_e2e::emulator::{Fault, Refusal};
use tidegate_e2e::harness::{EMULATED, EmulatedProvider};

const PROMPT: &str = "hello 你好";

#[tokio::test]
async fn every_front_is_answered_by_every_provider() {
    let setup = Setup::new("").await;
    for provider in &EMULATED {
        for front in FRONTS {
            let case = Case { setup: &setup, provider, front };
            case.text().await;
            case.limits().await;
            case.tools().await;
            case.structure().await;
            case.pictures().await;
            case.mistakes().await;
        }
    }
}

/// Whoever embeds is asked as often as it needs, and answers as OpenAI would.
#[tokio::test]
async fn embeddings_come_from_every_provider_that_has_them() {
    let setup = Setup::new("").await;
    let url = setup.gateway.url("/v1/embeddings");
    let admin = setup.gateway.admin();
    let texts: Vec<String> = (0..40).map(|n| format!("text {n}")).collect();
    for provider in &EMULATED {
        let Some(model) = provider.embeds else { continue };
        let model = format!("{}/{model}", provider.name);
        let embed = async |body: serde_json::Value| admin.post_json(&url, body.to_string()).await.unwrap();
        let all = embed(json!({"model": model, "input": texts})).await;
        assert_eq!(all.status, 200, "{model}: {}", all.text());
        let all = all.json();
        let data = all["data"].as_array().unwrap();
        assert_eq!((data.len(), &data[39]["index"]), (40, &json!(39)), "{model}");
        assert!(all["usage"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens >= 40), "{model}");
        // The order is kept: the last of many is what it is alone.
        let one = embed(json!({"model": model, "input": "text 39"})).await.json();
        assert_eq!(one["data"][0]["embedding"], data[39]["embedding"], "{model}");
        let packed =
            embed(json!({"model": model, "input": "text 39", "encoding_format": "base64"})).await.json();
        assert!(packed["data"][0]["embedding"].is_string(), "{model}");
        let short = embed(json!({"model": model, "input": "x", "dimensions": 256})).await;
        if provider.name == "ernie_classic" {
            assert_eq!((short.status.as_u16(), &short.json()["error"]["param"]), (400, &json!("dimensions")));
        } else {
            assert_eq!(short.json()["data"][0]["embedding"].as_array().map(Vec::len), Some(256), "{model}");
        }
        setup.arm_once(Fault { refusal: Some(Refusal::RateLimit), ..Fault::default() });
        let refused = embed(json!({"model": model, "input": "x"})).await;
        assert_eq!(refused.status, 429, "{model}: {}", refused.text());
    }
    let chats = json!({"model": "bedrock/amazon.nova-pro-v1:0", "input": "x"});
    let refused = admin.post_json(&url, chats.to_string()).await.unwrap();
    assert!(matches!(refused.status.as_u16(), 400 | 404), "{}", refused.text());
}

/// One front on one provider.
struct Case<'a> {
    setup: &'a Setup,
    provider: &'a EmulatedProvider,
    front: Front,
}

impl Case<'_> {
    fn name(&self) -> String {
        format!("{:?} on {}", self.front, self.provider.name)
    }

    /// The classic API of Baidu's knows least.
    fn is_classic(&self) -> bool {
        self.provider.name == "ernie_classic"
    }

    /// Asks for a whole answer and for a stream, which must be the same, and gives it.
    async fn both(&self, ask: &Ask) -> Heard {
        let whole = self.setup.heard(self.front, self.provider, ask).await;
        let stream = self.setup.heard(self.front, self.provider, &ask.clone().streamed()).await;
        let comparable = |heard: &Heard| {
            let calls: Vec<_> =
                heard.calls.iter().map(|(_, name, input)| (name.clone(), input.clone())).collect();
            (heard.text.clone(), calls, heard.finish.clone(), heard.input_tokens, heard.output_tokens)
        };
        assert_eq!(comparable(&whole), comparable(&stream), "{}: whole and stream", self.name());
        whole
    }

    async fn text(&self) {
        let heard = self.both(&Ask::say(PROMPT)).await;
        assert_eq!(heard.text, format!("You said: {PROMPT}"), "{}", self.name());
        assert_eq!((heard.finish.as_str(), heard.calls.len()), ("stop", 0), "{}", self.name());
        assert!(heard.input_tokens > 0 && heard.output_tokens == 4, "{}: {heard:?}", self.name());
    }

    async fn limits(&self) {
        let heard = self.both(&Ask { tokens_max: Some(2), ..Ask::say(PROMPT) }).await;
        assert_eq!((heard.text.as_str(), heard.finish.as_str()), ("You said:", "length"), "{}", self.name());
        assert_eq!(heard.output_tokens, 2, "{}", self.name());
    }

    async fn tools(&self) {
        let tools = vec!["weather", "clock"];
        let said = "use a tool: Köln";
        let input = json!({"text": said, "numbers": [1, 2]});
        let ask = Ask { tools: tools.clone(), ..Ask::say(said) };
        let chosen = self.both(&ask).await;
        assert_eq!((chosen.finish.as_str(), chosen.calls.len()), ("tools", 1), "{}: {chosen:?}", self.name());
        let (id, name, given) = &chosen.calls[0];
        assert_eq!((name.as_str(), given), ("weather", &input), "{}", self.name());
        assert!(!id.is_empty(), "{}", self.name());

        let forced =
            self.both(&Ask { forced: Some("clock"), ..Ask { text: "hi".to_owned(), ..ask.clone() } }).await;
        assert_eq!(forced.calls[0].1, "clock", "{}", self.name());

        let all = self.both(&Ask { text: "use all tools".to_owned(), ..ask.clone() }).await;
        let names: Vec<_> = all.calls.iter().map(|(_, name, _)| name.as_str()).collect();
        let expected: &[&str] = if self.is_classic() { &tools[..1] } else { &tools };
        assert_eq!(names, expected, "{}", self.name());

        let result = Some((name.clone(), id.clone(), "rain".to_owned()));
        let told = self.both(&Ask { result, ..ask }).await;
        assert_eq!((told.text.as_str(), told.finish.as_str()), ("You said: rain", "stop"), "{}", self.name());
    }

    async fn structure(&self) {
        let heard = self.both(&Ask { schema: Some(schema()), ..Ask::say(PROMPT) }).await;
        let value: serde_json::Value = serde_json::from_str(&heard.text).unwrap_or_default();
        assert_eq!(value, json!({"text": PROMPT, "numbers": [1, 2]}), "{}: {heard:?}", self.name());
        assert_eq!((heard.finish.as_str(), heard.calls.len()), ("stop", 0), "{}", self.name());
    }

    async fn pictures(&self) {
        let ask = Ask { picture: true, ..Ask::say(PROMPT) };
        if self.is_classic() {
            let refused = self.setup.ask(self.front, self.provider, &ask).await;
            assert_eq!(refused.status, 400, "{}", refused.text());
            assert!(refused.text().contains("text only"), "{}: {}", self.name(), refused.text());
            return;
        }
        let heard = self.both(&ask).await;
        assert_eq!(heard.text, format!("You said: {PROMPT} (1 pictures)"), "{}", self.name());
    }

    async fn mistakes(&self) {
        let mut body = self.front.body(&self.provider.target(), &Ask::say(PROMPT));
        body["temperature"] = json!(3);
        let refused = self.setup.post(self.front, &body).await;
        assert_eq!(refused.status, 400, "{}: {}", self.name(), refused.text());
        self.front.expect_error(&refused, &self.name());
        assert!(refused.text().contains("temperature"), "{}: {}", self.name(), refused.text());

        let model = format!("{}/no-such-model", self.provider.name);
        let missing = self.setup.post(self.front, &self.front.body(&model, &Ask::say(PROMPT))).await;
        assert_eq!(missing.status, 404, "{}: {}", self.name(), missing.text());
        self.front.expect_error(&missing, &self.name());
    }
}
