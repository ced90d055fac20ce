//! What one request to a provider comes to.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::chat::estimate_json_tokens;
use tidegate_core::sse::Usage;
use tidegate_core::usage::{Month, Price};

use super::{Account, Ledger, Totals};
use crate::keys::unix_ms;

/// Who pays for a request; among the extensions of every request to the LLM API.
#[derive(Debug, Clone)]
pub struct Payer {
    /// Where it is written down.
    pub ledger: Arc<Ledger>,
    /// Tenant.
    pub tenant: String,
    /// Id of the key or user.
    pub key: Option<String>,
}

/// The bill of one request, written down once, when it is dropped.
#[derive(Debug)]
pub struct Bill {
    payer: Payer,
    provider: Box<str>,
    model: String,
    price: Price,
    /// Kept for an estimate until the provider has said what the prompt has.
    body: Bytes,
    reported: Option<Usage>,
    /// Events of the answer, which are about its tokens.
    events: u64,
    answered: bool,
}

impl Bill {
    /// A request that is about to leave.
    #[must_use]
    pub fn open(payer: &Payer, provider: &str, model: &str, price: Price, body: Bytes) -> Self {
        Self {
            payer: payer.clone(),
            provider: provider.into(),
            model: model.to_owned(),
            price,
            body,
            reported: None,
            events: 0,
            answered: false,
        }
    }

    /// The provider has said what it used so far.
    pub fn report(&mut self, usage: Usage) {
        self.reported = Some(usage);
        self.answered = true;
        self.body = Bytes::new();
    }

    /// So many events of an answer have come by.
    pub const fn seen(&mut self, events: u64) {
        self.events = events;
        self.answered = true;
    }

    /// What it comes to; nothing if there was no answer.
    fn totals(&self) -> Option<Totals> {
        let (usage, estimated) = match self.reported {
            Some(usage) => (usage, 0),
            None if self.answered => {
                let prompt_tokens = estimate_json_tokens(&self.body);
                (Usage { prompt_tokens, completion_tokens: self.events, ..Usage::default() }, 1)
            }
            None => return None,
        };
        let Usage { prompt_tokens, completion_tokens, cached_tokens } = usage;
        Some(Totals {
            requests: 1,
            estimated_requests: estimated,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            cost_nano_usd: self.price.cost_nano_usd(prompt_tokens, cached_tokens, completion_tokens),
        })
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        let Some(totals) = self.totals() else { return };
        let account = Account {
            tenant: std::mem::take(&mut self.payer.tenant),
            key: self.payer.key.take(),
            provider: self.provider.to_string(),
            model: std::mem::take(&mut self.model),
        };
        self.payer.ledger.record(Month::of_ms(unix_ms()), account, &totals);
    }
}
