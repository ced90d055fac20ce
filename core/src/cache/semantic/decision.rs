//! What is done with a lookup, and why.

use super::evidence::Evidence;
use super::guard::Mismatch;

/// What to do with the nearest stored answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// Serve it.
    Serve {
        /// Estimated probability that it is right; the cosine where nothing is estimated.
        confidence: f64,
        /// Ask the provider as well, afterwards, and learn whether it was right.
        audit: bool,
    },
    /// Ask the provider, and learn from its answer whether the stored one would have been right.
    Explore(Reason),
}

/// Why a stored answer is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is stored.
    Empty,
    /// The nearest prompt is below the threshold.
    Far,
    /// Every near prompt differs in its words; the difference to the nearest.
    Guard(Mismatch),
    /// Too little is known of such matches, or they were wrong too often.
    Unsure,
}

impl Reason {
    /// The word for it in headers, answers and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Far => "far",
            Self::Guard(_) => "guard",
            Self::Unsure => "unsure",
        }
    }
}

/// The `static` mode: serve from a cosine on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Least cosine that is served.
    pub similarity: f32,
    /// Share of hits that are audited, 0 to 1.
    pub audit_share: f64,
}

impl Threshold {
    /// Decides; `draw` is uniform in [0, 1).
    #[must_use]
    pub fn decide(&self, evidence: &Evidence, draw: f64) -> Decision {
        if evidence.similarity() < self.similarity {
            return Decision::Explore(Reason::Far);
        }
        Decision::Serve { confidence: f64::from(evidence.similarity()), audit: draw < self.audit_share }
    }
}
