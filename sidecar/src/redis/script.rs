//! Scripts that run inside of Redis, all in one file.

use redis::Script;

const FILE: &str = include_str!("scripts.lua");
const BEGIN: &str = "-- script: ";

/// The script of this name, one of `scripts.lua`.
#[must_use]
pub fn script(name: &str) -> Script {
    Script::new(body(name).unwrap_or_default())
}

fn body(name: &str) -> Option<&'static str> {
    let mut parts = FILE.split(BEGIN).skip(1);
    parts.find_map(|part| part.split_once('\n').filter(|(first, _)| *first == name).map(|(_, body)| body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_is_found_and_ends_where_the_next_begins() {
        for name in ["lease", "usage"] {
            let body = body(name).expect(name);
            assert!(body.trim_end().ends_with("return answer"), "{name}");
            assert!(!body.contains(BEGIN), "{name}");
        }
        assert_eq!(body("leas"), None);
    }
}
