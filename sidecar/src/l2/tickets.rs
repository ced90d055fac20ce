//! Questions of requests that do not pass the sidecar, kept until the filter brings their answers.
//! Bounded: the oldest gives way.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use super::Asked;
use crate::keys::random;

/// Most questions that wait.
pub const TICKETS_MAX: usize = 1024;
/// Longest that one waits: as long as a long answer takes.
pub const TICKET_LIFE: Duration = Duration::from_secs(900);

#[derive(Debug, Default)]
struct Waiting {
    questions: HashMap<String, Asked>,
    /// Tickets by age, those that were redeemed included.
    order: VecDeque<(Instant, String)>,
}

/// The questions that wait.
#[derive(Debug, Default)]
pub struct Tickets {
    waiting: Mutex<Waiting>,
}

impl Tickets {
    /// Keeps a question; `None` without randomness to name it.
    #[must_use]
    pub fn issue(&self, asked: Asked, now: Instant) -> Option<String> {
        let ticket = random::name().ok()?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((issued, oldest)) = waiting.order.front()
            && (waiting.order.len() >= TICKETS_MAX || now.duration_since(*issued) >= TICKET_LIFE)
        {
            let oldest = oldest.clone();
            waiting.questions.remove(&oldest);
            waiting.order.pop_front();
        }
        waiting.questions.insert(ticket.clone(), asked);
        waiting.order.push_back((now, ticket.clone()));
        Some(ticket)
    }

    /// Takes a question out; `None` if it waited too long, or never did.
    #[must_use]
    pub fn redeem(&self, ticket: &str) -> Option<Asked> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).questions.remove(ticket)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::cache::control::RequestControl;
    use tidegate_core::route::Protocol;
    use tidegate_core::wire::Identity;

    use super::*;
    use crate::config::{self, Env};
    use crate::l2::Request;

    fn asked(prompt: &str) -> Asked {
        let settings = config::parse("cache: {l2: {enabled: true}}", &Env::new()).expect("valid").l2;
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
        let request = Request {
            identity: &Identity::anonymous("t"),
            path: "/v1/chat/completions",
            pin: "",
            protocol: Protocol::OpenAi,
            control: RequestControl::FREE,
            body: body.as_bytes(),
        };
        Asked::new(&settings, request).expect("a chat")
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once_and_for_a_time() {
        let tickets = Tickets::default();
        let first = tickets.issue(asked("first"), Instant::now()).expect("a ticket");
        assert_eq!(tickets.redeem(&first).map(|asked| asked.question.prompt), Some("first".to_owned()));
        assert!(tickets.redeem(&first).is_none() && tickets.redeem("another").is_none());
        let old = tickets.issue(asked("old"), Instant::now()).expect("a ticket");
        tokio::time::advance(TICKET_LIFE).await;
        let new = tickets.issue(asked("new"), Instant::now()).expect("a ticket");
        assert!(tickets.redeem(&old).is_none() && tickets.redeem(&new).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_of_too_many_give_way() {
        let tickets = Tickets::default();
        let question = asked("the same");
        let issue = || tickets.issue(question.clone(), Instant::now()).expect("a ticket");
        let issued: Vec<String> = (0..TICKETS_MAX + 10).map(|_| issue()).collect();
        assert_eq!(tickets.waiting.lock().expect("lock").questions.len(), TICKETS_MAX);
        assert!(tickets.redeem(&issued[9]).is_none() && tickets.redeem(&issued[10]).is_some());
    }
}
