//! Before a worker thread sleeps, it lets others run that wait for its core: Envoy, mostly, which then
//! has several requests for it instead of waking it up for each. To wake a sleeping thread costs about
//! as much as what is done here for a request, and more on a busy virtual machine.
//!
//! Where somebody else keeps the core for long, requests would wait for that; so after a long turn of
//! others the thread goes without for a multiple of it. With nobody waiting for the core, a turn is over
//! in less than a microsecond. `docs/decisions/023-give-way.md` has what it brings.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A turn of others that lasts longer is a long one.
const LONG: Duration = Duration::from_millis(1);
/// For so many times as long as a long turn no other is given: a seventeenth of the time is the most
/// that can be lost.
const REST_TURNS: u32 = 16;

thread_local! {
    static NOT_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Gives the thread's core away for a turn, unless that took long a short while ago.
pub fn give_way() {
    let began = Instant::now();
    if NOT_BEFORE.get().is_some_and(|moment| began < moment) {
        return;
    }
    std::thread::yield_now();
    NOT_BEFORE.set(rest(began.elapsed()).map(|rest| began + rest));
}

/// For how long after the beginning of a turn no other is given.
fn rest(turn: Duration) -> Option<Duration> {
    (turn > LONG).then(|| turn.saturating_mul(REST_TURNS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_turn_is_followed_by_a_rest() {
        assert_eq!(rest(Duration::from_micros(1)), None);
        assert_eq!(rest(LONG), None);
        assert_eq!(rest(Duration::from_millis(3)), Some(Duration::from_millis(48)));
    }

    #[test]
    fn a_thread_that_rests_comes_back_at_once() {
        let later = Instant::now() + Duration::from_secs(3600);
        NOT_BEFORE.set(Some(later));
        give_way();
        assert_eq!(NOT_BEFORE.get(), Some(later));
        NOT_BEFORE.set(Some(Instant::now()));
        give_way();
        assert_ne!(NOT_BEFORE.get(), Some(later));
    }
}
