//! What an emulated provider needs to know of a conversation, whatever protocol it came in.

use super::text;

/// The user's last turn, and the size of all.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The text that the user said last, or a tool's result.
    pub(super) last_text: String,
    /// The last turn has a tool's result.
    pub(super) is_tool_result: bool,
    /// Pictures of the last turn.
    pub(super) images: usize,
    /// Tokens of everything.
    pub(super) tokens: usize,
    /// Uses of tools that have no result yet.
    open_uses: Vec<String>,
}

impl Heard {
    /// A message begins; the uses of tools that it has to give results of.
    pub(super) fn begin(&mut self, is_user: bool) -> Vec<String> {
        if is_user {
            self.last_text.clear();
            (self.images, self.is_tool_result) = (0, false);
        }
        std::mem::take(&mut self.open_uses)
    }

    /// Something is said.
    pub(super) fn say(&mut self, is_user: bool, said: &str) {
        self.tokens += text::tokens(said).len();
        if is_user {
            self.last_text.push_str(said);
        }
    }

    /// A picture, or a document, of so many tokens.
    pub(super) fn show(&mut self, tokens: usize) {
        self.images += 1;
        self.tokens += tokens;
    }

    /// A tool is used.
    pub(super) fn use_tool(&mut self, id: &str) {
        self.open_uses.push(id.to_owned());
    }

    /// Whether uses of tools wait for their results.
    pub(super) fn waits(&self) -> bool {
        !self.open_uses.is_empty()
    }
}
