//! The conversation, checked as Google checks it.

use serde_json::Value;

use super::error::ApiError;
use crate::emulator::heard::Heard;
use crate::emulator::strict::{Mistake, Object};

/// Tokens of a picture, as Google counts one of up to 384 pixels.
const IMAGE_TOKENS: usize = 258;
const PART_FIELDS: [&str; 8] = [
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "thought",
    "thoughtSignature",
    "videoMetadata",
];
const DATA_FIELDS: [&str; 5] = ["text", "inlineData", "fileData", "functionCall", "functionResponse"];

/// What one content holds.
#[derive(Default)]
struct Turn {
    text: String,
    images: usize,
    calls: usize,
    responses: usize,
    unsealed: bool,
}

/// Reads `contents`; models that seal their calls want the seals back.
pub(super) fn read(contents: &[Value], sealing: bool) -> Result<Heard, ApiError> {
    if contents.is_empty() {
        return Err(ApiError::invalid("* GenerateContentRequest.contents: contents is not specified"));
    }
    let mut heard = Heard::default();
    let mut open_calls = 0;
    for (index, content) in contents.iter().enumerate() {
        let path = format!("contents[{index}]");
        let object = Object::read(content, &path, &["role", "parts"])?;
        let role = object.optional_text("role")?.unwrap_or("user");
        if !matches!(role, "user" | "model") {
            return Err(ApiError::invalid("Please use a valid role: user, model."));
        }
        let turn = Turn::read(object.list("parts")?, &path)?;
        check_calls(index, role, &turn, open_calls, sealing)?;
        open_calls = turn.calls;
        heard.begin(role == "user");
        heard.say(role == "user", &turn.text);
        heard.tokens += turn.images * IMAGE_TOKENS;
        if role == "user" {
            (heard.images, heard.is_tool_result) = (turn.images, turn.responses > 0);
        }
    }
    Ok(heard)
}

/// The text of `systemInstruction`, counted among the prompt's tokens.
pub(super) fn add_system(heard: &mut Heard, system: &Object<'_>) -> Result<(), ApiError> {
    heard.say(false, &Turn::read(system.list("parts")?, "systemInstruction")?.text);
    Ok(())
}

fn check_calls(index: usize, role: &str, turn: &Turn, open: usize, sealing: bool) -> Result<(), ApiError> {
    if turn.responses != open {
        return Err(ApiError::invalid(
            "Please ensure that the number of function response parts is equal to the number of function call parts \
             of the function call turn.",
        ));
    }
    if turn.calls > 0 && (role != "model" || index == 0) {
        return Err(ApiError::invalid(
            "Please ensure that function call turn comes immediately after a user turn or after a function response turn.",
        ));
    }
    if sealing && turn.unsealed {
        return Err(ApiError::invalid(
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work \
             correctly.",
        ));
    }
    Ok(())
}

impl Turn {
    fn read(parts: &[Value], path: &str) -> Result<Self, ApiError> {
        if parts.is_empty() {
            return Err(ApiError::invalid(format!(
                "* GenerateContentRequest.{path}.parts: contents.parts must not be empty."
            )));
        }
        let mut turn = Self::default();
        for (index, part) in parts.iter().enumerate() {
            turn.part(part, &format!("{path}.parts[{index}]"))?;
        }
        Ok(turn)
    }

    fn part(&mut self, part: &Value, path: &str) -> Result<(), ApiError> {
        let part = Object::read(part, path, &PART_FIELDS)?;
        if DATA_FIELDS.iter().filter(|name| part.get(name).is_some()).count() != 1 {
            let why = "required oneof field 'data' must have one initialized field";
            return Err(Mistake::value(&format!("{path}.data"), why).into());
        }
        self.text.push_str(part.optional_text("text")?.unwrap_or_default());
        if let Some(blob) = part.object("inlineData", &["mimeType", "data", "displayName"])? {
            blob.text("mimeType")?;
            if !is_base64(blob.text("data")?) {
                return Err(Mistake::value(&blob.at("data"), "Base64 decoding failed").into());
            }
            self.images += 1;
        }
        if let Some(file) = part.object("fileData", &["mimeType", "fileUri", "displayName"])? {
            file.text("fileUri")?;
            self.images += 1;
        }
        if let Some(call) = part.object("functionCall", &["id", "name", "args"])? {
            call.text("name")?;
            // Of calls made at once only the first is sealed.
            self.unsealed |= self.calls == 0 && part.get("thoughtSignature").is_none();
            self.calls += 1;
        }
        if let Some(response) = part
            .object("functionResponse", &["id", "name", "response", "willContinue", "scheduling", "parts"])?
        {
            response.text("name")?;
            let given = response.required("response")?;
            let given = given
                .as_object()
                .ok_or_else(|| Mistake::value(&response.at("response"), "must be a Struct"))?;
            self.text.push_str(given.get("result").and_then(Value::as_str).unwrap_or_default());
            self.responses += 1;
        }
        Ok(())
    }
}

/// Whether a text is standard base64 (RFC 4648, 4) with its padding.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits.bytes().all(allowed)
}
