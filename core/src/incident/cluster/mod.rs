//! Clusters: errors of one meaning, from one side, kept together as they arrive.
//!
//! Incremental k-means (MacQueen 1967): an error goes to the nearest centroid, which moves towards
//! it; one that is near to none begins a cluster. Where the error's meaning is known from the
//! exemplars, that decides instead, as in k-means seeded by labelled examples (Basu, Banerjee and
//! Mooney, "Semi-supervised Clustering by Seeding", ICML 2002): texts alone do not tell classes of
//! errors apart. Errors of different status classes or sources are never together.

mod activity;
mod set;
mod severity;
mod vector;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use activity::{Activity, Trend};
pub use set::{Change, Clusters, Point, Settings};
pub use severity::{Breadth, Severity};
pub use vector::Vector;

use super::{ErrorKind, Source, StatusClass};

/// Most templates kept of one cluster; of more, those seen most stay.
pub const TEMPLATES_MAX: usize = 16;

/// The name of a cluster: the same errors get the same name after a restart and in every sidecar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(String);

impl ClusterId {
    /// The name that errors of `partition` get that are told from others by `what`; `salt` is for
    /// one that is taken.
    #[must_use]
    fn of(partition: Partition, what: &str, salt: u32) -> Self {
        let mut hash = Sha256::new();
        for part in [partition.class.as_str(), partition.source.as_str(), what] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update(salt.to_be_bytes());
        let bits = hash.finalize().iter().take(6).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        Self(format!("cl_{bits:012x}"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which errors can be in one cluster at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// The class of the status.
    pub class: StatusClass,
    /// Who said that something failed.
    pub source: Source,
}

impl Partition {
    /// Where messages lie that an operator tries: their status may be wrong or missing, so it
    /// does not part them.
    pub const TRIED: Self = Self { class: StatusClass::None, source: Source::Unknown };
}

/// A template and how many errors had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The masked template.
    pub template: String,
    /// Errors, since the template is among the cluster's.
    pub count: u64,
}

/// Errors of one meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub id: ClusterId,
    /// Which errors can be in it.
    pub partition: Partition,
    /// The meaning of its errors, where the exemplars know it.
    pub meaning: Option<String>,
    /// What kind of failure they are.
    pub kind: ErrorKind,
    /// How sure that is, 0 to 1: the mean over its errors.
    pub score: f32,
    /// Errors counted.
    pub members: u64,
    /// Texts learnt: how far the centroid has settled.
    pub learnt: u64,
    /// Their templates, those seen most.
    pub templates: Vec<Member>,
    /// The centroid.
    pub centroid: Vector,
    /// The first error, in milliseconds since 1970.
    pub first_seen_ms: u64,
    /// The last error, in milliseconds since 1970.
    pub last_seen_ms: u64,
    /// How many errors there are now.
    pub activity: Activity,
}

impl Cluster {
    /// Its most telling template: one that many errors have and that says something. Words count
    /// up to a dozen, because longer messages are not clearer ones.
    #[must_use]
    pub fn title(&self) -> &str {
        let telling = |member: &&Member| {
            let words = member.template.split_whitespace().filter(|w| !w.contains('<')).count().min(12);
            (member.count.checked_ilog2().map_or(1, |log| log as usize + 2)) * (words + 1)
        };
        self.templates.iter().max_by_key(telling).map_or("", |m| m.template.as_str())
    }

    /// Adds the errors of another cluster.
    fn absorb(&mut self, from: &Self, now_ms: u64) {
        self.members += from.members;
        self.learnt += from.learnt;
        let share = from.learnt as f32 / self.learnt.max(1) as f32;
        self.score += share * (from.score - self.score);
        self.centroid.move_towards(&from.centroid, (self.learnt / from.learnt.max(1)).max(1));
        self.last_seen_ms = self.last_seen_ms.max(from.last_seen_ms);
        self.first_seen_ms = self.first_seen_ms.min(from.first_seen_ms);
        self.activity.join(&from.activity, now_ms);
        from.templates.iter().for_each(|member| self.count_template(&member.template, member.count));
    }

    fn count_template(&mut self, template: &str, count: u64) {
        if let Some(member) = self.templates.iter_mut().find(|member| member.template == template) {
            member.count += count;
            return;
        }
        if self.templates.len() < TEMPLATES_MAX {
            self.templates.push(Member { template: template.to_owned(), count });
        } else if let Some(least) = self.templates.iter_mut().min_by_key(|member| member.count) {
            // Space-saving (Metwally et al. 2005): the newcomer inherits the count it displaces, so
            // a template that becomes frequent cannot be kept out.
            *least = Member { template: template.to_owned(), count: least.count + count };
        }
    }
}
