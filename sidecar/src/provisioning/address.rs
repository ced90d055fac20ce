//! Where a provider that is set at run time must not be: the addresses at which clouds hand out
//! their machines' credentials, and others that no provider has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use http::Uri;

/// Longest that a name may take to resolve; one that cannot be resolved now is no danger now.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// AWS's metadata service over IPv6.
const AWS_METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Alibaba Cloud's metadata service.
const ALIBABA_METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Azure's wire server.
const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Whether `url` leads to a machine's metadata or to no provider at all, by its host or by any
/// address that the host has now. Later answers of the name service are not looked at.
pub async fn is_forbidden(url: &Uri) -> bool {
    let Some(host) = url.host() else { return true };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        return forbids(address);
    }
    let port = url.port_u16().unwrap_or(443);
    let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    resolved
        .is_ok_and(|found| found.is_ok_and(|mut addresses| addresses.any(|address| forbids(address.ip()))))
}

fn forbids(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4 == ALIBABA_METADATA
                || v4 == AZURE_WIRE_SERVER
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || v6 == AWS_METADATA_V6
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metadata_is_nobodys_provider_in_any_spelling() {
        for (url, forbidden) in [
            ("http://169.254.169.254/latest", true),
            ("http://[fe80::1]/v1", true),
            ("http://[::ffff:169.254.169.254]/v1", true),
            ("http://[fd00:ec2::254]/v1", true),
            ("http://0xa9fea9fe/v1", true),
            ("http://2852039166/v1", true),
            ("http://0.0.0.0:8080/v1", true),
            ("http://100.100.100.200/v1", true),
            ("http://127.0.0.1:11434/v1", false),
            ("http://10.1.2.3/v1", false),
            ("http://[::1]:8000/v1", false),
            ("http://name.invalid/v1", false),
        ] {
            assert_eq!(is_forbidden(&Uri::from_static(url)).await, forbidden, "{url}");
        }
    }
}
