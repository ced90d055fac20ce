//! The LLM API over real sockets: a caller, the router, and providers that misbehave to order.

mod bridge;
mod choices;
mod faults;
mod formats;
mod gateway;
mod local;
mod messages;
mod passing;
mod provider;
mod responses;
mod routing;
mod streams;
