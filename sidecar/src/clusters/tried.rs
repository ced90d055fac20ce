//! Messages that an operator tries: judged as errors are, learnt only when that is asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::incident::cluster::{ClusterId, Partition, Vector};
use tidegate_core::incident::judge::Judgement;
use tidegate_core::incident::{ErrorKind, ErrorText, Signature};

use super::exemplars::Embeddings;
use super::memo::Known;
use super::{Engine, Tally, needs_embedding};

/// Most messages in one call.
pub const TRIED_MAX: usize = 10_000;
/// Longest that all messages of one call may wait for their embeddings.
const EMBEDDING_BUDGET: Duration = Duration::from_secs(3);
/// Scores are shown to the thousandth.
const SCORE_STEPS: f32 = 1000.0;

/// A message that is tried.
#[derive(Debug, Clone, Deserialize)]
pub struct Tried {
    /// The provider it came from.
    #[serde(default)]
    pub provider: Option<String>,
    /// The status it came with; it may be missing or wrong.
    #[serde(default)]
    pub status: Option<u16>,
    /// What it says: a body, or a client's rendering of it.
    pub message: String,
    /// Whether it is learnt, as if it had happened.
    #[serde(default)]
    pub learn: bool,
}

/// What a message means.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The cluster it is in or would join; none when it would begin one.
    pub cluster_id: Option<ClusterId>,
    /// The kind of failure.
    pub kind: ErrorKind,
    /// How sure that is, 0 to 1.
    pub score: f32,
    /// The meaning among the exemplars.
    pub meaning: Option<String>,
    /// Its template.
    pub template: String,
}

/// A message on its way to a verdict.
struct Half {
    judgement: Judgement,
    cluster: Option<ClusterId>,
    mined: Option<u32>,
    masked: String,
}

/// What a message says.
struct Read {
    text: ErrorText,
    /// The status that came with it, or that it names.
    status: Option<u16>,
    masked: String,
    signature: Signature,
}

impl Read {
    fn of(tried: &Tried) -> Self {
        let text = ErrorText::read(&tried.message);
        let masked = text.template();
        let Partition { class, source } = Partition::TRIED;
        let signature = Signature::of(class, source, &text.codes, &masked);
        let status = tried.status.filter(|status| *status >= 100).or(text.status);
        Self { text, status, masked, signature }
    }

    fn similar(&self) -> Similar {
        (self.status, self.signature)
    }
}

/// What was judged in a call already: lists repeat themselves.
type Judged = HashMap<Similar, (Judgement, Vector)>;

/// Messages that mean the same, since all that is looked at is the same.
type Similar = (Option<u16>, Signature);

impl Engine {
    /// Judges messages, in their order. All of one call see each other: what a later one changes
    /// about a cluster or a template is in every answer.
    pub async fn classify(self: &Arc<Self>, tried: Vec<Tried>, now_ms: u64) -> Vec<Verdict> {
        // A long list is seconds of work.
        let engine = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let read: Vec<Read> = tried.iter().map(Read::of).collect();
            let judged = engine.judge_by_words(&read);
            (tried, read, judged)
        });
        let Ok((tried, read, mut judged)) = reading.await else { return Vec::new() };
        let is_unsure =
            |one: &&Read| judged.get(&one.similar()).is_some_and(|(first, _)| needs_embedding(first));
        let unsure: Vec<&str> = read.iter().filter(is_unsure).map(|one| one.masked.as_str()).collect();
        let embeddings = self.exemplars.embeddings(&unsure, EMBEDDING_BUDGET).await;
        let engine = self.clone();
        let work = move || {
            engine.judge_by_embedding(&read, &embeddings, &mut judged);
            let half = |(tried, read): (&Tried, Read)| engine.try_one(tried, read, &judged, now_ms);
            let halves: Vec<Half> = tried.iter().zip(read).filter_map(half).collect();
            halves.into_iter().map(|half| engine.verdict(half)).collect()
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_default()
    }

    /// What messages mean as far as no embedding is needed.
    fn judge_by_words(&self, read: &[Read]) -> Judged {
        let mut judged = Judged::new();
        for one in read {
            let judge = || {
                let judgement = self.judge(one.status, &one.text.codes, &one.masked, None);
                (judgement, Vector::of(&one.masked, None))
            };
            judged.entry(one.similar()).or_insert_with(judge);
        }
        judged
    }

    /// What those mean whose embedding was needed.
    fn judge_by_embedding(&self, read: &[Read], embeddings: &Embeddings, judged: &mut Judged) {
        for one in read {
            let Some(embedding) = embeddings.get(&one.masked).map(AsRef::as_ref) else { continue };
            if let Some((judgement, vector)) = judged.get_mut(&one.similar())
                && vector.embedding.is_none()
            {
                *judgement = self.judge(one.status, &one.text.codes, &one.masked, Some(embedding));
                *vector = Vector::of(&one.masked, Some(embedding));
            }
        }
    }

    fn try_one(&self, one: &Tried, read: Read, judged: &Judged, now_ms: u64) -> Option<Half> {
        let (judgement, vector) = judged.get(&read.similar())?;
        let (judgement, masked) = (*judgement, read.masked);
        let mut state = self.state();
        let point = self.point(Partition::TRIED, &judgement, &masked, vector);
        if !one.learn {
            let cluster = state.clusters.find_anywhere(&point, &self.settings.clusters);
            return Some(Half { judgement, cluster, mined: None, masked });
        }
        let cluster = state.learn(&point, self, now_ms);
        let known = Known { cluster: cluster.clone(), template: masked.as_str().into() };
        let tally = Tally { provider: one.provider.as_deref(), ..Tally::NOBODY };
        state.count(&known, &tally, 1, None, now_ms);
        let mined = Some(state.miner.learn(&masked));
        Some(Half { judgement, cluster: Some(cluster), mined, masked })
    }

    fn verdict(&self, half: Half) -> Verdict {
        let state = self.state();
        let mined = half.mined.and_then(|id| state.miner.template(id));
        let cluster = half.cluster.as_ref().and_then(|id| state.clusters.get(id));
        Verdict {
            cluster_id: half.cluster.clone(),
            kind: cluster.map_or(half.judgement.kind, |cluster| cluster.kind),
            score: (half.judgement.score * SCORE_STEPS).round() / SCORE_STEPS,
            meaning: self.exemplars.meaning_of(&half.judgement),
            template: mined.unwrap_or_else(|| state.miner.look_up(&half.masked)),
        }
    }
}
