//! What it costs to put a request, an answer and a stream's event into another protocol.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use tidegate_core::provider::{
    Exchange, Fit, Format, Front, StreamTranslator, Vendor, read_answers, read_request, write_answers,
    write_request,
};

use crate::error::BenchError;

/// Bytes of text in a request and in an answer.
const TEXT_BYTES: usize = 1700;
/// Repetitions of each measurement; the fastest tenth is what the code costs.
const ROUNDS: usize = 500;
/// Events of a stream.
const EVENTS: usize = 1000;

const FRONTS: [(&str, Front); 3] =
    [("chat", Front::Chat), ("messages", Front::Messages), ("responses", Front::Responses)];
const VENDORS: [Vendor; 5] =
    [Vendor::DeepSeek, Vendor::Anthropic, Vendor::Gemini, Vendor::Bedrock, Vendor::ErnieClassic];

/// Measures every pair and returns the table.
pub(crate) fn run() -> Result<String, BenchError> {
    let mut text = String::from(
        "\n| front | provider | request and answer, 2 kB each | a stream's event |\n|---|---|---|---|\n",
    );
    for (name, front) in FRONTS {
        for vendor in VENDORS {
            let format = vendor.format();
            if format.takes(front, &vendor.dialect()) {
                continue;
            }
            let whole = whole(front, vendor)?;
            let event = event(front, format)?;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {} | {whole:.2} us | {event:.3} us |", vendor.label());
        }
    }
    Ok(text)
}

/// Microseconds for a request and its answer.
fn whole(front: Front, vendor: Vendor) -> Result<f64, BenchError> {
    let (request, answer) = (request(front).to_string(), answer(vendor.format()).to_string());
    let (dialect, format) = (vendor.dialect(), vendor.format());
    let exchange = Exchange { model: "m".to_owned(), ..Exchange::default() };
    let once = || {
        let mut fit = Fit::strict();
        let read = read_request(front, black_box(request.as_bytes()), &mut fit).ok()?;
        let written = write_request(format, &dialect, read, &mut fit).ok()?;
        black_box(written);
        let read = read_answers(format, &exchange, black_box(answer.as_bytes())).ok()?;
        Some(black_box(write_answers(front, &exchange, &read)).len())
    };
    once().ok_or_else(|| BenchError::new(format!("{front:?} on {format:?} is not translated")))?;
    Ok(fastest(|| {
        once();
    }))
}

/// Microseconds for each of many events in the middle of a stream.
fn event(front: Front, format: Format) -> Result<f64, BenchError> {
    let exchange = Exchange { model: "m".to_owned(), ..Exchange::default() };
    let (begin, piece) = stream(format);
    let mut out = Vec::new();
    let mut translator = StreamTranslator::new(format, front, &exchange);
    translator.push(begin.as_bytes(), &mut out);
    let before = out.len();
    translator.push(piece.as_bytes(), &mut out);
    if out.len() == before {
        return Err(BenchError::new(format!("{front:?} on {format:?}: an event was not translated")));
    }
    let all = fastest(|| {
        for _ in 0..EVENTS {
            out.clear();
            translator.push(black_box(piece.as_bytes()), &mut out);
            black_box(&out);
        }
    });
    Ok(all / EVENTS as f64)
}

/// Microseconds of one call: the median of the fastest tenth of many.
fn fastest(mut call: impl FnMut()) -> f64 {
    let mut times = vec![0.0_f64; ROUNDS];
    for time in &mut times {
        let start = Instant::now();
        call();
        *time = start.elapsed().as_secs_f64() * 1e6;
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 20).copied().unwrap_or_default()
}

fn words() -> String {
    "The quick brown fox jumps over the lazy dog. ".repeat(TEXT_BYTES / 45 + 1)
}

fn request(front: Front) -> Value {
    let half = words()[..TEXT_BYTES / 2].to_owned();
    match front {
        Front::Chat | Front::Completions => {
            json!({"model": "m", "max_tokens": 100, "temperature": 0.5, "messages": [
            {"role": "system", "content": half}, {"role": "user", "content": half}]})
        }
        Front::Messages => json!({"model": "m", "max_tokens": 100, "temperature": 0.5, "system": half,
            "messages": [{"role": "user", "content": half}]}),
        Front::Responses => json!({"model": "m", "max_output_tokens": 100, "temperature": 0.5,
            "instructions": half, "input": half}),
    }
}

fn answer(format: Format) -> Value {
    let text = words()[..TEXT_BYTES].to_owned();
    match format {
        Format::OpenAi => {
            json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 400, "completion_tokens": 400, "total_tokens": 800}})
        }
        Format::Anthropic => json!({"id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 400, "output_tokens": 400}}),
        Format::Gemini => json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"},
            "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 400, "candidatesTokenCount": 400}}),
        Format::Bedrock => json!({"output": {"message": {"role": "assistant", "content": [{"text": text}]}},
            "stopReason": "end_turn", "usage": {"inputTokens": 400, "outputTokens": 400}}),
        Format::Ernie => json!({"id": "a", "result": text, "is_truncated": false, "finish_reason": "normal",
            "usage": {"prompt_tokens": 400, "completion_tokens": 400, "total_tokens": 800}}),
    }
}

/// The beginning of a stream, and an event in the middle of it.
fn stream(format: Format) -> (String, String) {
    let data = |document: Value| format!("data: {document}\n\n");
    match format {
        Format::OpenAi => {
            let chunk = |delta: Value| {
                data(json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}))
            };
            (chunk(json!({"role": "assistant", "content": ""})), chunk(json!({"content": " hello"})))
        }
        Format::Anthropic => {
            let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
                "usage": {"input_tokens": 1, "output_tokens": 1}});
            let block = json!({"type": "text", "text": ""});
            let begin = data(json!({"type": "message_start", "message": message}))
                + &data(json!({"type": "content_block_start", "index": 0, "content_block": block}));
            let delta = json!({"type": "text_delta", "text": " hello"});
            (begin, data(json!({"type": "content_block_delta", "index": 0, "delta": delta})))
        }
        Format::Gemini => {
            let piece = |text: &str| {
                data(
                    json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}],
                    "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 4}, "modelVersion": "m",
                    "responseId": "r"}),
                )
            };
            (piece("You"), piece(" hello"))
        }
        Format::Bedrock => (
            data(json!({"messageStart": {"role": "assistant"}})),
            data(json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": " hello"}}})),
        ),
        Format::Ernie => {
            let piece = |text: &str| {
                data(
                    json!({"id": "a", "object": "chat.completion", "created": 1, "sentence_id": 0, "is_end": false,
                    "is_truncated": false, "result": text, "need_clear_history": false}),
                )
            };
            (piece("You"), piece(" hello"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_measured() {
        for (name, front) in FRONTS {
            for vendor in VENDORS {
                let read = read_request(front, request(front).to_string().as_bytes(), &mut Fit::strict());
                let read = read.unwrap_or_else(|reply| panic!("{name}: {}", reply.message));
                let written = write_request(vendor.format(), &vendor.dialect(), read, &mut Fit::strict());
                assert!(written.is_ok(), "{name} on {}", vendor.label());
                let exchange = Exchange::default();
                let answer = answer(vendor.format()).to_string();
                let read = read_answers(vendor.format(), &exchange, answer.as_bytes()).expect("an answer");
                assert_eq!(read[0].text.len(), TEXT_BYTES, "{}", vendor.label());
            }
        }
    }
}
