//! The words of an HTML or XML page: proxies and load balancers answer with one where a program
//! expects JSON, and what is between the tags is all that it says.

/// The code that an error gets whose body is a page.
pub const PAGE_CODE: &str = "html_page";

/// How a page begins, in lower case.
const BEGINNINGS: [&str; 4] = ["<!doctype", "<html", "<?xml", "<error>"];
/// Elements whose content nobody reads.
const UNREAD: [&str; 3] = ["<script", "<style", "<!--"];
/// Their ends, in the same order.
const UNREAD_ENDS: [&str; 3] = ["</script", "</style", "-->"];
/// Characters as pages write them.
const ENTITIES: [(&str, &str); 5] =
    [("&nbsp;", " "), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'"), ("&amp;", "&")];

/// What a reader of `text` sees of it, if there is a page in it; what stands before the page stays.
#[must_use]
pub fn words(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let start = BEGINNINGS.iter().filter_map(|beginning| lower.find(beginning)).min().or_else(|| {
        let is_tag = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic());
        lower.trim_start().strip_prefix('<').filter(|rest| is_tag(rest) && rest.contains("</")).map(|_| 0)
    })?;
    let (before, mut rest) = (text.get(..start)?, text.get(start..)?);
    let mut words = vec![before];
    while let Some(open) = rest.find('<') {
        let (seen, tag) = rest.split_at_checked(open)?;
        words.push(seen);
        rest = after_tag(tag);
    }
    words.push(rest);
    let mut read = words.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    for (entity, character) in ENTITIES {
        read = read.replace(entity, character);
    }
    Some(read)
}

/// What follows the tag that `text` begins with, or the element if nobody reads what is in it. A tag
/// without an end takes the rest: the page was cut off in it.
fn after_tag(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    let unread = UNREAD.iter().zip(UNREAD_ENDS).find(|(name, _)| lower.starts_with(**name));
    let from = unread.map_or(Some(0), |(_, end)| lower.find(end));
    let end = from.and_then(|from| text.get(from..)?.find('>').map(|at| from + at + 1));
    end.and_then(|end| text.get(end..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_a_reader_sees_is_left() {
        for (page, seen) in [
            (
                "<html>\r\n<head><title>502 Bad Gateway</title></head>\n<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center>",
                "502 Bad Gateway 502 Bad Gateway nginx",
            ),
            (
                "<!DOCTYPE html><style>h1 {color: red}</style><script>if (a < b) {}</script><p>Can&#39;t &amp; won&#39;t",
                "Can't & won't",
            ),
            (
                "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>No access",
                "AccessDenied No access",
            ),
            ("Error 403: <HTML><!-- a > b --><h1>Forbidden</h1><scr", "Error 403: Forbidden"),
        ] {
            assert_eq!(words(page).as_deref(), Some(seen), "{page}");
        }
    }

    #[test]
    fn what_is_no_page_is_left_alone() {
        for text in
            ["<num> of <num> failed", "a < b and c > d", "{\"error\":\"<str>\"}", "", "max <html", "<"]
        {
            let page = words(text);
            assert!(page.is_none() || text.contains("<html"), "{text}: {page:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_read(text in "(<[a-z/!-]{0,6}>?|html|script|\\PC){0,60}") {
            let _ = words(&text);
            let _ = words(&format!("<html>{text}"));
        }
    }
}
