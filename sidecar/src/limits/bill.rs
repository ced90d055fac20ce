//! What one request to a provider comes to.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::chat::estimate_prompt_tokens;
use tidegate_core::sse::Usage;
use tidegate_core::usage::{Month, Price};
use tidegate_core::wire::Identity;

use super::{Account, Ledger, Totals};
use crate::keys::unix_ms;

/// Longest body that is read again to compare its estimate with the provider's count.
const SAMPLE_BYTES_MAX: usize = 64 << 10;

/// Who asks for something of the LLM API, and pays for it; among the extensions of every such request.
#[derive(Debug, Clone)]
pub struct Payer {
    /// Where it is written down.
    pub ledger: Arc<Ledger>,
    /// The caller.
    pub identity: Identity,
}

/// The bill of one request, written down once, when it is dropped.
#[derive(Debug)]
pub struct Bill {
    ledger: Arc<Ledger>,
    account: Account,
    price: Price,
    /// Kept for an estimate until the provider has said what the prompt has, and of samples until the
    /// end.
    body: Bytes,
    is_sample: bool,
    reported: Option<Usage>,
    /// Events of the answer, which are about its tokens.
    events: u64,
    answered: bool,
}

impl Bill {
    /// A request that is about to leave.
    #[must_use]
    pub fn open(payer: &Payer, provider: &str, model: &str, price: Price, body: Bytes) -> Self {
        let is_sample = body.len() <= SAMPLE_BYTES_MAX && payer.ledger.calibration().wants();
        let Identity { tenant, key, .. } = &payer.identity;
        Self {
            ledger: payer.ledger.clone(),
            account: Account {
                tenant: tenant.clone(),
                key: key.clone(),
                provider: provider.to_owned(),
                model: model.to_owned(),
            },
            price,
            body,
            is_sample,
            reported: None,
            events: 0,
            answered: false,
        }
    }

    /// The provider has said what it used so far.
    pub fn report(&mut self, usage: Usage) {
        self.reported = Some(usage);
        self.answered = true;
        if !self.is_sample {
            self.body = Bytes::new();
        }
    }

    /// So many events of an answer have come by.
    pub const fn seen(&mut self, events: u64) {
        self.events = events;
        self.answered = true;
    }

    /// Learns from a prompt that was counted by its provider.
    fn compare(&self) {
        if let (true, Some(Usage { prompt_tokens, .. })) = (self.is_sample, self.reported) {
            let estimated = estimate_prompt_tokens(&self.body);
            let Account { provider, model, .. } = &self.account;
            self.ledger.calibration().learn(provider, model, estimated, prompt_tokens);
        }
    }

    /// What it comes to; nothing if there was no answer.
    fn totals(&self) -> Option<Totals> {
        let (usage, estimated) = match self.reported {
            Some(usage) => (usage, 0),
            None if self.answered => {
                let estimated = estimate_prompt_tokens(&self.body);
                let Account { provider, model, .. } = &self.account;
                let prompt_tokens = self.ledger.calibration().correct(provider, model, estimated);
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
        self.compare();
        let Some(totals) = self.totals() else { return };
        let account = std::mem::take(&mut self.account);
        self.ledger.record(Month::of_ms(unix_ms()), account, &totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_prompt_that_nobody_counted_is_estimated_as_the_provider_counted_the_others() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Arc::new(Store::open(&folder.path().join("state.redb")).expect("opens"));
        let ledger = Arc::new(Ledger::start(store).expect("starts"));
        let payer = Payer { ledger: ledger.clone(), identity: Identity::anonymous("acme") };
        let body = Bytes::from_static(br#"{"messages":[{"role":"user","content":"which rivers are long"}]}"#);
        let estimate = estimate_prompt_tokens(&body);
        let open = |model| Bill::open(&payer, "p", model, Price::default(), body.clone());
        for _ in 0..20 {
            let reported = Usage { prompt_tokens: 3 * estimate, ..Usage::default() };
            open("counted").report(reported);
        }
        open("left").seen(7);
        drop(open("refused"));
        let rows = ledger.rows(Month::of_ms(unix_ms()), None);
        let of =
            |model: &str| rows.iter().find(|(account, _)| account.model == model).map(|(_, totals)| *totals);
        let left = of("left").expect("a row");
        assert_eq!(
            (left.prompt_tokens, left.completion_tokens, left.estimated_requests),
            (3 * estimate, 7, 1)
        );
        assert_eq!(of("counted").map(|totals| totals.prompt_tokens), Some(60 * estimate));
        assert_eq!(of("refused"), None);
    }
}
