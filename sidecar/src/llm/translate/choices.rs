//! Several translated event streams as one: pulled only as fast as the caller reads, one after the
//! other, so that none of them is held up by the others.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as AnyBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use tidegate_core::provider::ChoicesTranslator;

/// The streams of several choices in the caller's words. Dropping it drops the provider's.
#[derive(Debug)]
pub struct ChoicesStream {
    /// Those that are not over.
    providers: Vec<Option<AnyBody>>,
    translator: ChoicesTranslator,
    /// Whose turn it is.
    turn: usize,
}

impl ChoicesStream {
    /// Translates `providers`, each of which must end its stream with an event, good or bad.
    #[must_use]
    pub fn new(providers: Vec<AnyBody>, translator: ChoicesTranslator) -> Self {
        Self { providers: providers.into_iter().map(Some).collect(), translator, turn: 0 }
    }

    fn is_over(&self) -> bool {
        self.translator.all_have_ended() || self.providers.iter().all(Option::is_none)
    }

    /// Looks once at a choice's stream: whether anything came of it.
    fn poll_choice(
        &mut self,
        choice: usize,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, axum::Error> {
        let Some(place) = self.providers.get_mut(choice) else { return Ok(false) };
        let Some(provider) = place else { return Ok(false) };
        let had_ended = self.translator.has_ended(choice);
        match Pin::new(provider).poll_frame(cx) {
            // A provider that is at its end too can keep its connection; no other is waited for.
            _ if had_ended => *place = None,
            Poll::Pending => return Ok(false),
            Poll::Ready(None) => {
                *place = None;
                self.translator.close(choice, out);
            }
            Poll::Ready(Some(frame)) => {
                if let Ok(chunk) = frame?.into_data() {
                    self.translator.push(choice, &chunk, out);
                }
            }
        }
        Ok(true)
    }
}

impl Body for ChoicesStream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let mut out = Vec::new();
        let mut idle = 0;
        while idle < this.providers.len() {
            let choice = this.turn % this.providers.len();
            this.turn = choice + 1;
            idle = if this.poll_choice(choice, cx, &mut out)? { 0 } else { idle + 1 };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
        if this.is_over() { Poll::Ready(None) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }
}
