//! A translated event stream: pulled only as fast as the caller reads.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body as AnyBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use tidegate_core::provider::StreamTranslator;

use crate::llm::front::responses::Keep;

/// A provider's stream in the caller's words. Dropping it drops the provider's.
#[derive(Debug)]
pub struct TranslatedStream {
    provider: AnyBody,
    translator: StreamTranslator,
    keep: Option<Keep>,
    ended: bool,
}

impl TranslatedStream {
    /// Translates `provider`, which must end its stream with an event, good or bad.
    #[must_use]
    pub const fn new(provider: AnyBody, translator: StreamTranslator, keep: Option<Keep>) -> Self {
        Self { provider, translator, keep, ended: false }
    }

    /// Keeps the response, if it is whole now and shall be kept.
    fn settle(&mut self) {
        if let (Some(keep), Some(whole)) = (&self.keep, self.translator.take_whole()) {
            keep.response(&whole);
        }
    }
}

impl Body for TranslatedStream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        while !this.ended {
            if this.translator.has_ended() {
                // A provider that is at its end too can keep its connection; no other is waited for.
                let _ = Pin::new(&mut this.provider).poll_frame(cx);
                this.ended = true;
                break;
            }
            let Some(frame) = ready!(Pin::new(&mut this.provider).poll_frame(cx)) else {
                this.ended = true;
                let mut out = Vec::new();
                this.translator.close(&mut out);
                this.settle();
                return Poll::Ready((!out.is_empty()).then(|| Ok(Frame::data(out.into()))));
            };
            let Ok(chunk) = frame?.into_data() else { continue };
            let mut out = Vec::with_capacity(chunk.len());
            this.translator.push(&chunk, &mut out);
            this.settle();
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
