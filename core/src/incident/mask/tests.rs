use proptest::prelude::*;

use super::*;

#[test]
fn each_kind_of_value_has_its_placeholder() {
    for (text, template) in [
        ("Limit 30000, Used 18928", "Limit <num>, Used <num>"),
        ("try again in 174ms or 6m0s", "try again in <dur> or <dur>"),
        ("organization org-66tr5xhH5yhaqZAy6PAIy1Xi.", "organization <id>."),
        ("id 0dccdde6-f924-4f1b-bb3b-92ef846e0a5b", "id <uuid>"),
        ("at 0x00004ed8 of fac8b65ed1c009c456a00410c4f6c376", "at <hex> of <hex>"),
        ("connect to api.openai.com:443 and 127.0.0.1:11434", "connect to <host> and <ip>"),
        ("see https://ai.dev/rate-limit.", "see <url>."),
        ("write to help@openai.com, please", "write to <email>, please"),
        ("rule: /var/www/html/", "rule: <path>"),
        ("since 2023-07-01-preview at 12:30:11", "since <time> at <time>"),
        ("you have $12.50 left", "you have <money> left"),
        ("for gpt-3.5-turbo and anthropic.claude-3-5-sonnet-20241022-v2:0", "for <model> and <model>"),
        ("key sk-KV28G***************************************uqQY", "key <key>"),
        ("the value 'my secret prompt' is wrong", "the value <str> is wrong"),
        ("image exceeds 5MB: 98% used", "image exceeds <num>: <num> used"),
        ("openai/o3-mini, o1", "<model>"),
    ] {
        assert_eq!(mask(text), template, "{text}");
    }
}

#[test]
fn words_of_the_apis_stay_and_positions_in_them_do_not() {
    for (text, template) in [
        ("Unsupported parameter: 'max_tokens' is", "Unsupported parameter: max_tokens is"),
        ("messages.33: `tool_use` ids", "messages.<num>: tool_use ids"),
        ("Invalid 'messages[3]'. Content", "Invalid messages.<num>. Content"),
        (
            "messages.120.content.0.image.source.base64: image",
            "messages.<num>.content.<num>.image.source.base64: image",
        ),
        (r#"{"type":"error","x's"}"#, "{type:<str>}"),
    ] {
        assert_eq!(mask(text), template, "{text}");
    }
}

#[test]
fn apostrophes_do_not_open_quotes_and_lists_are_one_value() {
    assert_eq!(mask("This model's limit isn't 4097"), "This model's limit isn't <num>");
    assert_eq!(mask("expected tags: 'bash_1', 'custom_x', 'y z'"), "expected tags: <str>");
    assert_eq!(mask("name dn910 dn911 dn912"), "name <id>");
}

#[test]
fn other_scripts_and_escapes_are_read() {
    assert_eq!(mask("错误信息: 每日请求次数已达 2000 次"), "错误信息: 每日请求次数已达 <num> 次");
    assert_eq!(mask(r#"{\n \"code\": 400,\n \"x\": 1}"#), "{ code: <num>, x: <num>}");
}

proptest! {
    #[test]
    fn any_text_gives_a_bounded_template(text in "\\PC{0,600}") {
        prop_assert!(mask(&text).len() <= TEMPLATE_BYTES_MAX);
    }

    #[test]
    fn the_template_of_a_template_is_itself(text in "([a-z]{1,8}|[0-9]{1,6}|[a-f0-9]{16}|gpt-[0-9]o|'[a-z0-9 ]{1,9}')( ([A-Z][a-z]{1,8}|[0-9]{1,6}ms|sk-[a-z]{9})){0,20}") {
        let template = mask(&text);
        prop_assert_eq!(mask(&template), template);
    }

    #[test]
    fn no_digits_remain(text in "[w-z ]{0,20}[0-9]{1,12}[w-zW-Z0-9 .,:/-]{0,40}") {
        let template = mask(&text);
        prop_assert!(!template.bytes().any(|b| b.is_ascii_digit()), "{}", template);
    }
}
