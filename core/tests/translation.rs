//! Golden files: for each pair of protocols and each feature, what goes in and what must come
//! out. `requests` and `answers` hold one JSON document per case with `in` and `out`, or with the
//! `param` of the refusal; `streams` holds the provider's bytes (`.in.sse`) beside the caller's
//! (`.out.sse`). `UPDATE_GOLDEN=1` writes what comes out into the files, to be read before it is
//! committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use tidegate_core::chat::estimate_request_tokens;
use tidegate_core::provider::Front::{Chat, Completions, Messages, Responses};
use tidegate_core::provider::{
    Echo, Exchange, Fit, Format, Front, Malformed, StreamTranslator, Vendor, read_answers,
    read_count_request, read_request, write_answers, write_request,
};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::sse::Scanner;

/// Every pair with golden files: caller and provider, and where its requests lie and its answers.
const PAIRS: &[(Front, Vendor, &str, &str)] = &[
    (Messages, Vendor::OpenAi, "anthropic-to-openai", "openai-to-anthropic"),
    (Chat, Vendor::Anthropic, "openai-to-anthropic", "anthropic-to-openai"),
    (Completions, Vendor::OpenAi, "completions-to-openai", "openai-to-completions"),
    (Responses, Vendor::OpenAi, "responses-to-openai", "openai-to-responses"),
    (Responses, Vendor::Anthropic, "responses-to-anthropic", "anthropic-to-responses"),
    (Chat, Vendor::Gemini, "openai-to-gemini", "gemini-to-openai"),
    (Messages, Vendor::Gemini, "anthropic-to-gemini", "gemini-to-anthropic"),
    (Chat, Vendor::Bedrock, "openai-to-bedrock", "bedrock-to-openai"),
    (Messages, Vendor::Bedrock, "anthropic-to-bedrock", "bedrock-to-anthropic"),
    (Chat, Vendor::ErnieClassic, "openai-to-ernie", "ernie-to-openai"),
    (Messages, Vendor::ErnieClassic, "anthropic-to-ernie", "ernie-to-anthropic"),
];

fn exchange(schema_tool: Option<&str>) -> Exchange {
    Exchange {
        created: 1_700_000_000,
        include_usage: true,
        request_id: "req_1".to_owned(),
        model: "asked-for".to_owned(),
        schema_tool: schema_tool.map(str::to_owned),
        answer_id: "resp_1".to_owned(),
        echo: Echo::of(br#"{"temperature":0.50,"tools":[{"type":"function","name":"f"}],"store":false}"#),
    }
}

fn golden(kind: &str, pair: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind).join(pair);
    let files = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no golden files in {}", dir.display());
    paths
}

/// Whether the files are to be written anew.
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn update(path: &Path, mut case: Value, out: Result<Value, Option<String>>) {
    let same = match &out {
        Ok(out) => case.get("out") == Some(out),
        Err(param) => case.get("out").is_none() && case["param"].as_str() == param.as_deref(),
    };
    if same && case.get("dropped").is_none() {
        return;
    }
    let members = case.as_object_mut().expect("an object");
    members.retain(|key, _| key != "out" && key != "param");
    match out {
        Ok(out) => members.insert("out".to_owned(), out),
        Err(Some(param)) => members.insert("param".to_owned(), param.into()),
        Err(None) => None,
    };
    let text = serde_json::to_string_pretty(&case).expect("JSON");
    fs::write(path, text + "\n").expect("writable");
}

fn case(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("readable");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn translated(caller: Front, provider: Vendor, body: &Value, fit: &mut Fit) -> Result<Value, Reply> {
    let request = read_request(caller, body.to_string().as_bytes(), fit)?;
    let written = write_request(provider.format(), &provider.dialect(), request, fit)?;
    Ok(serde_json::from_slice(&written.body).expect("JSON"))
}

#[test]
fn requests_are_what_their_golden_files_say() {
    for (caller, provider, pair, _) in PAIRS {
        for path in golden("requests", pair) {
            let case = case(&path);
            let shown = path.display();
            let dropped = case.get("dropped");
            let mut fit = if dropped.is_some() { Fit::lenient() } else { Fit::strict() };
            let got = translated(*caller, *provider, &case["in"], &mut fit);
            if updating() {
                let mut case = case;
                if case.get("dropped").is_some() {
                    case["dropped"] = serde_json::json!(fit.dropped());
                }
                update(&path, case, got.map_err(|reply| reply.param));
                continue;
            }
            match (case.get("out"), got) {
                (Some(out), Ok(got)) => {
                    assert_eq!(&got, out, "{shown}:\n{got:#}");
                    assert!(
                        dropped.is_none_or(|d| *d == serde_json::json!(fit.dropped())),
                        "{shown}: {fit:?}"
                    );
                }
                (None, Err(reply)) => {
                    assert_eq!(reply.code, Code::InvalidRequest, "{shown}");
                    assert_eq!(reply.param.as_deref(), case["param"].as_str(), "{shown}: {}", reply.message);
                    assert!(!reply.message.contains("secret"), "{shown}: {}", reply.message);
                }
                (_, got) => panic!("{shown}: {got:#?}"),
            }
        }
    }
}

#[test]
fn answers_are_what_their_golden_files_say() {
    for (caller, provider, _, pair) in PAIRS {
        for path in golden("answers", pair) {
            let case = case(&path);
            let shown = path.display();
            let exchange = exchange(case["schema_tool"].as_str());
            let answer = read_answers(provider.format(), &exchange, case["in"].to_string().as_bytes());
            let got = answer.map(|answer| write_answers(*caller, &exchange, &answer));
            if updating() {
                let out = got.map(|bytes| serde_json::from_slice(&bytes).expect("JSON"));
                update(&path, case, out.map_err(|Malformed| None));
                continue;
            }
            match case.get("out") {
                Some(out) => {
                    let got: Value = serde_json::from_slice(&got.expect("an answer")).expect("JSON");
                    assert_eq!(&got, out, "{shown}:\n{got:#}");
                }
                None => assert_eq!(got, Err(Malformed), "{shown}"),
            }
        }
    }
}

fn stream(provider: Format, caller: Front, chunks: &[&[u8]]) -> String {
    let mut translator = StreamTranslator::new(provider, caller, &exchange(None));
    let mut out = Vec::new();
    for chunk in chunks {
        translator.push(chunk, &mut out);
    }
    translator.close(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

/// Read once for all cases.
static STREAMS: LazyLock<Vec<Stream>> = LazyLock::new(streams);

type Stream = (Format, Front, PathBuf, Vec<u8>, String);

/// Every golden stream: provider, caller, what goes in, what comes out.
fn streams() -> Vec<Stream> {
    let mut streams = Vec::new();
    for (caller, provider, _, pair) in PAIRS {
        for path in golden("streams", pair) {
            let Some(name) = path.to_str().and_then(|p| p.strip_suffix(".in.sse")) else { continue };
            let input = fs::read(&path).expect("readable");
            let out = format!("{name}.out.sse");
            if updating() {
                fs::write(&out, stream(provider.format(), *caller, &[&input])).expect("writable");
            }
            let expected = fs::read_to_string(out).expect("the other half");
            streams.push((provider.format(), *caller, path.clone(), input, expected));
        }
    }
    streams
}

#[test]
fn streams_are_what_their_golden_files_say_wherever_they_are_split() {
    for (provider, caller, path, input, expected) in streams() {
        let shown = path.display();
        assert_eq!(stream(provider, caller, &[&input]), expected, "{shown}");
        for at in 0..input.len() {
            let (head, tail) = input.split_at(at);
            assert_eq!(stream(provider, caller, &[head, tail]), expected, "{shown} split at {at}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(stream(provider, caller, &bytes), expected, "{shown} byte by byte");
    }
}

/// Anthropic's rules on the order of events, which its clients rely on.
#[test]
fn streams_for_anthropics_callers_keep_its_order() {
    for (_, caller, path, _, expected) in streams() {
        if caller != Messages {
            continue;
        }
        let mut open = None;
        let mut blocks = 0;
        for data in expected.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event: Value = serde_json::from_str(data).expect("JSON");
            let index = event["index"].as_u64();
            match event["type"].as_str().expect("a type") {
                "content_block_start" => {
                    assert_eq!((open, index), (None, Some(blocks)), "{}", path.display());
                    open = index;
                    blocks += 1;
                }
                "content_block_delta" => assert_eq!(open, index, "{}", path.display()),
                "content_block_stop" => assert_eq!(open.take(), index, "{}", path.display()),
                "message_delta" | "message_stop" => assert_eq!(open, None, "{}", path.display()),
                _ => {}
            }
        }
    }
}

#[test]
fn a_stream_that_ended_well_is_seen_to() {
    for (_, _, path, input, expected) in streams() {
        let mut scanner = Scanner::new();
        scanner.push(expected.as_bytes());
        let outcome = scanner.end();
        let fails = path.to_string_lossy().contains("error");
        assert_eq!((outcome.is_success(), outcome.error), (!fails, fails), "{}", path.display());
        let is_told = String::from_utf8_lossy(&input).contains("usage");
        let is_read = outcome.usage.is_some_and(|usage| usage.prompt_tokens + usage.completion_tokens > 0);
        assert!(fails || !is_told || is_read, "{}", path.display());
    }
}

/// Two protocols do not have all the same forms, so the first way back may choose another one;
/// from then on nothing may change.
#[test]
fn a_request_survives_the_way_there_and_back() {
    let strictly = |caller, provider, body: &Value| {
        translated(caller, provider, body, &mut Fit::strict()).expect("translatable")
    };
    for (from, to, pair, _) in PAIRS {
        let (back_from, back_to) = match (from, to) {
            (Chat, Vendor::Anthropic) => (Messages, Vendor::OpenAi),
            (Messages, Vendor::OpenAi) => (Chat, Vendor::Anthropic),
            // No front speaks what these are translated into.
            _ => continue,
        };
        for path in golden("requests", pair) {
            let case = case(&path);
            let Some(out) = case.get("out").filter(|_| case.get("one_way").is_none()) else { continue };
            let there = |body: &Value| strictly(*from, *to, body);
            let back = |body: &Value| strictly(back_from, back_to, body);
            let once = back(out);
            assert_eq!(back(&there(&once)), once, "{}", path.display());
        }
    }
}

#[test]
fn what_can_be_asked_can_be_counted() {
    for path in golden("requests", "anthropic-to-openai") {
        let mut body = case(&path)["in"].take();
        if case(&path).get("out").is_none() {
            continue;
        }
        body.as_object_mut().expect("an object").remove("max_tokens");
        let request = read_count_request(body.to_string().as_bytes()).expect("countable");
        assert!(estimate_request_tokens(&request) > 4, "{}", path.display());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_translator_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (caller, provider, ..) in PAIRS {
            let _ = read_request(*caller, &bytes, &mut Fit::strict());
            let _ = read_answers(provider.format(), &exchange(None), &bytes);
            let event = [b"data: ", &bytes[..], b"\n\n"].concat();
            let _ = stream(provider.format(), *caller, &[&event]);
        }
    }

    #[test]
    fn streams_split_and_damaged_anywhere_still_end_at_most_once(
        pick in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        sizes in proptest::collection::vec(1_usize..40, 1..20),
    ) {
        let all = &*STREAMS;
        let (provider, caller, _, input, _) = &all[pick.index(all.len())];
        let mut damaged = input.clone();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let mut chunks = Vec::new();
        let mut rest = &damaged[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*size).min(rest.len()));
            chunks.push(head);
            rest = tail;
        }
        let mut translator = StreamTranslator::new(*provider, *caller, &exchange(None));
        let mut out = Vec::new();
        for chunk in chunks {
            translator.push(chunk, &mut out);
        }
        translator.close(&mut out);
        prop_assert_eq!(&*stream(*provider, *caller, &[&damaged]), &*String::from_utf8_lossy(&out));
        let text = String::from_utf8_lossy(&out);
        let ends = text.matches("data: [DONE]").count()
            + text.matches("event: message_stop").count()
            + text.matches("event: response.completed").count()
            + text.matches("event: response.incomplete").count()
            + text.matches("event: error").count()
            + text.matches("data: {\"error\":").count();
        prop_assert!(ends <= 1, "{}", text);
        prop_assert_eq!(ends == 1, translator.has_ended());
    }
}
