//! A text in the pieces in which a model would have said it.

/// Words of a piece: few enough to look alive, many enough not to cost more in frames than in
/// words.
const WORDS: usize = 4;
/// Letters of a script without spaces that count as a word.
const LETTERS: usize = 4;

/// Splits `text` after every few words; put together, the pieces are the text.
pub fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut words, mut letters) = (0, 0, 0);
    let mut was_space = false;
    for (at, c) in text.char_indices() {
        if was_space && !c.is_whitespace() {
            words += 1;
            letters = 0;
        }
        if !c.is_ascii() {
            letters += 1;
            if letters == LETTERS {
                words += 1;
                letters = 0;
            }
        }
        if words >= WORDS && at > start {
            pieces.extend(text.get(start..at));
            (start, words) = (at, 0);
        }
        was_space = c.is_whitespace();
    }
    pieces.extend(text.get(start..).filter(|rest| !rest.is_empty()));
    pieces
}
