//! What was used, as the account of record: a ledger of tokens and money, the budgets it is held
//! against, and the bill of one request.
//!
//! The filter's buckets decide quickly and are about right; the ledger is told what every request
//! to a provider came to, whoever made it.

mod bill;
mod budgets;
mod fleet;
mod ledger;
mod probe;
mod totals;

pub use bill::{Bill, Payer};
pub use budgets::{Budgets, NANO_PER_USD, check, usd};
pub use fleet::{View, fetch, share, tell};
pub use ledger::{Ledger, ROWS_MAX, keep};
pub use probe::Probe;
pub use totals::{Account, Totals};
