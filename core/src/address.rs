//! Where a request comes from, as far as limits care: an IPv4 address, or an IPv6 network of 64
//! bits, which is what one customer gets (RFC 6177). And which of the addresses in
//! `x-forwarded-for` is the client's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most addresses of `x-forwarded-for` that are looked at, from the right.
const HOPS_MAX: usize = 32;
/// Longest text of an address, in bytes.
const ADDRESS_BYTES_MAX: usize = 45;

/// A client's address, or its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// An IPv4 address; also one that was written as IPv6.
    V4(u32),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl ClientAddress {
    /// Of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }

    /// A number of its own for each address.
    #[must_use]
    pub const fn number(self) -> u128 {
        match self {
            Self::V4(bits) => bits as u128,
            Self::V6(bits) => 1 << 64 | bits as u128,
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(bits) => Ipv4Addr::from_bits(*bits).fmt(f),
            Self::V6(bits) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*bits) << 64)),
        }
    }
}

impl FromStr for ClientAddress {
    type Err = ();

    /// Reads an address, or what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(network) = text.strip_suffix("/64") {
            return network.parse::<Ipv6Addr>().map(|v6| Self::of(v6.into())).map_err(|_| ());
        }
        text.parse::<IpAddr>().map(Self::of).map_err(|_| ())
    }
}

/// A network of proxies: an address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: u128,
    prefix: u8,
    is_v4: bool,
}

impl Network {
    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, is_v4) = bits(address.to_canonical());
        is_v4 == self.is_v4 && (bits ^ self.address) & self.mask() == 0
    }

    const fn width(&self) -> u8 {
        if self.is_v4 { 32 } else { 128 }
    }

    /// Ones where the address counts.
    fn mask(&self) -> u128 {
        let free = u32::from(self.width() - self.prefix);
        let all = if self.is_v4 { u128::from(u32::MAX) } else { u128::MAX };
        all & u128::MAX.checked_shl(free).unwrap_or(0)
    }
}

fn bits(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), true),
        IpAddr::V6(v6) => (v6.to_bits(), false),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = u32::try_from(self.address).ok().filter(|_| self.is_v4);
        match address {
            Some(v4) => write!(f, "{}/{}", Ipv4Addr::from_bits(v4), self.prefix),
            None => write!(f, "{}/{}", Ipv6Addr::from_bits(self.address), self.prefix),
        }
    }
}

impl FromStr for Network {
    type Err = ();

    /// `192.0.2.0/24`, `2001:db8::/32`, or one address.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| ())?)),
            None => (text, None),
        };
        let (address, is_v4) = bits(address.parse().map_err(|_| ())?);
        let width = if is_v4 { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        if prefix > width {
            return Err(());
        }
        let mut network = Self { address, prefix, is_v4 };
        network.address &= network.mask();
        Ok(network)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom("must be a network such as 10.0.0.0/8"))
    }
}

/// The client's address in the value of `x-forwarded-for`. Envoy writes its peer's address last
/// (and its own for a peer on the same machine, so that `peer`, where it is known, goes before);
/// while that is a trusted proxy's, the one before it is what this proxy says of its own peer.
/// Everything further to the left may have been written by the client. `None` without a usable
/// address at the place that counts.
#[must_use]
pub fn client_of(forwarded_for: &[u8], peer: Option<IpAddr>, trusted: &[Network]) -> Option<IpAddr> {
    let mut nearest = None;
    for (hop, part) in forwarded_for.rsplit(|byte| *byte == b',').take(HOPS_MAX).enumerate() {
        let part = part.trim_ascii();
        let text = std::str::from_utf8(part).ok().filter(|text| text.len() <= ADDRESS_BYTES_MAX);
        let written = text.and_then(|text| text.parse::<IpAddr>().ok());
        // What a trusted proxy passed on unchecked is no address; the proxy itself is then the
        // nearest thing known.
        let Some(address) = peer.filter(|_| hop == 0).or(written) else { break };
        nearest = Some(address);
        if !trusted.iter().any(|network| network.contains(address)) {
            break;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|text| text.parse().expect("a network")).collect()
    }

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        let trusted = networks(&["10.0.0.0/8", "2001:db8:ffff::/48"]);
        for (header, trusted, client) in [
            ("203.0.113.9", &[][..], Some("203.0.113.9")),
            ("1.1.1.1, 203.0.113.9", &[], Some("203.0.113.9")),
            ("1.1.1.1, 203.0.113.9", &trusted, Some("203.0.113.9")),
            ("1.1.1.1, 203.0.113.9, 10.1.2.3", &trusted, Some("203.0.113.9")),
            ("1.1.1.1, 203.0.113.9 ,10.1.2.3,2001:db8:ffff::1", &trusted, Some("203.0.113.9")),
            ("10.9.9.9, 10.1.2.3", &trusted, Some("10.9.9.9")),
            ("nonsense, 10.1.2.3", &trusted, Some("10.1.2.3")),
            ("1.1.1.1,", &[], None),
            ("", &[], None),
            ("\u{fc}", &[], None),
        ] {
            let found = client_of(header.as_bytes(), None, trusted).map(|a| a.to_string());
            assert_eq!(found.as_deref(), client, "{header}");
        }
        let endless = format!("1.1.1.1{}", ",10.0.0.1".repeat(1000));
        assert_eq!(client_of(endless.as_bytes(), None, &trusted), Some(IpAddr::from([10, 0, 0, 1])));
        // Envoy writes its own address for a peer on its machine.
        let client = |peer: [u8; 4], header: &[u8]| client_of(header, Some(IpAddr::from(peer)), &trusted);
        assert_eq!(client([10, 0, 0, 1], b"203.0.113.9, 192.0.2.2"), Some(IpAddr::from([203, 0, 113, 9])));
        assert_eq!(client([127, 0, 0, 1], b"203.0.113.9, 192.0.2.2"), Some(IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn an_ipv6_customer_is_one_client_and_a_mapped_address_is_ipv4() {
        let of = |text: &str| ClientAddress::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("0.0.0.1").number(), of("0:0:0:1::").number());
        for text in ["192.0.2.7", "2001:db8:1:2::/64"] {
            assert_eq!(text.parse::<ClientAddress>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
        for bad in ["", "x", "192.0.2.7/64", "192.0.2.0/24", "2001:db8::/32"] {
            assert!(bad.parse::<ClientAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_read_and_written_and_odd_ones_refused() {
        let all = networks(&["0.0.0.0/0", "::/0", "10.1.2.3/8", "192.0.2.7"]);
        assert_eq!(all[2].to_string(), "10.0.0.0/8");
        assert!(all[0].contains(IpAddr::from([1, 2, 3, 4])) && !all[0].contains(IpAddr::from([0; 16])));
        assert!(
            all[3].contains(IpAddr::from([192, 0, 2, 7])) && !all[3].contains(IpAddr::from([192, 0, 2, 8]))
        );
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "a/8", "10.0.0.0/"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
