//! The LLM API over real sockets: a caller, the router, and providers that misbehave to order.

mod bridge;
mod faults;
mod gateway;
mod local;
mod messages;
mod passing;
mod provider;
mod routing;
mod streams;
