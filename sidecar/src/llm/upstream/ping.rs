//! Whether a provider answers at all.

use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use tidegate_core::route::Protocol;

use super::{JSON, Operation, Upstream, fault, headers};

impl Upstream {
    /// Asks for the model list, which costs nothing, and reads nothing but the status. A server
    /// without one is well too: it answers 404.
    ///
    /// # Errors
    /// What is wrong, without addresses: no connection, no answer in time, a failure of the
    /// server, or a key that it does not accept.
    pub async fn ping(&self, timeout: Duration) -> Result<(), String> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::GET;
        // Where there is no such list, the address before it shows as well whether anybody is there.
        let address = self.addresses.models().cloned();
        *request.uri_mut() = address
            .map_or_else(|| self.addresses.of(Operation::Chat, "", false), Ok)
            .map_err(|e| e.message)?;
        request.headers_mut().insert(ACCEPT, JSON);
        let nobody = HeaderMap::new();
        headers::forward_request(Protocol::OpenAi, self.target.format, &nobody, request.headers_mut());
        self.sign(request.headers_mut(), 0);
        let answered = tokio::time::timeout(timeout, self.transport.request(request)).await;
        let response = answered
            .map_err(|_| format!("did not answer within {} ms", timeout.as_millis()))?
            .map_err(|error| fault::of_connection(&self.name, &error).message)?;
        match response.status().as_u16() {
            // Elsewhere nothing is asked with a key, or a signature, that could be refused.
            401 | 403 if self.lists_models() => Err("does not accept the key".to_owned()),
            status @ 500.. => Err(format!("answered {status}")),
            _ => Ok(()),
        }
    }
}
