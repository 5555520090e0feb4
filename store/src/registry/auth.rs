//! Who asks, and where that may be told.

use std::net::IpAddr;

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// None.
    Anonymous,
    /// Name and password.
    Basic {
        /// Name.
        username: String,
        /// Password or token.
        password: String,
    },
    /// A registry token, sent as it is.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    /// Tells the kind alone: logs are no place for passwords.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

/// The realm of a `WWW-Authenticate: Bearer` challenge (RFC 6750; distribution specification, "Authentication").
pub(super) fn realm(challenge: &str) -> Option<&str> {
    let parameters =
        challenge.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer ")).map(|_| &challenge[7..])?;
    let start = parameters.find("realm=\"")? + "realm=\"".len();
    parameters[start..].split('"').next()
}

/// Whether a registry may send its clients to a token server there: over TLS where it is reached over TLS itself, and
/// never into the machine or its surroundings from outside of them.
pub(super) fn is_trustworthy(realm: &str, registry_host: &str, registry_is_plain: bool) -> bool {
    let (scheme, rest) = realm.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return false;
    }
    if host_of(authority) == host_of(registry_host) {
        return scheme == "https" || registry_is_plain;
    }
    scheme == "https" && !is_near(host_of(authority))
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host_of(host);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_near(host: &str) -> bool {
    let address = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(six)) => six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4),
        Ok(address) => address,
        Err(_) => return is_loopback(host),
    };
    match address {
        IpAddr::V4(four) => four.is_loopback() || four.is_private() || four.is_link_local() || four.is_unspecified(),
        IpAddr::V6(six) => {
            six.is_loopback() || six.is_unspecified() || six.is_unique_local() || six.is_unicast_link_local()
        }
    }
}

/// A host without its port, an IPv6 address without its brackets.
fn host_of(authority: &str) -> &str {
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_realm_is_found_in_a_challenge() {
        let challenge = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\"";
        assert_eq!(realm(challenge), Some("https://auth.docker.io/token"));
        assert_eq!(realm("Basic realm=\"x\""), None);
    }

    #[test]
    fn token_servers_are_not_in_our_own_surroundings() {
        for bad in [
            "http://169.254.169.254/latest",
            "https://127.0.0.1/token",
            "https://[::1]:8080/token",
            "https://[::ffff:127.0.0.1]/token",
            "https://10.0.0.1/token",
            "https://localhost/token",
            "http://auth.example.com/token",
            "https://user@auth.example.com/",
            "file:///etc/passwd",
            "",
        ] {
            assert!(!is_trustworthy(bad, "registry.example.com", false), "{bad}");
        }
        assert!(is_trustworthy("https://auth.docker.io/token", "index.docker.io", false));
        assert!(is_trustworthy("http://127.0.0.1:5001/token", "127.0.0.1:5000", true));
        assert!(!is_trustworthy("http://registry.example.com/token", "registry.example.com", false));
    }
}
