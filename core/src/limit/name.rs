//! What a bucket is called, and the 64 bits under which it is found.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::address::ClientAddress;
use crate::policy::{EACH, Selector};

/// What a rule can tell requests apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Attribute {
    /// Tenant.
    Tenant,
    /// Id of the API key or user.
    Key,
    /// Client's address.
    Ip,
    /// LLM operation or operator's upstream.
    Route,
    /// Model asked for.
    Model,
}

impl Attribute {
    /// All, in the order in which they stand in names.
    pub const ALL: [Self; 5] = [Self::Tenant, Self::Key, Self::Ip, Self::Route, Self::Model];

    /// Its word in configurations and names.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::Ip => "ip",
            Self::Route => "route",
            Self::Model => "model",
        }
    }
}

/// A set of attributes: what the requests of one bucket have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Shape(u8);

impl Shape {
    /// The attributes that a selector names.
    #[must_use]
    pub fn of(selector: &Selector) -> Self {
        let named = Attribute::ALL.into_iter().filter(|a| selector.get(*a).is_some());
        named.fold(Self::default(), Self::with)
    }

    const fn with(self, attribute: Attribute) -> Self {
        Self(self.0 | 1 << attribute as u8)
    }

    /// Whether the attribute is in it.
    #[must_use]
    pub const fn has(self, attribute: Attribute) -> bool {
        self.0 & 1 << attribute as u8 != 0
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether it is that of all requests together.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The attribute by which refusals are counted: the one that says most about the caller.
    #[must_use]
    pub fn leading(self) -> Option<Attribute> {
        use Attribute::{Ip, Key, Model, Route, Tenant};
        [Key, Ip, Model, Route, Tenant].into_iter().find(|attribute| self.has(*attribute))
    }
}

/// Who asks for what; borrowed, since it is put together for every request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// Tenant.
    pub tenant: &'a str,
    /// Id of the key or user; `None` for anonymous callers.
    pub key: Option<&'a str>,
    /// Client's address, if it is known.
    pub ip: Option<ClientAddress>,
    /// LLM operation or upstream.
    pub route: &'a str,
    /// Model, once it is known.
    pub model: Option<&'a str>,
}

impl<'a> Subject<'a> {
    /// The value of an attribute, except the address, which is a number.
    pub(super) const fn text(&self, attribute: Attribute) -> Option<&'a str> {
        match attribute {
            Attribute::Tenant => Some(self.tenant),
            Attribute::Key => self.key,
            Attribute::Ip => None,
            Attribute::Route => Some(self.route),
            Attribute::Model => self.model,
        }
    }

    /// Whether it has all attributes of a shape.
    pub(super) fn has(&self, shape: Shape) -> bool {
        (!shape.has(Attribute::Key) || self.key.is_some())
            && (!shape.has(Attribute::Ip) || self.ip.is_some())
            && (!shape.has(Attribute::Model) || self.model.is_some())
    }
}

/// The name of one bucket: `global`, `tenant:acme`, `tenant:acme,model:gpt-4o`. The address is
/// kept apart, so that what is resolved once for a caller serves all addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketName {
    shape: Shape,
    values: [Option<String>; Attribute::ALL.len()],
    ip: Option<ClientAddress>,
}

const GLOBAL: &str = "global";

impl BucketName {
    /// The bucket of `subject` among those of a shape.
    #[must_use]
    pub fn of(shape: Shape, subject: &Subject<'_>) -> Self {
        let values =
            Attribute::ALL.map(|a| if shape.has(a) { subject.text(a).map(str::to_owned) } else { None });
        Self { shape, values, ip: subject.ip.filter(|_| shape.has(Attribute::Ip)) }
    }

    /// What requests of this bucket have in common.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Somebody who meets this bucket.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        let [tenant, key, _, route, model] = &self.values;
        Subject {
            tenant: tenant.as_deref().unwrap_or_default(),
            key: key.as_deref(),
            ip: self.ip,
            route: route.as_deref().unwrap_or_default(),
            model: model.as_deref(),
        }
    }

    /// The bucket's number, with `*` where the address stands.
    pub(super) fn tag_without_ip(&self) -> u64 {
        let text = Self { ip: None, ..self.clone() }.to_string();
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// 64 bits of a digest of the name: the same in every gateway of a fleet. Names are chosen by
    /// callers too, so that they must not be able to choose the bits.
    #[must_use]
    pub fn tag(&self) -> u64 {
        tag_at(self.tag_without_ip(), self.ip)
    }
}

/// The number of one address's bucket: the finaliser of `SplitMix64` (Steele, Lea and Flood 2014)
/// over the number of the rule's buckets and the address.
#[must_use]
pub(super) const fn tag_at(tag: u64, ip: Option<ClientAddress>) -> u64 {
    let Some(ip) = ip else { return tag };
    let number = ip.number();
    mix(tag ^ mix(number as u64 ^ mix((number >> 64) as u64 + 1)))
}

const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shape.is_empty() {
            return f.write_str(GLOBAL);
        }
        let mut separator = "";
        for (attribute, value) in Attribute::ALL.into_iter().zip(&self.values) {
            if !self.shape.has(attribute) {
                continue;
            }
            write!(f, "{separator}{}:", attribute.label())?;
            match (value, &self.ip) {
                (Some(value), _) => f.write_str(value)?,
                (None, Some(ip)) => ip.fmt(f)?,
                (None, None) => f.write_str(EACH)?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for BucketName {
    type Err = String;

    /// Reads what [`fmt::Display`] writes; attributes in any order, but the model last, since its
    /// name may hold anything.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut name = Self { shape: Shape::default(), values: Default::default(), ip: None };
        let mut rest = if text == GLOBAL { "" } else { text };
        if text.is_empty() {
            return Err(usage());
        }
        while !rest.is_empty() {
            let (label, after) = rest.split_once(':').ok_or_else(usage)?;
            let attribute = Attribute::ALL.into_iter().find(|a| a.label() == label).ok_or_else(usage)?;
            let is_last = attribute == Attribute::Model;
            let (value, next) =
                if is_last { (after, "") } else { after.split_once(',').unwrap_or((after, "")) };
            if name.shape.has(attribute) || value == EACH {
                return Err(usage());
            }
            name.shape = name.shape.with(attribute);
            if attribute == Attribute::Ip {
                name.ip = Some(value.parse().map_err(|()| usage())?);
            } else if Selector::is_value(attribute, value) {
                *name.values.get_mut(attribute as usize).ok_or_else(usage)? = Some(value.to_owned());
            } else {
                return Err(usage());
            }
            rest = next;
        }
        Ok(name)
    }
}

fn usage() -> String {
    "is no bucket's name; write global, or some of tenant:, key:, ip:, route:, model: in this order, as in \
     tenant:acme,model:gpt-4o"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_each_has_bits_of_its_own() {
        let names = [
            "global",
            "tenant:acme",
            "key:acme",
            "ip:192.0.2.7",
            "ip:192.0.2.8",
            "ip:2001:db8:1:2::/64",
            "tenant:acme,ip:192.0.2.7",
            "tenant:acme,model:gpt-4o",
            "model:a,b:c,model:d",
        ];
        let mut tags = Vec::new();
        for text in names {
            let name: BucketName = text.parse().expect("a name");
            assert_eq!(name.to_string(), text);
            assert_eq!(BucketName::of(name.shape(), &name.subject()), name);
            tags.push(name.tag());
        }
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), names.len());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "acme", "tenant:", "tenant:*", "tenant:a,tenant:b", "ip:x", "user:a", "tenant:a b"] {
            assert!(text.parse::<BucketName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_counted_where_it_says_most() {
        let leading = |text: &str| text.parse::<BucketName>().expect("a name").shape().leading();
        assert_eq!(leading("global"), None);
        assert_eq!(leading("tenant:a,model:m"), Some(Attribute::Model));
        assert_eq!(leading("tenant:a,key:k"), Some(Attribute::Key));
    }
}
