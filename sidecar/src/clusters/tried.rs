//! Messages that an operator tries: judged as errors are, learnt only when that is asked for.

use serde::{Deserialize, Serialize};
use tidegate_core::incident::cluster::{ClusterId, Partition, Vector};
use tidegate_core::incident::judge::Judgement;
use tidegate_core::incident::{ErrorKind, ErrorText, Signature};

use super::exemplars::Embeddings;
use super::memo::Known;
use super::{Engine, Tally};

/// Most messages in one call.
pub const TRIED_MAX: usize = 10_000;
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

impl Engine {
    /// Judges messages, in their order. All of one call see each other: what a later one changes
    /// about a cluster or a template is in every answer.
    pub async fn classify(&self, tried: &[Tried], now_ms: u64) -> Vec<Verdict> {
        let read: Vec<(ErrorText, String)> = tried
            .iter()
            .map(|one| {
                let text = ErrorText::read(&one.message);
                let template = text.template();
                (text, template)
            })
            .collect();
        let templates: Vec<&str> = read.iter().map(|(_, template)| template.as_str()).collect();
        let embeddings = self.exemplars.embeddings(&templates).await;
        let half = |(one, (text, template)): (&Tried, (ErrorText, String))| {
            self.try_one(one, &text, template, &embeddings, now_ms)
        };
        let halves: Vec<Half> = tried.iter().zip(read).map(half).collect();
        halves.into_iter().map(|half| self.verdict(half)).collect()
    }

    fn try_one(
        &self,
        one: &Tried,
        text: &ErrorText,
        masked: String,
        embeddings: &Embeddings,
        now_ms: u64,
    ) -> Half {
        let status = one.status.filter(|status| *status >= 100).or(text.status);
        let embedding = embeddings.get(&masked).map(AsRef::as_ref);
        let vector = Vector::of(&masked, embedding);
        let judgement = self.judge(status, &text.codes, &masked, embedding);
        let mut state = self.state();
        if !one.learn {
            let point = self.point(Partition::TRIED, &judgement, &masked, &vector);
            let cluster = state.clusters.find_anywhere(&point, &self.settings.clusters);
            return Half { judgement, cluster, mined: None, masked };
        }
        let id = state.learn(Partition::TRIED, &judgement, &masked, &vector, self, now_ms);
        let signature = Signature::of(Partition::TRIED.class, Partition::TRIED.source, &text.codes, &masked);
        let known = Known { cluster: id.clone(), template: masked.as_str().into() };
        let provider = one.provider.as_deref();
        state.count(&known, &Tally { tenant: None, provider, requests: 0, failures: &[] }, 1, now_ms);
        state.memo.put(signature, known);
        let mined = Some(state.miner.learn(&masked));
        Half { judgement, cluster: Some(id), mined, masked }
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
