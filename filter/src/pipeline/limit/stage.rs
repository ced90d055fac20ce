//! Where a request meets its limits: once by its headers, once by its body.

use std::borrow::Cow;

use tidegate_core::address::ClientAddress;
use tidegate_core::chat::RequestView;
use tidegate_core::limit::Subject;
use tidegate_core::reply::Reply;
use tidegate_core::route::{Endpoint, RouteClass};
use tidegate_core::wire::Identity;

use super::{Need, model_of};
use crate::pipeline::Exchange;
use crate::pipeline::sanitise::Head;
use crate::ports::StreamHost;
use crate::vm::{Policy, Vm};

/// What `tidegate envoy` puts before the names of operators' upstreams.
const UPSTREAM_PREFIX: &str = "upstream_";
/// The end of the path that only counts tokens, and so uses none.
const COUNT_TOKENS: &str = "/count_tokens";

impl Exchange {
    /// What the caller is limited by, before there is a body.
    pub(in crate::pipeline) fn limit_caller(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        identity: &Identity,
    ) -> Result<(), Reply> {
        let Some(policy) = self.policy.clone() else { return Ok(()) };
        self.route = self.route_of(host, &policy);
        let subject = self.head.subject(identity, &self.route, &policy);
        self.limit.enter(vm, host, &policy, &subject, self.started_ns)?;
        if self.head.reads_body() {
            return Ok(());
        }
        self.limit.admit(vm, host, &subject, self.started_ns)
    }

    /// What the body's model and size are limited by.
    pub(in crate::pipeline) fn limit_body(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        (endpoint, request, body): (Endpoint, &RequestView<'_>, &[u8]),
    ) -> Result<(), Reply> {
        let Some(caller) = self.caller.clone() else { return Ok(()) };
        let model = model_of(request);
        let subject =
            Subject { model: model.as_deref(), ..self.head.subject(&caller.identity, &self.route, policy) };
        let counts = !self.head.path.ends_with(COUNT_TOKENS);
        let need = |vm: &Vm, model| match counts {
            true => Need::of(vm, endpoint, &vm.tape, body, model),
            false => Need::default(),
        };
        self.limit.reserve(vm, host, policy, &subject, need, self.started_ns)?;
        self.limit.admit(vm, host, &subject, self.started_ns)
    }

    /// The route's name in limits; Envoy is asked only where it matters.
    fn route_of(&self, host: &impl StreamHost, policy: &Policy) -> Cow<'static, str> {
        match self.head.class {
            RouteClass::Llm(endpoint) => Cow::Borrowed(endpoint.label()),
            _ if policy.levels.know_route => {
                let name = host.route_name();
                Cow::Owned(name.strip_prefix(UPSTREAM_PREFIX).map(str::to_owned).unwrap_or(name))
            }
            _ => Cow::Borrowed(""),
        }
    }
}

impl Head {
    /// Who asks, as limits see it; the model comes with the body.
    fn subject<'a>(&self, identity: &'a Identity, route: &'a str, policy: &Policy) -> Subject<'a> {
        let ip = self.source.filter(|_| policy.levels.know_ip).map(ClientAddress::of);
        Subject { tenant: &identity.tenant, key: identity.key.as_deref(), ip, route, model: None }
    }
}
