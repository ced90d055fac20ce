//! Responses that are kept for a while, so that later requests can go on from them
//! (`previous_response_id`) and callers can read them again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_core::provider::{items_of, join_items, previous_of};
use tidegate_core::reply::{Code, Reply};
use tokio::time::Instant;

use crate::refusal::{json, refuse_here};

/// Most responses kept.
const KEPT_MAX: usize = 4096;
/// Most bytes kept, conversations and responses together.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// How long a response is kept.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// The responses of all tenants; the oldest give way.
#[derive(Debug, Default)]
pub struct Responses(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    kept: HashMap<Box<str>, Kept>,
    oldest_first: VecDeque<Box<str>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    tenant: Box<str>,
    /// The whole conversation, the response's own output at its end.
    items: Arc<[Box<RawValue>]>,
    response: Bytes,
    bytes: usize,
    until: Instant,
}

/// Where a response goes once it is whole.
#[derive(Debug, Clone)]
pub struct Keep {
    shelf: Arc<Responses>,
    tenant: Box<str>,
    /// The conversation up to the response.
    items: Arc<[Box<RawValue>]>,
}

#[derive(Deserialize)]
struct Made<'a> {
    id: String,
    #[serde(borrow)]
    output: Vec<&'a RawValue>,
}

/// A request of the Responses API, ready for a provider.
#[derive(Debug)]
pub struct Continued {
    /// The body with the whole conversation as its input, if it goes on from a kept response.
    pub body: Option<Bytes>,
    /// Whether it goes on from a response that is not here.
    pub lost: bool,
    /// Where its response goes; nowhere if the caller wants it forgotten.
    pub keep: Option<Keep>,
}

impl Responses {
    /// Puts what a request goes on from before its input.
    #[must_use]
    pub fn continued(self: &Arc<Self>, tenant: &str, body: &[u8]) -> Continued {
        let (previous, wants_keeping) = previous_of(body);
        let earlier = previous.as_deref().and_then(|id| self.find(tenant, id));
        let lost = previous.is_some() && earlier.is_none();
        let mut items = earlier.as_ref().map_or_else(Vec::new, |(items, _)| items.to_vec());
        items.extend(items_of(body).unwrap_or_default());
        let joined = earlier.and_then(|_| join_items(body, &items));
        let keep = wants_keeping.then(|| Keep {
            shelf: Arc::clone(self),
            tenant: tenant.into(),
            items: items.into(),
        });
        Continued { body: joined.map(Bytes::from), lost, keep }
    }

    fn find(&self, tenant: &str, id: &str) -> Option<(Arc<[Box<RawValue>]>, Bytes)> {
        let shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = shelf.kept.get(id)?;
        let good = &*kept.tenant == tenant && Instant::now() < kept.until;
        good.then(|| (Arc::clone(&kept.items), kept.response.clone()))
    }

    /// `GET /v1/responses/{id}`.
    #[must_use]
    pub fn show(&self, tenant: &str, id: &str) -> Response {
        match self.find(tenant, id) {
            Some((_, response)) => match serde_json::from_slice::<Box<RawValue>>(&response) {
                Ok(raw) => json(StatusCode::OK, &raw),
                Err(_) => refuse_here(&Reply::new(Code::InternalError, "The response cannot be read.")),
            },
            None => refuse_here(&unknown()),
        }
    }

    /// `DELETE /v1/responses/{id}`.
    #[must_use]
    pub fn delete(&self, tenant: &str, id: &str) -> Response {
        #[derive(Serialize)]
        struct Deleted<'a> {
            id: &'a str,
            object: &'static str,
            deleted: bool,
        }
        if self.find(tenant, id).is_none() {
            return refuse_here(&unknown());
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        json(StatusCode::OK, &Deleted { id, object: "response", deleted: true })
    }
}

/// What is said of a response that is not here.
#[must_use]
pub fn unknown_previous() -> Reply {
    let message =
        "The response to go on from is not kept here (any more); send the whole conversation as input.";
    Reply::new(Code::PreviousResponseNotFound, message).with_param("previous_response_id")
}

fn unknown() -> Reply {
    Reply::new(Code::NotFound, "No response of this id is kept here (any more).")
}

impl Shelf {
    fn insert(&mut self, id: Box<str>, kept: Kept) {
        self.bytes += kept.bytes;
        self.oldest_first.push_back(id.clone());
        self.kept.insert(id, kept);
        while self.kept.len() > KEPT_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(kept) = self.kept.remove(id) {
            self.bytes -= kept.bytes;
            self.oldest_first.retain(|other| &**other != id);
        }
    }
}

impl Keep {
    /// Keeps a whole response.
    pub fn response(&self, whole: &[u8]) {
        let Ok(Made { id, output }) = serde_json::from_slice(whole) else { return };
        let mut items = self.items.to_vec();
        items.extend(output.into_iter().map(ToOwned::to_owned));
        let bytes = whole.len() + items.iter().map(|item| item.get().len()).sum::<usize>();
        let kept = Kept {
            tenant: self.tenant.clone(),
            items: items.into(),
            response: Bytes::copy_from_slice(whole),
            bytes,
            until: Instant::now() + KEPT_FOR,
        };
        self.shelf.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into(), kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(shelf: &Arc<Responses>, tenant: &str, id: &str, said: &str) {
        let body = format!(r#"{{"model":"m","input":"{said}"}}"#);
        let continued = shelf.continued(tenant, body.as_bytes());
        let whole =
            format!(r#"{{"id":"{id}","output":[{{"type":"message","role":"assistant","content":"yes"}}]}}"#);
        continued.keep.expect("kept").response(whole.as_bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_goes_on_within_its_tenant_and_for_a_while() {
        let shelf = Arc::new(Responses::default());
        keep(&shelf, "a", "resp_1", "hi");
        let body =
            br#"{"model":"m","previous_response_id":"resp_1","input":[{"role":"user","content":"and?"}]}"#;
        let joined = shelf.continued("a", body).body.expect("joined");
        let joined: serde_json::Value = serde_json::from_slice(&joined).expect("JSON");
        let said: Vec<_> = joined["input"].as_array().expect("items").iter().map(|i| &i["content"]).collect();
        assert_eq!(said, ["hi", "yes", "and?"]);
        let other = shelf.continued("b", body);
        assert!(other.lost && other.body.is_none());
        tokio::time::advance(KEPT_FOR).await;
        assert!(shelf.continued("a", body).lost);
    }

    #[tokio::test]
    async fn the_oldest_give_way_and_what_shall_be_forgotten_is() {
        let shelf = Arc::new(Responses::default());
        let large = "x".repeat(KEPT_BYTES_MAX / 3);
        for id in ["resp_1", "resp_2", "resp_3"] {
            keep(&shelf, "a", id, &large);
        }
        assert_eq!(shelf.show("a", "resp_1").status(), 404);
        assert_eq!(shelf.show("a", "resp_3").status(), 200);
        assert_eq!(shelf.delete("b", "resp_3").status(), 404);
        assert_eq!(shelf.delete("a", "resp_3").status(), 200);
        assert_eq!(shelf.show("a", "resp_3").status(), 404);
        assert!(shelf.continued("a", br#"{"input":"x","store":false}"#).keep.is_none());
    }
}
