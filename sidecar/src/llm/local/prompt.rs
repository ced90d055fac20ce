//! Conversations in the form the model was trained on: ChatML.

use super::vocabulary::Vocabulary;

/// Opens a turn.
const START: &str = "<|im_start|>";
/// Closes a turn.
const END: &str = "<|im_end|>";
/// Begins a document; what a model continues when it is given no text.
const DOCUMENT: &str = "<|endoftext|>";

/// What the model is to answer or to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation.
    Chat(Vec<Turn>),
    /// A text.
    Text(String),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Whose it is.
    pub role: &'static str,
    /// What it says.
    pub content: String,
}

impl Prompt {
    /// Bytes of text in the prompt.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Chat(turns) => turns.iter().map(|turn| turn.content.len()).sum(),
            Self::Text(text) => text.len(),
        }
    }

    /// The request's field that holds it.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Chat(_) => "messages",
            Self::Text(_) => "prompt",
        }
    }
}

/// Writes prompts for one model.
#[derive(Debug)]
pub struct Template {
    start: u32,
    end: u32,
    document: u32,
    default_system: Option<String>,
}

impl Template {
    /// Takes the model's own template (Jinja, as in `tokenizer.chat_template`) for ChatML.
    ///
    /// # Errors
    /// A template or a vocabulary of another kind.
    pub fn new(jinja: &str, vocabulary: &Vocabulary) -> Result<Self, String> {
        if !jinja.contains(START) {
            return Err(format!("its chat template is not ChatML ({START}), the only kind supported"));
        }
        let id = |token: &str| {
            vocabulary.id_of(token).ok_or_else(|| format!("its vocabulary has no token {token}"))
        };
        Ok(Self {
            start: id(START)?,
            end: id(END)?,
            document: id(DOCUMENT).or_else(|_| id(END))?,
            default_system: default_system(jinja),
        })
    }

    /// Token ids of a prompt, ready for the model's answer.
    ///
    /// # Errors
    /// What the tokenizer has to say.
    pub fn encode(&self, prompt: &Prompt, vocabulary: &Vocabulary) -> Result<Vec<u32>, String> {
        match prompt {
            Prompt::Text(text) if text.is_empty() => Ok(vec![self.document]),
            Prompt::Text(text) => vocabulary.encode(text),
            Prompt::Chat(turns) => self.encode_chat(turns, vocabulary),
        }
    }

    fn encode_chat(&self, turns: &[Turn], vocabulary: &Vocabulary) -> Result<Vec<u32>, String> {
        let line_end = vocabulary.encode("\n")?;
        let mut ids = Vec::new();
        let mut turn = |role: &str, content: &str| -> Result<(), String> {
            ids.push(self.start);
            ids.extend(vocabulary.encode(&format!("{role}\n{content}"))?);
            ids.push(self.end);
            ids.extend_from_slice(&line_end);
            Ok(())
        };
        if let Some(system) = &self.default_system
            && turns.first().is_none_or(|first| first.role != "system")
        {
            turn("system", system)?;
        }
        for Turn { role, content } in turns {
            turn(role, content)?;
        }
        ids.push(self.start);
        ids.extend(vocabulary.encode("assistant\n")?);
        Ok(ids)
    }
}

/// The system message that a template gives a conversation without one, if it has one.
fn default_system(jinja: &str) -> Option<String> {
    let (_, after) = jinja.split_once("<|im_start|>system")?;
    let (text, _) = after.split_once(END)?;
    let text = text.trim_start_matches("\\n").trim();
    (!text.is_empty() && !text.contains(['{', '\''])).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_system_message_is_found_in_either_spelling_of_line_ends() {
        assert_eq!(
            default_system("{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}").as_deref(),
            Some("Be kind")
        );
        assert_eq!(
            default_system("{{ '<|im_start|>system\\nBe kind<|im_end|>' }}").as_deref(),
            Some("Be kind")
        );
        assert_eq!(default_system("{{ '<|im_start|>system\n' + content + '<|im_end|>' }}"), None);
        assert_eq!(default_system("{{ '<|im_start|>' + role }}"), None);
    }
}
