//! How well errors are understood: kinds and clusters of real messages, what each witness is worth,
//! and what is left when every exemplar that looks like the message is taken away.

use std::sync::Arc;

use tidegate_core::incident::ErrorText;
use tidegate_core::incident::cluster::{Clusters, Partition, Point, Settings, Vector};
use tidegate_core::incident::exemplar::{Library, Meaning};
use tidegate_core::incident::features::{cosine, dense};
use tidegate_core::incident::judge::{Judgement, Observed, Weights};

use super::data::Row;
use super::scores::{Pair, adjusted_rand, macro_f1, v_measure};
use crate::error::BenchError;

/// An exemplar this near to a message, by its words, is as good as the message itself.
const ALIKE: f32 = 0.75;

/// A message with all that is known of it beforehand.
pub(super) struct Prepared {
    row: Row,
    text: ErrorText,
    pub(super) template: String,
    pub(super) embedding: Option<Arc<[f32]>>,
}

impl Prepared {
    pub(super) fn of(row: Row) -> Self {
        let text = ErrorText::read(&row.message);
        let template = text.template();
        Self { row, text, template, embedding: None }
    }
}

/// What is known to the engine in one run.
pub(super) struct Knowledge<'a> {
    pub(super) library: &'a Library,
    /// The embeddings of its examples.
    pub(super) vectors: Option<&'a [Arc<[f32]>]>,
    pub(super) weights: Weights,
    /// Whether statuses are told.
    pub(super) statuses: bool,
}

impl Knowledge<'_> {
    fn judge(&self, error: &Prepared) -> Judgement {
        let status = error.row.status.or(error.text.status).filter(|_| self.statuses);
        let embedding = error.embedding.as_deref().zip(self.vectors);
        let observed = Observed { status, codes: &error.text.codes, template: &error.template, embedding };
        self.library.judge(&observed, &self.weights)
    }
}

/// The figures of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    pub(super) f1: f64,
    pub(super) v: f64,
    pub(super) ari: f64,
    pub(super) clusters: usize,
}

/// Feeds the errors in their order and scores the clusters they end in.
pub(super) fn run(errors: &[Prepared], knowledge: &Knowledge<'_>, settings: &Settings) -> Figures {
    let judgements: Vec<Judgement> = errors.iter().map(|error| knowledge.judge(error)).collect();
    score(errors, &judgements, knowledge.library, settings)
}

fn score(errors: &[Prepared], judgements: &[Judgement], library: &Library, settings: &Settings) -> Figures {
    let mut set = Clusters::default();
    let mut ids = Vec::new();
    for (now_ms, (error, judgement)) in (0..).zip(errors.iter().zip(judgements)) {
        let vector = Vector::of(&error.template, error.embedding.as_deref());
        let point = Point {
            partition: Partition::TRIED,
            meaning: judgement.meaning.and_then(|index| library.meaning(index)).map(|m| m.name.as_str()),
            kind: judgement.kind,
            score: judgement.score,
            template: &error.template,
            vector: &vector,
        };
        ids.push(set.learn(&point, now_ms, settings));
    }
    let kind = |id| set.get(id).map_or_else(String::new, |cluster| cluster.kind.to_string());
    let kinds: Vec<Pair> = errors.iter().zip(&ids).map(|(e, id)| (e.row.kind.clone(), kind(id))).collect();
    let clusters: Vec<Pair> =
        errors.iter().zip(&ids).map(|(e, id)| (e.row.cls.clone(), id.to_string())).collect();
    Figures {
        f1: macro_f1(&kinds),
        v: v_measure(&clusters),
        ari: adjusted_rand(&clusters),
        clusters: set.iter().count(),
    }
}

/// The same, each error judged by a library without the examples that look like it.
pub(super) fn run_unseen(
    errors: &[Prepared],
    meanings: &[Meaning],
    vectors: Option<&[Arc<[f32]>]>,
    settings: &Settings,
) -> Result<Figures, BenchError> {
    let whole = library(meanings.to_vec())?;
    let examples: Vec<Vec<f32>> = whole.templates().map(dense).collect();
    let mut judgements = Vec::new();
    for error in errors {
        let here = dense(&error.template);
        let alike: Vec<bool> = examples.iter().map(|there| cosine(&here, there) >= ALIKE).collect();
        let without = library(without(meanings, &alike))?;
        let kept = vectors.map(|all| {
            all.iter().zip(&alike).filter(|(_, alike)| !**alike).map(|(v, _)| v.clone()).collect::<Vec<_>>()
        });
        let knowledge = Knowledge {
            library: &without,
            vectors: kept.as_deref(),
            weights: Weights::default(),
            statuses: true,
        };
        judgements.push(knowledge.judge(error));
    }
    Ok(score(errors, &judgements, &whole, settings))
}

/// The meanings without the examples that are marked; a mark for each example that has a template.
fn without(meanings: &[Meaning], marked: &[bool]) -> Vec<Meaning> {
    let mut marks = marked.iter();
    let mut left = meanings.to_vec();
    for meaning in &mut left {
        meaning.examples.retain(|text| {
            ErrorText::read(text).template().is_empty() || !marks.next().copied().unwrap_or(false)
        });
    }
    left
}

pub(super) fn library(meanings: Vec<Meaning>) -> Result<Library, BenchError> {
    Library::new(meanings).map_err(|bad| BenchError::new(format!("exemplars {}: {}", bad.path, bad.what)))
}

/// Each witness taken away, and each alone.
pub(super) fn ablations() -> Vec<(String, Weights)> {
    let all = Weights::default();
    let none = Weights { phrases: 0.0, codes: 0.0, status: 0.0, words: 0.0, embedding: 0.0 };
    vec![
        ("without phrases".to_owned(), Weights { phrases: 0.0, ..all }),
        ("without codes".to_owned(), Weights { codes: 0.0, ..all }),
        ("without status".to_owned(), Weights { status: 0.0, ..all }),
        ("without words".to_owned(), Weights { words: 0.0, ..all }),
        ("without embedding".to_owned(), Weights { embedding: 0.0, ..all }),
        ("phrases alone".to_owned(), Weights { phrases: 1.0, ..none }),
        ("codes alone".to_owned(), Weights { codes: 1.0, ..none }),
        ("status alone".to_owned(), Weights { status: 1.0, ..none }),
        ("words alone".to_owned(), Weights { words: 1.0, ..none }),
        ("embedding alone".to_owned(), Weights { embedding: 1.0, ..none }),
    ]
}
