//! What translation does with each feature of each front for each type of provider, found out by
//! translating: golden files of what is sent, and the support tables of docs/providers.md and
//! README.md. `UPDATE_GOLDEN=1` writes all of them, to be read before they are committed.

mod features;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_core::provider::{
    Dialect, Fit, Format, Front, Vendor, Written, adapt_openai_request, read_request, write_request,
};
use tidegate_core::reply::Reply;

use self::features::Feature;

/// A type of provider as one column or row.
struct Kind {
    name: String,
    vendor: Vendor,
    dialect: Dialect,
}

impl Kind {
    fn of(vendor: Vendor) -> Self {
        let name = match vendor {
            Vendor::OpenAi => "`openai_compatible`".to_owned(),
            vendor => format!("`{}`", vendor.label()),
        };
        Self { name, vendor, dialect: vendor.dialect() }
    }

    fn takes(&self, front: Front) -> bool {
        self.vendor.format().takes(front, &self.dialect)
    }

    /// A model that has what its type can do.
    const fn model(&self) -> &'static str {
        match self.vendor.format() {
            Format::OpenAi => "model-1",
            Format::Anthropic => "claude-sonnet-4-5",
            Format::Gemini => "gemini-2.5-flash",
            Format::Bedrock => "anthropic.claude-sonnet-4-5-20250929-v1:0",
            Format::Ernie => "ernie-4.0-8k",
        }
    }
}

/// The kinds of providers: a type, or a type at its own host where that makes a difference.
fn kinds() -> Vec<Kind> {
    let openai = Kind {
        name: "`openai` at `api.openai.com`".to_owned(),
        dialect: Vendor::OpenAi.dialect_at("api.openai.com"),
        vendor: Vendor::OpenAi,
    };
    std::iter::once(openai).chain(Vendor::ALL.iter().copied().map(Kind::of)).collect()
}

fn asked(front: Front, kind: &Kind, fields: &Value) -> Vec<u8> {
    let mut body = features::plain(front, kind.model());
    let members = body.as_object_mut().expect("an object");
    members.extend(fields.as_object().expect("an object").clone());
    body.to_string().into_bytes()
}

/// The request that the provider gets, and whether it is for a stream, which some have in the address.
fn translate(front: Front, kind: &Kind, fields: &Value) -> Result<(Written, bool), Reply> {
    let mut fit = Fit::strict();
    let request = read_request(front, &asked(front, kind, fields), &mut fit)?;
    let streams = request.stream;
    Ok((write_request(kind.vendor.format(), &kind.dialect, request, &mut fit)?, streams))
}

/// What becomes of a feature, in a word or two.
fn cell(front: Front, kind: &Kind, fields: &Value) -> &'static str {
    if kind.takes(front) {
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

/// What is sent for a feature, or the field that is refused.
fn sent(front: Front, kind: &Kind, fields: &Value) -> String {
    let body = if kind.takes(front) {
        let body = asked(front, kind, fields);
        let adapts = front == Front::Chat && kind.vendor.format() == Format::OpenAi;
        let adapted = if adapts { adapt_openai_request(&body, kind.vendor, &kind.dialect) } else { None };
        Ok(adapted.unwrap_or(body))
    } else {
        translate(front, kind, fields).map(|(written, _)| written.body)
    };
    match body {
        Ok(body) => format!("sent     {}", String::from_utf8(body).expect("UTF-8")),
        Err(reply) => format!("refused  {}", reply.param.expect("a refusal names its field")),
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

fn features_table(front: Front) -> String {
    let features = features::of(front);
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
    let local = Kind { name: "`local`".to_owned(), ..Kind::of(Vendor::OpenAi) };
    let rows = kinds().into_iter().chain([local]).map(|kind| {
        let mut cells: Vec<&str> =
            FRONTS.iter().map(|front| if kind.takes(*front) { "as it is" } else { "translated" }).collect();
        cells.push(match kind.vendor.format() {
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
        (format!("<!-- {name}, made by core/tests/support -->\n"), format!("<!-- end of {name} -->"));
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
    for (name, front) in [
        ("features of OpenAI's chat completions", Front::Chat),
        ("features of OpenAI's responses", Front::Responses),
        ("features of OpenAI's completions", Front::Completions),
        ("features of Anthropic's messages", Front::Messages),
    ] {
        check("docs/providers.md", name, &features_table(front));
    }
}

#[test]
fn the_readme_names_every_provider_and_protocol() {
    check("README.md", "providers and protocols", &protocols_table());
}

#[test]
fn every_feature_is_sent_as_its_golden_file_says() {
    for (folder, front) in [
        ("chat", Front::Chat),
        ("responses", Front::Responses),
        ("completions", Front::Completions),
        ("messages", Front::Messages),
    ] {
        let of_kind = |kind: &Kind| {
            features::of(front).iter().fold(String::new(), |mut out, Feature { title, fields }| {
                write!(out, "\n{title}\nasked    {fields}\n{}\n", sent(front, kind, fields))
                    .expect("written");
                out
            })
        };
        for (names, text) in merged(kinds().iter().map(|kind| (kind.name.clone(), of_kind(kind))).collect()) {
            let first = names.split(['`']).nth(1).expect("a type");
            golden(&format!("{folder}/{first}.txt"), &format!("{names}\n{text}"));
        }
    }
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/features").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(&path, text).expect("writable");
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (line, (found, wanted)) in text.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(found, wanted, "{} line {}; UPDATE_GOLDEN=1 writes it", path.display(), line + 1);
    }
    assert_eq!(text.lines().count(), wanted.lines().count(), "{}", path.display());
}
