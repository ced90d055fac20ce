//! Which limits a request must pass, resolved once for each caller, route and model.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_core::address::ClientAddress;
use tidegate_core::hash::hash;
use tidegate_core::limit::{Attribute, Level, RuleSet, Subject};
use tidegate_core::policy::Limits;

/// Resolutions that one VM remembers; another with the same slot is merely made again.
const SLOTS: usize = 256;

/// Stands for every address.
const ANY_ADDRESS: ClientAddress = ClientAddress::V4(0);

#[derive(Debug)]
struct Resolved {
    tenant: String,
    key: Option<String>,
    ip: Option<ClientAddress>,
    route: String,
    model: Option<String>,
    levels: Rc<[Level]>,
}

impl Resolved {
    fn is_of(&self, subject: &Subject<'_>) -> bool {
        self.tenant == subject.tenant
            && self.key.as_deref() == subject.key
            && self.ip == subject.ip
            && self.route == subject.route
            && self.model.as_deref() == subject.model
    }
}

/// The rules of a policy, and what was resolved of them.
#[derive(Debug)]
pub struct Levels {
    rules: RuleSet,
    /// Whether any rule is about addresses, so that the client's has to be known.
    pub know_ip: bool,
    /// Whether any rule is about routes, so that Envoy has to be asked for its route's name.
    pub know_route: bool,
    know_model: bool,
    name_ip: bool,
    slots: RefCell<Vec<Option<Resolved>>>,
}

impl Levels {
    /// Prepares the rules of a validated document.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let rules = RuleSet::new(limits);
        Self {
            know_ip: rules.knows(Attribute::Ip),
            know_route: rules.knows(Attribute::Route),
            know_model: rules.knows(Attribute::Model),
            name_ip: rules.names(Attribute::Ip),
            slots: RefCell::new((0..SLOTS).map(|_| None).collect()),
            rules,
        }
    }

    /// Levels that are known from the headers: all that are not about the model.
    #[must_use]
    pub fn of_caller(&self, subject: &Subject<'_>) -> Rc<[Level]> {
        self.resolve(&Subject { model: None, ..*subject })
    }

    /// Levels that are about the model.
    #[must_use]
    pub fn of_model(&self, subject: &Subject<'_>) -> Rc<[Level]> {
        if self.know_model && subject.model.is_some() { self.resolve(subject) } else { Rc::default() }
    }

    /// All levels, for somebody who describes a request.
    #[must_use]
    pub fn all(&self, subject: &Subject<'_>) -> Vec<Level> {
        self.rules.levels(subject)
    }

    fn resolve(&self, subject: &Subject<'_>) -> Rc<[Level]> {
        // Where no rule names an address, all addresses have the same levels.
        let ip = subject.ip.map(|ip| if self.name_ip { ip } else { ANY_ADDRESS });
        let asked = Subject { ip, ..*subject };
        let ip = asked.ip.map_or(0, ClientAddress::number).to_le_bytes();
        let (key, model) = (asked.key.unwrap_or_default(), asked.model.unwrap_or_default());
        let parts = [asked.tenant, key, asked.route, model].map(str::as_bytes);
        let slot = (hash(&parts) ^ hash(&[&ip])) % SLOTS as u64;
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(slot as usize) else { return Rc::default() };
        if let Some(found) = slot.as_ref().filter(|found| found.is_of(&asked)) {
            return Rc::clone(&found.levels);
        }
        let levels = self.rules.levels(subject).into_iter();
        let levels: Rc<[Level]> =
            levels.filter(|level| level.shape.has(Attribute::Model) == subject.model.is_some()).collect();
        *slot = Some(Resolved {
            tenant: asked.tenant.to_owned(),
            key: asked.key.map(str::to_owned),
            ip: asked.ip,
            route: asked.route.to_owned(),
            model: asked.model.map(str::to_owned),
            levels: Rc::clone(&levels),
        });
        levels
    }
}
