//! Who a caller is, in the form that travels from the filter to the sidecar.

use serde::{Deserialize, Serialize};

/// Longest tenant or key id, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Length of a [`Identity::scope`], in hexadecimal digits.
pub const SCOPE_DIGITS: usize = 32;

/// What a caller may do beyond using the LLM API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Uses the LLM API.
    User,
    /// Reads and changes operations, but not keys.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Whether this role may use the admin paths.
    #[must_use]
    pub const fn may_administer(self) -> bool {
        matches!(self, Self::Operator | Self::Admin)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// An authenticated (or admitted anonymous) caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Tenant; see [`is_name`] for its alphabet.
    pub tenant: String,
    /// Id of the key used; `None` for anonymous callers.
    pub key: Option<String>,
    /// What the caller may do.
    pub role: Role,
    /// Digest of the caller's model allow-list, in hexadecimal; `None` for callers without one.
    /// Cached answers are kept apart by it, so that nobody is served from a cache what the
    /// sidecar would refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Identity {
    /// The caller that presented no credential.
    #[must_use]
    pub fn anonymous(tenant: &str) -> Self {
        Self { tenant: tenant.to_owned(), key: None, role: Role::User, scope: None }
    }

    /// `tenant;key;role` and, if there is one, `;scope`: the value of
    /// [`super::header::IDENTITY`].
    #[must_use]
    pub fn to_header(&self) -> String {
        let key = self.key.as_deref().unwrap_or_default();
        let scope = self.scope.as_deref().unwrap_or_default();
        let mut out = String::with_capacity(self.tenant.len() + key.len() + scope.len() + 12);
        for part in [&self.tenant, ";", key, ";", self.role.as_str()] {
            out.push_str(part);
        }
        if !scope.is_empty() {
            out.push(';');
            out.push_str(scope);
        }
        out
    }

    /// Reads the value that [`Identity::to_header`] wrote; `None` for anything else.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        let mut parts = value.split(';');
        let (tenant, key, role) = (parts.next()?, parts.next()?, parts.next()?);
        let role = match role {
            "user" => Role::User,
            "operator" => Role::Operator,
            "admin" => Role::Admin,
            _ => return None,
        };
        let key = match key {
            "" => None,
            key if is_name(key) => Some(key.to_owned()),
            _ => return None,
        };
        let scope = match parts.next() {
            None => None,
            Some(scope) if is_scope(scope) => Some(scope.to_owned()),
            Some(_) => return None,
        };
        let tenant = (parts.next().is_none() && is_name(tenant)).then(|| tenant.to_owned())?;
        Some(Self { tenant, key, role, scope })
    }
}

fn is_scope(text: &str) -> bool {
    text.len() == SCOPE_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `name` can be a tenant, key id or provider name: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_the_header() {
        for identity in [
            Identity::anonymous("demo"),
            Identity { tenant: "a.b".into(), key: Some("k_1".into()), role: Role::Admin, scope: None },
            Identity {
                tenant: "a.b".into(),
                key: Some("k_1".into()),
                role: Role::User,
                scope: Some("0123456789abcdef0123456789abcdef".into()),
            },
        ] {
            assert_eq!(Identity::from_header(&identity.to_header()), Some(identity));
        }
    }

    #[test]
    fn a_forged_or_broken_header_is_nobody() {
        for value in [
            "",
            "a",
            "a;b",
            "a;b;root",
            "a;b;user;x",
            "a;b;user;",
            "a;b;user;0123456789abcdef0123456789abcdef;",
            "a;b;user;0123456789ABCDEF0123456789ABCDEF",
            ";k;user",
            "a b;;user",
            "a;k k;user",
        ] {
            assert_eq!(Identity::from_header(value), None, "{value:?}");
        }
    }
}
