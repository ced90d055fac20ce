//! Changes to the text of an Envoy configuration that fail when they have nothing to change.

use super::error::HarnessError;

/// Replaces the only occurrence of `from`.
///
/// # Errors
/// It does not occur exactly once.
pub fn replace_once(text: &str, from: &str, to: &str) -> Result<String, HarnessError> {
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        count => Err(HarnessError::Program(format!("`{from}` occurs {count} times, expected once"))),
    }
}

/// Puts an item at the start of the first YAML list under a line `key:`. The lines of `item` are
/// indented as the list is; the first begins with `- `.
///
/// # Errors
/// There is no such list in block style.
pub fn prepend_item(yaml: &str, key: &str, item: &str) -> Result<String, HarnessError> {
    let lines: Vec<&str> = yaml.lines().collect();
    let wanted = format!("{key}:");
    let is_key = |line: &&str| line.trim_start_matches(['-', ' ']) == wanted;
    let at = lines.iter().position(is_key).map(|at| at + 1);
    let comment = |line: &&&str| line.trim_start().starts_with('#');
    let skipped = at.map_or(0, |at| lines[at..].iter().take_while(comment).count());
    let first = at.and_then(|at| lines.get(at + skipped)).filter(|line| line.trim_start().starts_with("- "));
    let (Some(at), Some(first)) = (at, first) else {
        return Err(HarnessError::Program(format!("the Envoy config has no block list `{key}`")));
    };
    let indent = " ".repeat(first.len() - first.trim_start().len());
    let mut out: Vec<String> = lines[..at].iter().map(|line| (*line).to_owned()).collect();
    out.extend(item.lines().map(|line| format!("{indent}{line}")));
    out.extend(lines[at..].iter().map(|line| (*line).to_owned()));
    Ok(out.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_needs_exactly_one_place() {
        assert_eq!(replace_once("a b", "b", "c").unwrap(), "a c");
        assert!(replace_once("a a", "a", "c").is_err());
        assert!(replace_once("a", "b", "c").is_err());
    }

    #[test]
    fn an_item_is_put_first_with_the_lists_indent() {
        let yaml = "x:\n  - routes:\n      # why\n      - match: 1\n";
        let patched = prepend_item(yaml, "routes", "- match: 0\n  more: 2").unwrap();
        assert_eq!(
            patched,
            "x:\n  - routes:\n      - match: 0\n        more: 2\n      # why\n      - match: 1\n"
        );
        assert!(prepend_item(yaml, "clusters", "- a").is_err());
        assert!(prepend_item("routes: []", "routes", "- a").is_err());
    }
}
