//! Who asks for a change, as handlers take it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Response;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::wire::{Identity, Role};

use crate::audit::Actor;
use crate::refusal::refuse_here;
use crate::source::Source;

/// Somebody with role admin; operators are refused.
pub struct Admin(pub Actor);

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let extensions = &parts.extensions;
        let (Some(identity), Some(source)) = (extensions.get::<Identity>(), extensions.get::<Source>())
        else {
            // The router is behind the check of the caller, which leaves both.
            return Err(refuse_here(&Reply::new(Code::InternalError, "the caller is not known here")));
        };
        Ok(Self::caller(identity.clone(), source.to_string()))
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let actor = Actor::from_request_parts(parts, state).await?;
        if actor.role == Some(Role::Admin) {
            return Ok(Self(actor));
        }
        let message = "this path needs a key with role admin";
        Err(refuse_here(&Reply::new(Code::PermissionDenied, message)))
    }
}
