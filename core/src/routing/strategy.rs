//! The strategies, by name.

/// How one of several able providers is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, as often as its weight says, interleaved.
    WeightedRoundRobin,
    /// The one with the lowest expected wait.
    LeastLatency,
    /// The cheapest one that is good enough.
    CostOptimized,
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// Any, with equal chances.
    Random,
    /// The same one for the same session.
    StickySession,
    /// The same one for the same key, as long as it is not overloaded.
    ConsistentHash,
    /// The less busy one of two taken at random.
    PowerOfTwo,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Self; 9] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastLatency,
        Self::CostOptimized,
        Self::LeastConnections,
        Self::Random,
        Self::StickySession,
        Self::ConsistentHash,
        Self::PowerOfTwo,
    ];

    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::LeastLatency => "least_latency",
            Self::CostOptimized => "cost_optimized",
            Self::LeastConnections => "least_connections",
            Self::Random => "random",
            Self::StickySession => "sticky_session",
            Self::ConsistentHash => "consistent_hash",
            Self::PowerOfTwo => "power_of_two",
        }
    }

    /// The strategy of that name; spellings met elsewhere are known too.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = match name {
            "weighted" => "weighted_round_robin",
            "cost_optimised" | "least_cost" => "cost_optimized",
            "power_of_two_choices" | "p2c" => "power_of_two",
            "sticky" => "sticky_session",
            other => other,
        };
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == name)
    }
}

/// What a choice may depend on beside the candidates.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// Random bits, fresh for each choice.
    pub random: u64,
    /// Hash of the session, or of what else requests have in common; without one, the strategies
    /// that need it go by weight.
    pub key: Option<u64>,
    /// Lowest quality that [`Strategy::CostOptimized`] takes.
    pub quality_floor: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_strategies() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::from_name(strategy.as_str()), Some(strategy));
        }
        assert_eq!(Strategy::from_name("cost_optimised"), Some(Strategy::CostOptimized));
        assert_eq!(Strategy::from_name("fastest"), None);
    }
}
