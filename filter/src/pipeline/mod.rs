//! The path of one request through the gateway, in the order in which it happens:
//!
//! ```text
//! request headers   sanitise -> authenticate -> limit
//! request body      read -> L1 look-up (-> L2 look-up) -> incidents -> breaker -> refuse or pass on
//! response          observe -> store -> settle
//! ```
//!
//! Stages return values ([`Flow`]); only the SDK adapter turns them into pauses, resumptions and
//! local replies. A stream that is paused for its body and for a verdict at the same time goes on
//! when both are there, in whichever order they come.

mod authenticate;
mod breaker;
mod incident;
mod l1;
mod l2;
mod limit;
mod observe;
mod reply;
mod response;
mod sanitise;
mod signed;

use std::borrow::Cow;
use std::rc::Rc;

use tidegate_core::chat::RequestView;
use tidegate_core::event::{Counter, PathTemplate};
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::{Endpoint, RouteClass};
use tidegate_core::wire::header;

use crate::cells;
use crate::headers::HeaderMap;
use crate::ports::{Call, CallAnswer, StreamHost};
use crate::verdicts::{Caller, CredentialDigest};
use crate::vm::{Policy, Vm};

use incident::Stop;
pub use reply::LocalReply;
use sanitise::{Credential, Head};

/// What the host is to do with a stream now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// Let it pass.
    Continue,
    /// Hold it; a later callback decides.
    Pause,
    /// Ask the sidecar, and hold it until the answer comes.
    Ask(Call),
    /// Answer it here.
    Reply(LocalReply),
    /// Hold it, and ask again with [`Exchange::ask_again`] on each tick.
    Hold,
}

/// Where a stream is.
enum Phase {
    /// Before its headers.
    Fresh,
    /// Waiting for a verdict on its credential.
    Asking { digest: Option<CredentialDigest> },
    /// Waiting for the end of its body.
    Reading,
    /// Its body is here; waiting for what the semantic cache has.
    Looking,
    /// Its refusal waits for news since then.
    Held { since_ns: u64 },
    /// Passed on; the answer is observed.
    Forwarded,
    /// Answered by this filter.
    Replied,
}

/// Most requests of one VM whose refusals wait.
const HELD_MAX: usize = 256;

/// One request and its answer.
pub struct Exchange {
    phase: Phase,
    policy: Option<Rc<Policy>>,
    head: Head,
    caller: Option<Rc<Caller>>,
    started_ns: u64,
    body_bytes: usize,
    body_ended: bool,
    limit: limit::Taking,
    breaker: Option<breaker::Guard>,
    route: Cow<'static, str>,
    l1: l1::Plan,
    l2: l2::Plan,
    watch: observe::Watch,
    probes: incident::Probes,
    response: response::Observation,
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

impl Exchange {
    /// A stream before its first callback.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: Phase::Fresh,
            policy: None,
            head: Head::default(),
            caller: None,
            started_ns: 0,
            body_bytes: 0,
            body_ended: false,
            limit: limit::Taking::default(),
            breaker: None,
            route: Cow::Borrowed(""),
            l1: l1::Plan::default(),
            l2: l2::Plan::default(),
            watch: observe::Watch::default(),
            probes: incident::Probes::default(),
            response: response::Observation::default(),
        }
    }

    /// Whether this filter answered: what comes back then is its own reply.
    #[must_use]
    pub const fn is_replied(&self) -> bool {
        matches!(self.phase, Phase::Replied)
    }

    /// The request's headers.
    pub fn on_request_headers(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        headers: HeaderMap<'_>,
        ended: bool,
    ) -> Flow {
        self.started_ns = host.now_ns();
        if vm.policy.is_none() {
            // A worker whose first tick is still to come; the policy may have been published already.
            let _ = vm.adopt(host, &host.read(cells::DOCUMENT).bytes);
        }
        self.policy.clone_from(&vm.policy);
        self.body_ended = ended;
        let snapshot = self.policy.as_ref().map(|policy| &policy.snapshot);
        let trusted = snapshot.map_or(&[][..], |s| &s.limits.trusted_proxies);
        let regions = snapshot.map_or(&[][..], |s| &s.sampler.region_headers);
        let prefixes = snapshot.map_or(&[][..], |s| &s.direct.prefixes);
        self.head = match Head::sanitise(headers, host, trusted, regions, prefixes, self.started_ns) {
            Ok(head) => head,
            Err(refusal) => return self.refuse(vm, refusal),
        };
        match self.start(vm, host) {
            Ok(flow) => flow,
            Err(stop) => self.stop(vm, host, stop),
        }
    }

    /// More of the request's body: `bytes` are buffered by now.
    pub fn on_request_body(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        bytes: usize,
        ended: bool,
    ) -> Flow {
        self.body_bytes = bytes;
        self.body_ended = ended;
        match self.phase {
            Phase::Forwarded | Phase::Replied | Phase::Fresh => Flow::Continue,
            Phase::Looking => Flow::Pause,
            Phase::Held { .. } => Flow::Hold,
            Phase::Asking { .. } | Phase::Reading => {
                if let Err(refusal) = self.check_size(bytes as u64) {
                    return self.refuse(vm, refusal);
                }
                match self.phase {
                    Phase::Reading if ended => self.finish(vm, host),
                    _ => Flow::Pause,
                }
            }
        }
    }

    /// Trailers end a body that did not say it was the end.
    pub fn on_request_trailers(&mut self, vm: &mut Vm, host: &impl StreamHost) -> Flow {
        self.on_request_body(vm, host, self.body_bytes, true)
    }

    /// The sidecar's answer to [`Flow::Ask`]; `None` when there was none.
    pub fn on_answer(&mut self, vm: &mut Vm, host: &impl StreamHost, answer: Option<CallAnswer<'_>>) -> Flow {
        let digest = match self.phase {
            Phase::Asking { digest } => digest,
            Phase::Looking => return self.on_looked_up(vm, host, answer),
            _ => return Flow::Continue,
        };
        let answer = answer.filter(|answer| answer.status == 200).map(|answer| answer.body);
        let generation = self.policy.as_ref().map_or(0, |p| p.snapshot.auth.generation);
        let verdict = authenticate::learn(vm, host, digest, answer, self.started_ns, generation);
        match verdict.map_err(Stop::from).and_then(|caller| self.admit(vm, host, caller)) {
            Ok(flow) => flow,
            Err(stop) => self.stop(vm, host, stop),
        }
    }

    /// Whether its refusal waits.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Held { .. })
    }

    /// Asks again for a request whose refusal waits.
    pub fn ask_again(&mut self, vm: &mut Vm, host: &impl StreamHost) -> Flow {
        let Phase::Held { since_ns } = self.phase else { return Flow::Continue };
        if self.policy.as_ref().is_some_and(|p| self.probes.still_wait(host, p, since_ns, host.now_ns())) {
            return Flow::Hold;
        }
        self.policy.clone_from(&vm.policy);
        if self.head.reads_body() || self.head.is_signed() {
            return self.finish(vm, host);
        }
        match self.guard_route(vm, host) {
            Ok(()) => self.pass(vm, host),
            Err(stop) => self.stop(vm, host, stop),
        }
    }

    /// Ends a request's way here, or has it wait.
    fn stop(&mut self, vm: &mut Vm, host: &impl StreamHost, stop: Stop) -> Flow {
        match stop {
            Stop::Refuse(refusal) => self.refuse(vm, refusal),
            Stop::Wait => {
                if !self.is_held() {
                    self.phase = Phase::Held { since_ns: host.now_ns() };
                }
                Flow::Hold
            }
        }
    }

    /// From clean headers to a verdict on the caller.
    fn start(&mut self, vm: &mut Vm, host: &impl StreamHost) -> Result<Flow, Stop> {
        if self.head.class == RouteClass::Internal {
            return Err(Reply::new(Code::NotFound, "nothing answers at this path").into());
        }
        let Some(policy) = self.policy.clone() else {
            return Ok(self.without_policy()?);
        };
        if let Some(bytes) = self.head.content_length {
            self.check_size(bytes)?;
        }
        match authenticate::decide(vm, host, &self.head, &policy.snapshot.auth, self.started_ns)? {
            authenticate::Decision::Nobody => Ok(self.pass(vm, host)),
            authenticate::Decision::Known(caller) => self.admit(vm, host, caller),
            authenticate::Decision::Ask(digest, call) => {
                self.phase = Phase::Asking { digest };
                Ok(Flow::Ask(call))
            }
        }
    }

    /// Before the first policy only liveness is answered (by the sidecar).
    fn without_policy(&mut self) -> Result<Flow, Reply> {
        if self.head.class == RouteClass::Public && !sanitise::is_readiness(&self.head.path) {
            self.phase = Phase::Forwarded;
            return Ok(Flow::Continue);
        }
        Err(Reply::new(Code::GatewayStarting, "the gateway has not received its policy yet")
            .retry_after_ms(1000))
    }

    /// A known caller: role, limits, and on to the body if there is one to read.
    fn admit(&mut self, vm: &mut Vm, host: &impl StreamHost, caller: Rc<Caller>) -> Result<Flow, Stop> {
        self.caller = Some(Rc::clone(&caller));
        if self.head.class == RouteClass::Admin {
            authenticate::check_role(&caller.identity)?;
        } else {
            self.limit_caller(vm, host, &caller.identity)?;
        }
        if !self.head.reads_body() && !self.head.is_signed() {
            self.guard_route(vm, host)?;
            return Ok(self.pass(vm, host));
        }
        self.phase = Phase::Reading;
        Ok(if self.body_ended { self.finish(vm, host) } else { Flow::Pause })
    }

    /// An operator's own route has its breaker by the route's name, known before any body.
    fn guard_route(&mut self, vm: &mut Vm, host: &impl StreamHost) -> Result<(), Stop> {
        let (RouteClass::Other, Some(policy)) = (self.head.class, self.policy.clone()) else {
            return Ok(());
        };
        let route = host.route_name();
        let tenant = self.caller.as_ref().map_or("", |caller| caller.identity.tenant.as_str());
        let guard = breaker::Guard::of_route(route.clone(), tenant);
        self.weigh(vm, host, &policy, (&route, &guard), None)?;
        if self.probes.is_covered {
            return Ok(());
        }
        self.breaker = Some(guard.admit(vm, host, &policy.snapshot.breaker, self.started_ns)?);
        Ok(())
    }

    /// The whole request is here: breaker verdict, cache, and a decision.
    fn finish(&mut self, vm: &mut Vm, host: &impl StreamHost) -> Flow {
        let body = self.body(host);
        let checked = self.check_signed_body(&body).map_err(Stop::from);
        match checked.and_then(|()| self.look_up(vm, host, &body)) {
            Ok(flow) => flow,
            Err(stop) => self.stop(vm, host, stop),
        }
    }

    /// Reads the body. A stored answer is served even while the breaker is open.
    fn look_up(&mut self, vm: &mut Vm, host: &impl StreamHost, body: &[u8]) -> Result<Flow, Stop> {
        if !self.head.reads_body() {
            self.guard_route(vm, host)?;
            return Ok(self.pass(vm, host));
        }
        let Some(policy) = self.policy.clone() else { return Ok(self.pass(vm, host)) };
        let request = read_body(vm, body)?;
        // One whose refusal waits was looked up before.
        if !self.is_held() {
            self.plan_l1(&request, &policy);
            if let Some(hit) = self.look_up_l1(vm, host, &policy, body) {
                return Ok(self.reply(vm, Counter::LlmCacheHit, hit));
            }
            if let Some(call) = self.ask_l2(vm, host, &policy, &request, body) {
                self.phase = Phase::Looking;
                return Ok(Flow::Ask(call));
            }
        }
        self.decide(vm, host, &policy, (&request, body))?;
        Ok(self.pass(vm, host))
    }

    /// The semantic cache has an answer; or not, and the request goes on.
    fn on_looked_up(&mut self, vm: &mut Vm, host: &impl StreamHost, answer: Option<CallAnswer<'_>>) -> Flow {
        let Some(policy) = self.policy.clone() else { return self.pass(vm, host) };
        if let Some(hit) = self.heard_l2(vm, host, &policy, answer) {
            return self.reply(vm, Counter::LlmCacheHit, hit);
        }
        let body = self.body(host);
        let read = read_body(vm, &body).map_err(Stop::from);
        match read.and_then(|request| self.decide(vm, host, &policy, (&request, &body))) {
            Ok(()) => self.pass(vm, host),
            Err(stop) => self.stop(vm, host, stop),
        }
    }

    /// No stored answer: policies, limits about the body, and the breaker.
    fn decide(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        (request, body): (&RequestView<'_>, &[u8]),
    ) -> Result<(), Stop> {
        let RouteClass::Llm(endpoint) = self.head.class else { return Ok(()) };
        let tenant = self.caller.as_ref().map_or("", |caller| caller.identity.tenant.as_str());
        let guard = breaker::Guard::of_model(endpoint, &self.head.path, request.model_raw, tenant);
        self.weigh(vm, host, policy, (endpoint.label(), &guard), Some(request))?;
        self.limit_body(vm, host, policy, (endpoint, request, body))?;
        if self.probes.is_covered {
            return Ok(());
        }
        self.breaker = Some(guard.admit(vm, host, &policy.snapshot.breaker, self.started_ns)?);
        Ok(())
    }

    fn body(&self, host: &impl StreamHost) -> Vec<u8> {
        match self.body_bytes {
            0 => Vec::new(),
            bytes => host.request_body(bytes),
        }
    }

    /// The sidecar has checked what was signed, but has not seen the body.
    fn check_signed_body(&self, body: &[u8]) -> Result<(), Reply> {
        match &self.head.credential {
            Credential::Signed(signed) => signed.check_body(body),
            _ => Ok(()),
        }
    }

    /// Describes the request by its attributes, and asks the policies on slices of the traffic. Its
    /// breaker has no say where one of them breaks.
    fn weigh(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        (route, guard): (&str, &breaker::Guard),
        request: Option<&RequestView<'_>>,
    ) -> Result<(), Stop> {
        let path = PathTemplate::of(&self.head.path);
        let body = request.map(|request| (request, self.body_bytes));
        let values = observe::describe(&self.head, self.caller.as_deref(), route, &path, body);
        self.watch.tuple = Some(vm.traffic.tuple(&values));
        let (now_ns, since_ns) = match self.phase {
            Phase::Held { since_ns } => (host.now_ns(), Some(since_ns)),
            _ => (self.started_ns, None),
        };
        let may_wait = since_ns.is_some() || vm.held < HELD_MAX;
        let asking = incident::Asking { route: guard.label(), now_ns, since_ns, may_wait };
        let asked = self.probes.ask(vm, host, policy, &values, asking);
        if self.probes.is_covered {
            guard.hand_over(vm, host, &policy.snapshot.breaker, self.started_ns);
        }
        asked
    }

    fn pass(&mut self, vm: &mut Vm, host: &impl StreamHost) -> Flow {
        if let Some(caller) = &self.caller {
            // What the client sent under this name is gone.
            host.add_request_header(header::IDENTITY, &caller.header);
        }
        vm.counts.add(match self.head.class {
            RouteClass::Llm(_) => Counter::LlmForwarded,
            RouteClass::Admin => Counter::AdminForwarded,
            RouteClass::Public => Counter::PublicForwarded,
            RouteClass::Other | RouteClass::Internal => Counter::OtherForwarded,
        });
        self.phase = Phase::Forwarded;
        Flow::Continue
    }

    fn refuse(&mut self, vm: &mut Vm, refusal: Reply) -> Flow {
        let counter = match self.head.class {
            RouteClass::Llm(_) => Counter::LlmRefused,
            RouteClass::Admin => Counter::AdminRefused,
            RouteClass::Public => Counter::PublicRefused,
            RouteClass::Other => Counter::OtherRefused,
            RouteClass::Internal => Counter::InternalRefused,
        };
        let reply = LocalReply::refusal(&refusal, self.head.class.protocol(), &self.head.request_id);
        self.reply(vm, counter, reply)
    }

    fn reply(&mut self, vm: &mut Vm, counter: Counter, mut reply: LocalReply) -> Flow {
        vm.counts.add(counter);
        self.limit.describe(&mut reply.headers);
        reply.headers.push((header::REQUEST_ID, self.head.request_id.clone()));
        self.response.status = reply.status;
        self.phase = Phase::Replied;
        Flow::Reply(reply)
    }

    /// Bodies of the operator's own routes are the operator's business.
    fn check_size(&self, bytes: u64) -> Result<(), Reply> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let most = policy.snapshot.body_bytes_max;
        let is_held = self.head.class != RouteClass::Other || self.head.is_signed();
        if !is_held || bytes <= most {
            return Ok(());
        }
        Err(Reply::new(
            Code::RequestTooLarge,
            format!(
                "the request body is larger than {most} bytes; send a smaller one, or raise server.max_request_body"
            ),
        ))
    }
}

impl Head {
    /// Whether the decision needs the body: a POST to an operation that takes JSON.
    fn reads_body(&self) -> bool {
        matches!(self.class, RouteClass::Llm(endpoint) if endpoint != Endpoint::Models) && self.is_post
    }

    /// Whether the body has to be the one that was signed.
    const fn is_signed(&self) -> bool {
        matches!(self.credential, Credential::Signed(_))
    }
}

fn read_body<'b>(vm: &mut Vm, body: &'b [u8]) -> Result<RequestView<'b>, Reply> {
    if body.is_empty() {
        return Err(Reply::new(Code::InvalidJson, "the request body is empty; send a JSON object"));
    }
    vm.tape
        .read(body)
        .map_err(|e| Reply::new(Code::InvalidJson, format!("the request body is not valid JSON: {e}")))?;
    if !vm.tape.is_object() {
        return Err(Reply::new(Code::InvalidJson, "the request body must be a JSON object"));
    }
    Ok(RequestView::new(&vm.tape, body))
}
