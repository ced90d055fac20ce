//! The support tables of docs/providers.md and README.md: what translation does with each feature
//! for each type of provider, found out by translating. `UPDATE_GOLDEN=1` writes the tables anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_core::provider::{Dialect, Fit, Format, Front, Vendor, Written, read_request, write_request};
use tidegate_core::reply::Reply;

/// A feature, and the fields by which a caller asks for it.
struct Feature {
    title: &'static str,
    fields: Value,
}

/// A type of provider as one column or row.
struct Kind {
    name: String,
    format: Format,
    dialect: Dialect,
    model: &'static str,
}

fn feature(title: &'static str, fields: Value) -> Feature {
    Feature { title, fields }
}

fn user(content: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

const PIXEL: &str = "iVBORw0KGgo=";

fn openai_features() -> Vec<Feature> {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let called = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"}]);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}});
    vec![
        feature("streams", json!({"stream": true})),
        feature(
            "`system` and `developer` messages",
            json!({"messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}]}),
        ),
        feature("`tools`", json!({"tools": [tool]})),
        feature("tools' results", json!({"tools": [tool], "messages": called})),
        feature("`tool_choice: required`", json!({"tools": [tool], "tool_choice": "required"})),
        feature("`parallel_tool_calls: false`", json!({"tools": [tool], "parallel_tool_calls": false})),
        feature(
            "pictures, in the request",
            user(
                &json!([{"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{PIXEL}")}}]),
            ),
        ),
        feature(
            "pictures, by URL",
            user(&json!([{"type": "image_url", "image_url": {"url": "https://h/a.png"}}])),
        ),
        feature(
            "sound",
            user(&json!([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}])),
        ),
        feature(
            "files, in the request",
            user(
                &json!([{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}]),
            ),
        ),
        feature("`response_format: json_object`", json!({"response_format": {"type": "json_object"}})),
        feature("`response_format: json_schema`", json!({"response_format": schema})),
        feature("`reasoning_effort`", json!({"reasoning_effort": "high"})),
        feature("`logprobs`", json!({"logprobs": true})),
        feature("`temperature`, `top_p`", json!({"temperature": 0.5, "top_p": 0.9})),
        feature("`max_tokens`", json!({"max_tokens": 7})),
        feature("`stop`", json!({"stop": ["END"]})),
        feature("`seed`", json!({"seed": 7})),
        feature(
            "`presence_penalty`, `frequency_penalty`",
            json!({"presence_penalty": 0.5, "frequency_penalty": 0.5}),
        ),
        feature("`logit_bias`", json!({"logit_bias": {"50": 1}})),
        feature("`user`", json!({"user": "u1"})),
    ]
}

fn anthropic_features() -> Vec<Feature> {
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    let called = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"}]}]);
    let picture = |source: Value| user(&json!([{"type": "image", "source": source}]));
    let schema = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
    vec![
        feature("streams", json!({"stream": true})),
        feature("`system`", json!({"system": [{"type": "text", "text": "be brief"}]})),
        feature("`tools`", json!({"tools": [tool]})),
        feature("tools' results", json!({"tools": [tool], "messages": called})),
        feature("`tool_choice: any`", json!({"tools": [tool], "tool_choice": {"type": "any"}})),
        feature(
            "`disable_parallel_tool_use`",
            json!({"tools": [tool], "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
        ),
        feature(
            "pictures, in the request",
            picture(json!({"type": "base64", "media_type": "image/png", "data": PIXEL})),
        ),
        feature("pictures, by URL", picture(json!({"type": "url", "url": "https://h/a.png"}))),
        feature(
            "documents, in the request",
            user(
                &json!([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}]),
            ),
        ),
        feature("`output_config.format`", json!({"output_config": schema})),
        feature("`thinking`", json!({"thinking": {"type": "enabled", "budget_tokens": 2048}})),
        feature("`temperature`, `top_p`", json!({"temperature": 0.5, "top_p": 0.9})),
        feature("`top_k`", json!({"top_k": 5})),
        feature("`stop_sequences`", json!({"stop_sequences": ["END"]})),
        feature("`metadata.user_id`", json!({"metadata": {"user_id": "u1"}})),
    ]
}

/// The kinds of providers: a type, or a type at its own host where that makes a difference.
fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind {
        name: "`openai` at `api.openai.com`".to_owned(),
        format: Format::OpenAi,
        dialect: Vendor::OpenAi.dialect_at("api.openai.com"),
        model: "gpt-4o",
    }];
    kinds.extend(Vendor::ALL.iter().map(|vendor| {
        let name = match vendor {
            Vendor::OpenAi => "`openai_compatible`".to_owned(),
            vendor => format!("`{}`", vendor.label()),
        };
        let model = match vendor.format() {
            Format::OpenAi => "model-1",
            Format::Anthropic => "claude-sonnet-4-5",
            Format::Gemini => "gemini-2.5-flash",
            Format::Bedrock => "anthropic.claude-sonnet-4-5-20250929-v1:0",
            Format::Ernie => "ernie-4.0-8k",
        };
        Kind { name, format: vendor.format(), dialect: vendor.dialect(), model }
    }));
    kinds
}

fn translate(front: Front, kind: &Kind, fields: &Value) -> Result<(Written, bool), Reply> {
    let mut body =
        json!({"model": kind.model, "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]});
    let members = body.as_object_mut().expect("an object");
    members.extend(fields.as_object().expect("an object").clone());
    let mut fit = Fit::strict();
    let request = read_request(front, body.to_string().as_bytes(), &mut fit)?;
    let streams = request.stream;
    Ok((write_request(kind.format, &kind.dialect, request, &mut fit)?, streams))
}

/// What becomes of a feature, in a word or two.
fn cell(front: Front, kind: &Kind, fields: &Value) -> &'static str {
    if kind.format.takes(front, &kind.dialect) {
        return "as it is";
    }
    let plain = translate(front, kind, &json!({})).expect("a plain request is translated");
    match translate(front, kind, fields) {
        Err(_) => "no",
        Ok((written, _)) if written.schema_tool.is_some() => "by a tool",
        Ok(translated) if translated == plain => "left out",
        Ok(_) => "yes",
    }
}

/// Columns that are alike in every row become one.
fn merged<T: PartialEq>(columns: Vec<(String, T)>) -> Vec<(String, T)> {
    let mut out: Vec<(String, T)> = Vec::new();
    for (name, cells) in columns {
        match out.iter_mut().find(|(_, other)| *other == cells) {
            Some((names, _)) => {
                names.push_str(", ");
                names.push_str(&name);
            }
            None => out.push((name, cells)),
        }
    }
    out
}

fn features_table(front: Front, features: &[Feature]) -> String {
    let columns = kinds().into_iter().map(|kind| {
        let cells: Vec<_> = features.iter().map(|feature| cell(front, &kind, &feature.fields)).collect();
        (kind.name, cells)
    });
    // What passes as it is needs no column: every row would say so.
    let columns = merged(columns.filter(|(_, cells)| cells.iter().any(|cell| *cell != "as it is")).collect());
    let mut out = String::from("| |");
    columns.iter().for_each(|(name, _)| write!(out, " {name} |").expect("written"));
    out.push_str("\n|---|");
    columns.iter().for_each(|_| out.push_str("---|"));
    out.push('\n');
    for (row, feature) in features.iter().enumerate() {
        write!(out, "| {} |", feature.title).expect("written");
        columns.iter().for_each(|(_, cells)| write!(out, " {} |", cells[row]).expect("written"));
        out.push('\n');
    }
    out
}

const FRONTS: [Front; 4] = [Front::Chat, Front::Completions, Front::Responses, Front::Messages];

fn protocols_table() -> String {
    let local = Kind {
        name: "`local`".to_owned(),
        format: Format::OpenAi,
        dialect: Vendor::OpenAi.dialect(),
        model: "",
    };
    let rows = kinds().into_iter().chain([local]).map(|kind| {
        let mut cells: Vec<&str> = FRONTS
            .iter()
            .map(|front| if kind.format.takes(*front, &kind.dialect) { "as it is" } else { "translated" })
            .collect();
        cells.push(match kind.format {
            Format::OpenAi => "as it is",
            Format::Anthropic => "none",
            Format::Gemini | Format::Bedrock | Format::Ernie => "translated",
        });
        (kind.name, cells)
    });
    let mut out = String::from(
        "| `type` of provider | chat completions | completions | responses | Anthropic messages | embeddings |\n\
         |---|---|---|---|---|---|\n",
    );
    for (names, cells) in merged(rows.collect()) {
        writeln!(out, "| {names} | {} |", cells.join(" | ")).expect("written");
    }
    out
}

fn check(file: &str, name: &str, table: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let page = fs::read_to_string(&path).expect("readable");
    let (begin, end) =
        (format!("<!-- {name}, made by core/tests/support.rs -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{file} lacks {begin}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file} lacks {end}"));
    let wanted = format!("\n{table}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).expect("writable");
    } else {
        assert!(
            found == wanted,
            "{file} has another table of {name}; UPDATE_GOLDEN=1 writes it. It is:\n{table}"
        );
    }
}

#[test]
fn the_documentation_says_what_translation_does() {
    check(
        "docs/providers.md",
        "features of OpenAI's callers",
        &features_table(Front::Chat, &openai_features()),
    );
    check(
        "docs/providers.md",
        "features of Anthropic's callers",
        &features_table(Front::Messages, &anthropic_features()),
    );
}

#[test]
fn the_readme_names_every_provider_and_protocol() {
    check("README.md", "providers and protocols", &protocols_table());
}
