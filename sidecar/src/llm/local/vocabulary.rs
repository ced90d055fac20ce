//! From text to token ids and from token ids to bytes, for byte-level BPE vocabularies
//! (GPT-2's scheme, Radford et al. 2019, 2.2).

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

/// GGUF's type of a normal token; everything else is control, unknown or unused.
const TOKEN_TYPE_NORMAL: i32 = 1;

/// A model's vocabulary.
#[derive(Debug)]
pub struct Vocabulary {
    tokenizer: Tokenizer,
    /// Bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    /// Whether the token at this id is control rather than text.
    control: Vec<bool>,
    token_bytes_max: usize,
}

impl Vocabulary {
    /// Reads the vocabulary of a GGUF file.
    ///
    /// # Errors
    /// What is missing in the file or not supported.
    pub fn read(content: &Content) -> Result<Self, String> {
        let mut tokenizer = Tokenizer::from_gguf(content).map_err(|e| format!("its tokenizer: {e}"))?;
        if text(content, "tokenizer.ggml.pre") == Some("smollm") {
            // Candle takes this scheme for GPT-2's, which would join digits and put a space
            // before every text.
            let splits = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
            tokenizer.with_pre_tokenizer(Some(Sequence::new(splits)));
        }
        // What a caller writes is text, even if it looks like a control token.
        tokenizer.set_encode_special_tokens(true);
        let control = control_tokens(content)?;
        let mut vocabulary =
            Self { tokenizer, bytes: Vec::new(), ends: Vec::new(), control, token_bytes_max: 1 };
        vocabulary.fill_bytes();
        Ok(vocabulary)
    }

    fn fill_bytes(&mut self) {
        let size = self.tokenizer.get_vocab_size(true);
        self.ends.reserve(size);
        for id in 0..u32::try_from(size).unwrap_or(u32::MAX) {
            if !self.is_control(id)
                && let Some(token) = self.tokenizer.id_to_token(id)
            {
                self.bytes.extend(token.chars().filter_map(byte_of));
            }
            let start = self.ends.last().copied().unwrap_or(0);
            self.token_bytes_max = self.token_bytes_max.max(self.bytes.len() - start);
            self.ends.push(self.bytes.len());
        }
    }

    /// Token ids of a text, none of them control.
    ///
    /// # Errors
    /// What the tokenizer has to say.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoded = self.tokenizer.encode_fast(text, false).map_err(|e| e.to_string())?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The bytes a token stands for; none for control tokens and ids that do not exist.
    #[must_use]
    pub fn bytes_of(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = id.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(id).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Whether a token is control: produced by a model, it ends the text.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.control.get(id as usize).copied().unwrap_or(true)
    }

    /// The id of a token by its name.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Fewest tokens that `bytes` bytes of text can become: tells texts that are far too long
    /// without encoding them.
    #[must_use]
    pub const fn tokens_min(&self, bytes: usize) -> usize {
        bytes / self.token_bytes_max
    }
}

/// A text value of the file's metadata.
pub fn text<'a>(content: &'a Content, key: &str) -> Option<&'a str> {
    content.metadata.get(key)?.to_string().ok().map(String::as_str)
}

fn control_tokens(content: &Content) -> Result<Vec<bool>, String> {
    let Some(Value::Array(types)) = content.metadata.get("tokenizer.ggml.token_type") else {
        return Err("it has no token types (tokenizer.ggml.token_type)".to_owned());
    };
    let is_control = |kind: &Value| match kind {
        Value::I32(kind) => *kind != TOKEN_TYPE_NORMAL,
        _ => true,
    };
    Ok(types.iter().map(is_control).collect())
}

/// The byte that a character of the vocabulary stands for. Printable Latin-1 characters stand
/// for themselves; the 68 others are numbered from U+0100 on.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    if let Ok(byte) = u8::try_from(code) {
        return stands_for_itself(byte).then_some(byte);
    }
    let nth = usize::try_from(code.checked_sub(0x100)?).ok()?;
    (0..=u8::MAX).filter(|b| !stands_for_itself(*b)).nth(nth)
}

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let chars = (0..0x180).filter_map(char::from_u32);
        let mut bytes: Vec<u8> = chars.filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
        assert_eq!(byte_of('你'), None);
    }
}
