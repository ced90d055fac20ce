//! The armed faults, and which of them is next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fault::{Asked, Fault, FaultError};

/// Armed faults kept at once; arming one more is refused.
const FAULTS_MAX: usize = 64;

/// A fault, and what part of a hit is due.
#[derive(Debug)]
struct Armed {
    fault: Fault,
    due: f64,
}

impl Armed {
    /// Whether this matching request is among those that it hits.
    fn is_due(&mut self) -> bool {
        self.due += self.fault.share.unwrap_or(1.0);
        let is_due = self.due >= 1.0 - f64::EPSILON;
        if is_due {
            self.due -= 1.0;
        }
        is_due
    }
}

/// The armed faults. Reading whether there are any costs one atomic load.
#[derive(Debug, Default)]
pub(super) struct FaultBook {
    armed_count: AtomicUsize,
    armed: Mutex<Vec<Armed>>,
}

impl FaultBook {
    /// Arms a fault behind those armed before it and returns how many there are now.
    pub(super) fn arm(&self, fault: Fault) -> Result<usize, FaultError> {
        fault.check()?;
        let mut armed = self.lock();
        if armed.len() >= FAULTS_MAX {
            return Err(FaultError(format!("{FAULTS_MAX} faults are armed already: DELETE /__faults first")));
        }
        armed.push(Armed { fault, due: 0.0 });
        self.armed_count.store(armed.len(), Ordering::Release);
        Ok(armed.len())
    }

    pub(super) fn clear(&self) -> usize {
        let mut armed = self.lock();
        let cleared = armed.len();
        armed.clear();
        self.armed_count.store(0, Ordering::Release);
        cleared
    }

    pub(super) fn list(&self) -> Vec<Fault> {
        self.lock().iter().map(|armed| armed.fault.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.armed_count.load(Ordering::Acquire) == 0
    }

    /// The first fault that hits this request; one use of it is spent.
    pub(super) fn take(&self, asked: &Asked<'_>) -> Option<Fault> {
        let mut armed = self.lock();
        let index = armed.iter_mut().position(|armed| armed.fault.hits(asked) && armed.is_due())?;
        let fault = armed[index].fault.clone();
        match &mut armed[index].fault.times {
            Some(1) => {
                armed.remove(index);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.armed_count.store(armed.len(), Ordering::Release);
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_spent_in_order_and_only_on_what_they_match() {
        let book = FaultBook::default();
        assert!(book.is_empty());
        let only_mini = r#"{"status":500,"times":2,"match":{"model":"gpt-4o-mini"}}"#;
        book.arm(Fault::from_json(only_mini.as_bytes()).unwrap()).unwrap();
        book.arm(Fault::from_json(br#"{"status":429,"match":{"path":"/embeddings"}}"#).unwrap()).unwrap();
        let asked = |path, model| Asked { method: "POST", path, model, key: "sk-1", body: b"" };
        let status = |path: &'static str, model| book.take(&asked(path, model)).and_then(|f| f.status);
        assert_eq!(status("/openai/v1/chat/completions", Some("gpt-4o")), None);
        assert_eq!(status("/openai/v1/embeddings", Some("gpt-4o-mini")), Some(500));
        assert_eq!(status("/openai/v1/embeddings", Some("x")), Some(429));
        assert_eq!(status("/openai/v1/chat/completions", Some("gpt-4o-mini")), Some(500));
        assert_eq!(status("/openai/v1/chat/completions", Some("gpt-4o-mini")), None);
        assert_eq!(book.clear(), 1);
        assert!(book.is_empty());
    }

    #[test]
    fn a_fault_may_depend_on_all_of_a_request_and_hit_a_part() {
        let book = FaultBook::default();
        let fault = r#"{"status":500,"share":0.25,
            "match":{"method":"POST","contains":"tenant=acme","key":"-2","path":"/chat/completions"}}"#;
        book.arm(Fault::from_json(fault.as_bytes()).unwrap()).unwrap();
        let asked = Asked {
            method: "POST",
            path: "/openai/v1/chat/completions",
            model: None,
            key: "sk-2",
            body: b"... tenant=acme ...",
        };
        assert_eq!((0..100).filter(|_| book.take(&asked).is_some()).count(), 25);
        for other in [
            Asked { method: "GET", ..asked },
            Asked { key: "sk-1", ..asked },
            Asked { body: b"tenant=beta", ..asked },
            Asked { path: "/openai/v1/models", ..asked },
        ] {
            assert!((0..8).all(|_| book.take(&other).is_none()), "{other:?}");
        }
    }

    #[test]
    fn the_book_is_bounded() {
        let book = FaultBook::default();
        let fault = Fault { reset: true, ..Fault::default() };
        for _ in 0..FAULTS_MAX {
            book.arm(fault.clone()).unwrap();
        }
        assert!(book.arm(fault).is_err());
    }
}
