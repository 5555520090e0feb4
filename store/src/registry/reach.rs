//! Where a registry may send its clients: anywhere, but not into their own machine or to its neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Url;

/// Where a host is, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the same wire, where clouds tell machines their secrets.
    LinkLocal,
    /// This machine.
    Loopback,
    /// In a private network, an address that has no meaning outside of it.
    Private,
    /// Anywhere else, as is a name of which nothing is known yet.
    World,
}

impl Place {
    pub(super) fn of_address(address: IpAddr) -> Self {
        match embedded(address) {
            IpAddr::V4(four) if four.is_link_local() => Self::LinkLocal,
            IpAddr::V6(six) if six.is_unicast_link_local() => Self::LinkLocal,
            // Linux takes the address of nobody for its own.
            address if address.is_loopback() || address.is_unspecified() => Self::Loopback,
            IpAddr::V4(four) if four.is_private() => Self::Private,
            IpAddr::V6(six) if six.is_unique_local() => Self::Private,
            _ => Self::World,
        }
    }

    /// For the host of a URL: an address, in brackets or not, or a name.
    pub(super) fn of_host(host: &str) -> Self {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Self::of_address(address);
        }
        let name = host.trim_end_matches('.');
        if name == "localhost" || name.ends_with(".localhost") { Self::Loopback } else { Self::World }
    }

    /// For a host of a reference, with or without a port.
    pub(super) fn of_registry(host: &str) -> Self {
        let url = Url::parse(&format!("https://{host}"));
        url.ok().and_then(|url| url.host_str().map(Self::of_host)).unwrap_or(Self::World)
    }
}

/// Why nobody goes to a place because a registry elsewhere says so; `None` if that is no matter.
pub(super) fn refusal(place: Place, registry: Place) -> Option<&'static str> {
    match (place, registry) {
        (Place::LinkLocal, _) => Some("a link-local address"),
        (Place::Loopback, Place::Loopback) => None,
        (Place::Loopback, _) => Some("a loopback address"),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 one carries: mapped, "compatible", or behind the usual prefix of NAT64 (RFC 6052).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let last = || {
        let [.., a, b, c, d] = six.octets();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match six.segments() {
        _ if six == Ipv6Addr::LOCALHOST || six == Ipv6Addr::UNSPECIFIED => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => last(),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_known_in_any_clothes() {
        let places: [(Place, &[&str]); 4] = [
            (
                Place::LinkLocal,
                &[
                    "169.254.169.254",
                    "169.254.0.0",
                    "fe80::1",
                    "febf::1",
                    "::ffff:169.254.169.254",
                    "::169.254.169.254",
                    "64:ff9b::169.254.169.254",
                ],
            ),
            (
                Place::Loopback,
                &[
                    "127.0.0.1",
                    "127.255.0.9",
                    "0.0.0.0",
                    "::",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::ffff:0.0.0.0",
                    "64:ff9b::7f00:1",
                ],
            ),
            (Place::Private, &["10.1.2.3", "172.16.0.1", "192.168.0.1", "fd00:ec2::254", "::ffff:10.0.0.1"]),
            (Place::World, &["169.253.0.1", "169.255.0.1", "128.0.0.1", "fec0::1", "2001:db8::1", "::ffff:8.8.8.8"]),
        ];
        for (place, addresses) in places {
            for address in addresses {
                assert_eq!(Place::of_address(address.parse().unwrap()), place, "{address}");
            }
        }
    }

    #[test]
    fn who_is_outside_sends_nobody_inside() {
        for registry in [Place::World, Place::Private] {
            assert!(refusal(Place::Loopback, registry).is_some());
            assert!(refusal(Place::Private, registry).is_none());
        }
        assert!(refusal(Place::Loopback, Place::Loopback).is_none());
        for registry in [Place::World, Place::Private, Place::Loopback, Place::LinkLocal] {
            assert!(refusal(Place::LinkLocal, registry).is_some());
            assert!(refusal(Place::World, registry).is_none());
        }
    }

    #[test]
    fn loopback_has_many_names() {
        for host in ["localhost", "localhost:5000", "127.0.0.2:5000", "[::1]:5000", "a.localhost", "localhost."] {
            assert_eq!(Place::of_registry(host), Place::Loopback, "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "example.com:127"] {
            assert_eq!(Place::of_registry(host), Place::World, "{host}");
        }
    }
}
