//! What errors mean, by labelled exemplars: the document, and the library made of it.

use std::collections::HashMap;

use serde::Deserialize;

use super::features::features;
use super::text::ErrorText;
use super::{ErrorKind, StatusClass};

/// Most meanings in a library.
pub const MEANINGS_MAX: usize = 512;
/// Most examples in a library.
pub const EXAMPLES_MAX: usize = 8192;
/// Most codes, phrases or statuses of one meaning.
const CUES_MAX: usize = 512;

/// One meaning, as files have it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meaning {
    /// Its name, one per meaning.
    pub name: String,
    /// What may be done about it.
    pub kind: ErrorKind,
    /// Codes, types, statuses in words, and names of exceptions.
    #[serde(default)]
    pub codes: Vec<String>,
    /// HTTP statuses it usually has.
    #[serde(default)]
    pub statuses: Vec<u16>,
    /// Words that tell it from other meanings, in lower case as in a template.
    #[serde(default)]
    pub phrases: Vec<String>,
    /// Whole messages.
    #[serde(default)]
    pub examples: Vec<String>,
}

/// Why a list of meanings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMeaning {
    /// Where, as in `[3].phrases`.
    pub path: String,
    /// What is wrong and how to mend it.
    pub what: String,
}

/// A cue and the meanings it speaks for, with what it weighs for each.
#[derive(Debug, Clone)]
pub(super) struct Cue {
    pub(super) text: String,
    pub(super) speaks_for: Vec<(usize, f32)>,
}

/// An example, ready to be compared with.
#[derive(Debug, Clone)]
pub(super) struct Example {
    pub(super) meaning: usize,
    pub(super) template: String,
}

/// All meanings, ready to be compared with.
#[derive(Debug, Clone)]
pub struct Library {
    pub(super) meanings: Vec<Meaning>,
    pub(super) examples: Vec<Example>,
    pub(super) phrases: Vec<Cue>,
    pub(super) codes: HashMap<String, Vec<(usize, f32)>>,
    pub(super) statuses: HashMap<u16, Vec<(usize, f32)>>,
    /// Inverse document frequency by feature.
    pub(super) idf: HashMap<u32, f32>,
    /// By feature: the examples that have it, with its weight in them.
    pub(super) postings: HashMap<u32, Vec<(u32, f32)>>,
}

impl Library {
    /// Makes a library of `meanings`; a name that comes again adds to the first.
    ///
    /// # Errors
    /// The first meaning that is not one.
    pub fn new(meanings: Vec<Meaning>) -> Result<Self, BadMeaning> {
        let meanings = merged(meanings)?;
        let mut examples = Vec::new();
        for (index, meaning) in meanings.iter().enumerate() {
            let of = |text: &String| Example {
                meaning: index,
                template: lowered(&ErrorText::read(text).template()),
            };
            examples.extend(meaning.examples.iter().map(of).filter(|example| !example.template.is_empty()));
        }
        if examples.len() > EXAMPLES_MAX {
            let what = format!("there are {} examples; at most {EXAMPLES_MAX} are allowed", examples.len());
            return Err(BadMeaning { path: String::new(), what });
        }
        let (idf, postings) = index(&examples);
        let phrases = phrases(&meanings, &examples);
        let codes = shared(&meanings, |m| m.codes.iter().map(|code| code.to_ascii_lowercase()).collect());
        let statuses = shared(&meanings, |m| m.statuses.clone());
        Ok(Self { meanings, examples, phrases, codes, statuses, idf, postings })
    }

    /// The meaning at `index`.
    #[must_use]
    pub fn meaning(&self, index: usize) -> Option<&Meaning> {
        self.meanings.get(index)
    }

    /// The templates of all examples, in a fixed order: what an embedding is computed of.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        self.examples.iter().map(|example| example.template.as_str())
    }

    /// The kind that a status alone suggests, for errors whose words say nothing.
    #[must_use]
    pub const fn kind_of_status(status: Option<u16>) -> ErrorKind {
        match status {
            Some(401 | 403) => ErrorKind::Auth,
            Some(402) => ErrorKind::Quota,
            Some(404 | 410) => ErrorKind::NotFound,
            Some(408 | 504 | 522 | 524) => ErrorKind::Timeout,
            Some(413) => ErrorKind::ContextTooLong,
            Some(429) => ErrorKind::RateLimited,
            Some(451) => ErrorKind::ContentRefused,
            Some(503 | 529) => ErrorKind::Overloaded,
            Some(525 | 526) => ErrorKind::Network,
            _ => match StatusClass::of(status) {
                StatusClass::Client => ErrorKind::InvalidRequest,
                StatusClass::Server => ErrorKind::UpstreamBug,
                StatusClass::None | StatusClass::Ok => ErrorKind::Unknown,
            },
        }
    }
}

/// A template as phrases and examples are compared with it.
pub(super) fn lowered(template: &str) -> String {
    template.to_lowercase().replace(['’', '‘'], "'")
}

fn merged(list: Vec<Meaning>) -> Result<Vec<Meaning>, BadMeaning> {
    let mut meanings: Vec<Meaning> = Vec::new();
    for (at, meaning) in list.into_iter().enumerate() {
        let bad =
            |field: &str, what: &str| BadMeaning { path: format!("[{at}]{field}"), what: what.to_owned() };
        if meaning.name.is_empty() || meaning.name.len() > 64 || !meaning.name.bytes().all(is_name_byte) {
            return Err(bad(".name", "must be 1 to 64 of a-z A-Z 0-9 _ . -"));
        }
        if meaning.kind == ErrorKind::Unknown {
            return Err(bad(".kind", "is unknown; an exemplar is of a kind that is known"));
        }
        if meaning.phrases.iter().any(|phrase| phrase.trim().chars().count() < 2) {
            return Err(bad(
                ".phrases",
                "has a phrase of less than two characters; it would be found anywhere",
            ));
        }
        if meaning.phrases.len() > CUES_MAX || meaning.codes.len() > CUES_MAX {
            return Err(bad("", "has too many phrases or codes; at most 512 of each are allowed"));
        }
        match meanings.iter_mut().find(|known| known.name == meaning.name) {
            Some(known) if known.kind != meaning.kind => {
                let what = format!("`{}` is of kind {} already; use another name", known.name, known.kind);
                return Err(bad(".kind", &what));
            }
            Some(known) => {
                known.codes.extend(meaning.codes);
                known.statuses.extend(meaning.statuses);
                known.phrases.extend(meaning.phrases);
                known.examples.extend(meaning.examples);
            }
            None => meanings.push(meaning),
        }
    }
    if meanings.len() > MEANINGS_MAX {
        let what = format!("there are {} meanings; at most {MEANINGS_MAX} are allowed", meanings.len());
        return Err(BadMeaning { path: String::new(), what });
    }
    Ok(meanings)
}

const fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')
}

/// TF-IDF over the examples, each scaled to length 1.
#[expect(clippy::type_complexity, reason = "two maps that are made together")]
fn index(examples: &[Example]) -> (HashMap<u32, f32>, HashMap<u32, Vec<(u32, f32)>>) {
    let all: Vec<Vec<(u32, f32)>> = examples.iter().map(|example| features(&example.template)).collect();
    let mut idf: HashMap<u32, f32> = HashMap::new();
    for (hash, _) in all.iter().flatten() {
        *idf.entry(*hash).or_default() += 1.0;
    }
    let count = all.len() as f32;
    idf.values_mut().for_each(|documents| *documents = ((1.0 + count) / (1.0 + *documents)).ln() + 1.0);
    let mut postings: HashMap<u32, Vec<(u32, f32)>> = HashMap::new();
    for (at, list) in (0_u32..).zip(&all) {
        let weigh = |(hash, weight): &(u32, f32)| weight * idf.get(hash).copied().unwrap_or(1.0);
        let length = list.iter().map(|f| weigh(f).powi(2)).sum::<f32>().sqrt().max(f32::EPSILON);
        for feature in list {
            postings.entry(feature.0).or_default().push((at, weigh(feature) / length));
        }
    }
    (idf, postings)
}

/// Phrases with what they weigh: the share of their own meaning among the examples that have
/// them, so a phrase that other meanings use too says little.
fn phrases(meanings: &[Meaning], examples: &[Example]) -> Vec<Cue> {
    let mut cues: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, meaning) in meanings.iter().enumerate() {
        for phrase in &meaning.phrases {
            let owners = cues.entry(lowered(phrase)).or_default();
            if !owners.contains(&index) {
                owners.push(index);
            }
        }
    }
    let mut cues: Vec<Cue> = cues
        .into_iter()
        .map(|(text, owners)| {
            let with = |owner: Option<usize>| {
                let hit = |e: &&Example| owner.is_none_or(|o| o == e.meaning) && e.template.contains(&text);
                examples.iter().filter(hit).count() as f32
            };
            let all = with(None);
            let speaks_for = owners.into_iter().map(|o| (o, (1.0 + with(Some(o))) / (1.0 + all))).collect();
            Cue { text, speaks_for }
        })
        .collect();
    cues.sort_unstable_by(|a, b| a.text.cmp(&b.text));
    cues
}

/// Cues that are looked up: one that several meanings share says less for each.
fn shared<K: std::hash::Hash + Eq>(
    meanings: &[Meaning],
    of: impl Fn(&Meaning) -> Vec<K>,
) -> HashMap<K, Vec<(usize, f32)>> {
    let mut map: HashMap<K, Vec<(usize, f32)>> = HashMap::new();
    for (index, meaning) in meanings.iter().enumerate() {
        for key in of(meaning) {
            let list = map.entry(key).or_default();
            if !list.iter().any(|(known, _)| *known == index) {
                list.push((index, 1.0));
            }
        }
    }
    for list in map.values_mut() {
        let weight = 1.0 / (list.len() as f32).sqrt();
        list.iter_mut().for_each(|(_, w)| *w = weight);
    }
    map
}
