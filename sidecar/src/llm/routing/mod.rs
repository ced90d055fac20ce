//! Which provider answers a request: who could, who is well, who may be asked now, and which of
//! these the strategy takes. The decisions themselves are `tidegate_core::routing`; here is what
//! they are made from.
//!
//! What a provider *says* (a wait, an empty limit) is kept to; what is *guessed* of its health
//! only steers: when everybody looks ill, requests go out all the same.

mod clock;
mod health;
mod judged;
mod keys;
mod metrics;
mod plan;
mod router;
mod settings;
mod state;
mod steering;

pub use clock::Clock;
pub use health::{Checked, check, watch};
pub use keys::KeyPool;
pub use metrics::RoutingMetrics;
pub use plan::{Asked, Plan, Route};
pub use router::{Blocked, Picked, Router};
pub use settings::{Fallback, HealthCheck, Hedging, Retries, RoutingSettings, Target};
pub use state::{Counts, ProviderState, Standing, Ticket, View};
pub use steering::{Course, Stance, Steer, Steering, key_name};
