//! Requests, answers and event streams in every protocol, for every caller: nothing makes a
//! translator panic, and a split at any byte changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::provider::{
    Exchange, Fit, Format, Front, StreamTranslator, Vendor, read_answers, read_request, write_answers,
    write_request,
};

const FRONTS: [Front; 4] = [Front::Chat, Front::Completions, Front::Responses, Front::Messages];
const VENDORS: [Vendor; 5] =
    [Vendor::OpenAi, Vendor::Anthropic, Vendor::Gemini, Vendor::Bedrock, Vendor::ErnieClassic];

fn stream(format: Format, front: Front, chunks: [&[u8]; 2]) -> Vec<u8> {
    let mut translator = StreamTranslator::new(format, front, &Exchange::default());
    let mut out = Vec::new();
    for chunk in chunks {
        translator.push(chunk, &mut out);
    }
    translator.close(&mut out);
    out
}

fuzz_target!(|input: (u8, usize, &[u8])| {
    let (pick, at, bytes) = input;
    let front = FRONTS[usize::from(pick) % FRONTS.len()];
    let vendor = VENDORS[usize::from(pick) / FRONTS.len() % VENDORS.len()];
    if let Ok(request) = read_request(front, bytes, &mut Fit::lenient()) {
        let _ = write_request(vendor.format(), &vendor.dialect(), request, &mut Fit::lenient());
    }
    if let Ok(answer) = read_answers(vendor.format(), &Exchange::default(), bytes) {
        let _ = write_answers(front, &Exchange::default(), &answer);
    }
    let whole = stream(vendor.format(), front, [bytes, &[]]);
    let split = bytes.split_at(at % (bytes.len() + 1));
    assert_eq!(whole, stream(vendor.format(), front, [split.0, split.1]));
});
