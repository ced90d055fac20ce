//! A chat by way of the semantic cache: an answer that is there already, or one call to a
//! provider for everybody who asks the same at this moment, stored when it is whole.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tidegate_core::cache::Kind;
use tidegate_core::cache::control::{RequestControl, response_may_be_stored};
use tidegate_core::cache::replay::events;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::wire::header;

use super::{ATTEMPTS, Ask, Front, MODEL, PROVIDER};
use crate::keys::unix_ms;
use crate::l2::flight::{Head, Joined, Reader, Writer, begin};
use crate::l2::{Answer, Asked, Hit, Looked};
use crate::llm::upstream::is_event_stream;
use crate::trace::{self, Trace};

/// What the cache did for a request.
pub const CACHE: HeaderName = HeaderName::from_static(header::CACHE);
const LAYER: HeaderName = HeaderName::from_static(header::CACHE_LAYER);
const SIMILARITY: HeaderName = HeaderName::from_static(header::CACHE_SIMILARITY);
const ENTRY: HeaderName = HeaderName::from_static(header::CACHE_ENTRY);

/// What the request's `cache-control` allows.
#[must_use]
pub fn control(headers: &HeaderMap) -> RequestControl {
    let mut control = RequestControl::FREE;
    for value in headers.get_all(CACHE_CONTROL) {
        let one = RequestControl::parse(value.as_bytes());
        control.may_serve &= one.may_serve;
        control.may_store &= one.may_store;
    }
    control
}

/// Answers a chat that the cache knows something about.
///
/// # Errors
/// There is neither a stored answer nor one by a provider.
pub async fn answer(front: Arc<Front>, ask: Ask, mut asked: Asked) -> Result<Response, Reply> {
    if asked.control.may_serve
        && let Looked::Hit(hit) = look_up(&front, &ask, &mut asked).await
        && let Some(response) = replay(&hit, &asked)
    {
        return Ok(response);
    }
    let may_store = asked.control.may_store;
    let mut response = fly(front, ask, asked).await?;
    let headers = response.headers_mut();
    headers.entry(CACHE).or_insert(HeaderValue::from_static("miss"));
    if !may_store {
        // Something in it must not be stored, in no other cache either.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// What the cache has, with a span of its own where the request is traced.
async fn look_up(front: &Front, ask: &Ask, asked: &mut Asked) -> Looked {
    let place = ask.head.extensions.get::<Trace>();
    let span = place.and_then(|place| place.span("cache.lookup", trace::Kind::Internal));
    let looked = front.services.cache.look_up(asked).await;
    if let Some(mut span) = span {
        match &looked {
            Looked::Hit(hit) => {
                span.set("tidegate.cache.result", "hit");
                span.set("tidegate.cache.similarity", hit.similarity);
            }
            Looked::Miss { reason, .. } => {
                span.set("tidegate.cache.result", "miss");
                span.set("tidegate.cache.reason", *reason);
            }
        }
    }
    looked
}

/// A stored answer in the form that is asked for; `None` if it cannot be given in this form.
#[must_use]
pub fn replay(hit: &Hit, asked: &Asked) -> Option<Response> {
    let entry = &hit.entry;
    let mut response = if asked.question.stream {
        let events = events(entry.protocol, &entry.body, asked.question.include_usage)?;
        Response::new(Body::new(Events(events.into())))
    } else {
        Response::new(Body::from(entry.body.clone()))
    };
    let kind = if asked.question.stream { Kind::Sse } else { Kind::Json };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind.content_type()));
    headers.insert(CACHE, HeaderValue::from_static("hit"));
    headers.insert(LAYER, HeaderValue::from_static(hit.layer.label()));
    headers.insert(ATTEMPTS, HeaderValue::from_static("0"));
    headers.insert(AGE, entry.age_s(unix_ms()).into());
    for (name, value) in [
        (SIMILARITY, format!("{:.4}", hit.similarity).as_str()),
        (ENTRY, &entry.name.to_string()),
        (PROVIDER, &entry.provider),
        (MODEL, &entry.answered_by),
    ] {
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    Some(response)
}

/// A stored answer's events, one after the other.
struct Events(VecDeque<Vec<u8>>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|event| Ok(Frame::data(event.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// Joins the call that is made for this question, or makes it. If the one that was joined failed,
/// whoever waited for it tries once more.
async fn fly(front: Arc<Front>, ask: Ask, asked: Asked) -> Result<Response, Reply> {
    // Who wants a fresh answer gets one, and shares it with nobody.
    if asked.control.may_serve && asked.control.may_store {
        for is_last in [false, true] {
            // After a failure only for equal questions: this one's own call is the next best.
            if !is_last
                && let Some((reader, similarity)) = front.services.cache.on_its_way(&asked)
                && let Some(head) = reader.head().await.filter(is_good)
            {
                front.services.cache.count_coalesced();
                return Ok(alike(respond(head, reader).await?, similarity));
            }
            match front.services.cache.flights.join(&asked.identity) {
                Joined::Leader(writer, reader) => return lead(front, ask, asked, writer, reader).await,
                Joined::Follower(reader) => {
                    let head = reader.head().await.filter(|head| is_last || is_good(head));
                    if let Some(head) = head {
                        front.services.cache.count_coalesced();
                        return respond(head, reader).await;
                    }
                }
            }
        }
    }
    let (writer, reader) = begin();
    lead(front, ask, asked, writer, reader).await
}

/// Says that an answer was given to a question in other words, so that it is kept for these nowhere.
fn alike(mut response: Response, similarity: f32) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE, HeaderValue::from_static("hit"));
    headers.insert(LAYER, HeaderValue::from_static("semantic"));
    if let Ok(similarity) = HeaderValue::from_str(&format!("{similarity:.4}")) {
        headers.insert(SIMILARITY, similarity);
    }
    response
}

fn is_good(head: &Head) -> bool {
    head.as_ref().is_ok_and(|(status, _)| status.is_success())
}

/// Makes the call on a task of its own, so that it outlives this caller if others read too.
async fn lead(
    front: Arc<Front>,
    ask: Ask,
    asked: Asked,
    writer: Writer,
    reader: Reader,
) -> Result<Response, Reply> {
    let entered = front.services.cache.announce(&asked);
    tokio::spawn(async move {
        let (cache, _entered) = (&front.services.cache, entered);
        let close = || cache.flights.close(&asked.identity, &writer);
        let delivered = tokio::select! {
            biased;
            delivered = deliver(&front, &ask, &writer, close) => delivered,
            () = writer.abandoned() => None,
        };
        if let Some(Delivered { kind, provider, model }) = delivered
            && asked.control.may_store
            && let Some(body) = writer.whole()
        {
            let answer = Answer { kind, body: &body, provider: &provider, model: &model };
            cache.store(&asked, answer).await;
        }
        close();
    });
    match reader.head().await {
        Some(head) => respond(head, reader).await,
        None => Err(Reply::new(Code::InternalError, "The call to the provider ended without an answer.")),
    }
}

/// A whole answer that came from a provider and may be stored.
struct Delivered {
    kind: Kind,
    provider: String,
    model: String,
}

/// Lets the provider's answer into the flight. A failure is for those who are there already:
/// `close` keeps others from joining it.
async fn deliver(front: &Front, ask: &Ask, writer: &Writer, close: impl Fn()) -> Option<Delivered> {
    let response = match front.forward(ask).await {
        Ok(response) => response,
        Err(reply) => {
            close();
            writer.head(Err(reply));
            return None;
        }
    };
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        close();
    }
    let kind = storable(&head.headers).filter(|_| head.status == 200);
    let [provider, model] = [PROVIDER, MODEL].map(|name| text(&head.headers, &name));
    writer.head(Ok((head.status, head.headers)));
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.ok()?.into_data() else { continue };
        if !chunk.is_empty() && !writer.push(chunk).await {
            return None;
        }
    }
    writer.end();
    Some(Delivered { kind: kind?, provider, model })
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// How an answer with these headers is stored, if it may be.
fn storable(headers: &HeaderMap) -> Option<Kind> {
    let allowed = headers.get_all(CACHE_CONTROL).iter().all(|value| response_may_be_stored(value.as_bytes()));
    let kind = headers.get(CONTENT_TYPE)?.as_bytes();
    match kind {
        _ if !allowed => None,
        _ if is_event_stream(headers) => Some(Kind::Sse),
        kind if kind.starts_with(b"application/json") => Some(Kind::Json),
        _ => None,
    }
}

/// The answer of a flight as a response; a whole one is sent with its length.
async fn respond(head: Head, reader: Reader) -> Result<Response, Reply> {
    let (status, headers) = head?;
    let body = if is_event_stream(&headers) { Body::new(reader) } else { Body::from(reader.rest().await) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
