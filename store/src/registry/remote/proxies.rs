//! Which requests go through a proxy. The rules are those of curl(1), save that this machine is never asked of a proxy.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::Url;

use crate::registry::reach::Place;

/// What is no address of a proxy. It is not repeated: there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a proxy, as http://proxy.example:3128; only http:// and https:// are spoken to proxies")]
pub struct ProxyError;

/// A proxy, with what it wants to know of who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Url);

impl Proxy {
    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for Proxy {
    /// Tells the place alone: logs are no place for passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Proxy({})", self.0.origin().ascii_serialization())
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    /// Without a scheme it is spoken to in plain HTTP.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        let url = url.map_err(|_| ProxyError)?;
        if matches!(url.scheme(), "http" | "https") && url.has_host() { Ok(Self(url)) } else { Err(ProxyError) }
    }
}

/// The proxies that there are.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For what is asked in plain HTTP.
    pub http: Option<Proxy>,
    /// For what is asked over TLS.
    pub https: Option<Proxy>,
    /// What is asked without them.
    pub exceptions: Exceptions,
}

impl Proxies {
    /// The proxy to ask for a URL.
    pub(super) fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        let host = url.host_str()?;
        let is_direct =
            Place::of_host(host) == Place::Loopback || self.exceptions.contain(host, url.port_or_known_default());
        proxy.as_ref().filter(|_| !is_direct)
    }
}

/// Hosts that are reached without a proxy, as `no_proxy` names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    /// The only port that is meant.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// Those whose first bits are these.
    Network(IpAddr, u32),
    /// A name in lowercase, and what is below it.
    Domain(String),
}

impl From<&str> for Exceptions {
    /// Reads names, addresses and networks such as `10.0.0.0/8`, each with or without a port, and `*` for all, with
    /// commas or spaces between. A name also stands for what is below it, with a dot or `*.` in front or without.
    fn from(list: &str) -> Self {
        let words = list.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty());
        Self(words.filter_map(Exception::parse).collect())
    }
}

impl Exceptions {
    fn contain(&self, host: &str, port: Option<u16>) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
        let address = host.parse().ok().map(|address: IpAddr| address.to_canonical());
        self.0.iter().any(|exception| {
            let is_meant = match (&exception.hosts, address) {
                (Hosts::All, _) => true,
                (Hosts::Network(network, length), Some(address)) => is_within(address, *network, *length),
                (Hosts::Domain(domain), None) => {
                    host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                }
                _ => false,
            };
            is_meant && (exception.port.is_none() || exception.port == port)
        })
    }
}

impl Exception {
    /// `None` for what can match no host.
    fn parse(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self { hosts: Hosts::All, port: None });
        }
        if let Some(hosts) = network(word) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = match word.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (word, None),
        };
        let hosts = network(host).or_else(|| {
            let name = host.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
            (!name.is_empty()).then(|| Hosts::Domain(name.to_ascii_lowercase()))
        });
        Some(Self { hosts: hosts?, port })
    }
}

/// An address, or a network by the length of its prefix.
fn network(text: &str) -> Option<Hosts> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(all), |length| length.parse().ok()).filter(|length| *length <= all)?;
    Some(Hosts::Network(address, length))
}

fn is_within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let (address, network, all) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    // A shift by all bits is none that the processor knows.
    length == 0 || (address ^ network) >> (all - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_direct(list: &str, url: &str) -> bool {
        let proxy = Some("proxy.example:3128".parse().unwrap());
        let proxies = Proxies { http: proxy.clone(), https: proxy, exceptions: list.into() };
        proxies.of(&Url::parse(url).unwrap()).is_none()
    }

    #[test]
    fn exceptions_are_those_of_curl() {
        for (list, url) in [
            ("*", "https://r.example/"),
            ("other, r.example", "https://r.example/"),
            ("other r.example", "https://r.example/"),
            (".example", "https://r.example/"),
            ("*.example", "https://r.example/"),
            (".r.example", "https://r.example/"),
            ("EXAMPLE.", "https://R.example./"),
            ("r.example:443", "https://r.example/"),
            ("r.example:80", "http://r.example/"),
            ("r.example:5000", "https://r.example:5000/"),
            ("10.1.2.3", "https://10.1.2.3:5000/"),
            ("10.1.2.3:5000", "https://10.1.2.3:5000/"),
            ("10.0.0.0/8", "https://10.1.2.3/"),
            ("0.0.0.0/0", "https://10.1.2.3/"),
            ("10.1.2.2/31", "https://[::ffff:10.1.2.3]/"),
            ("2001:db8::/32", "https://[2001:db8:9::1]/"),
            ("2001:db8::1", "https://[2001:db8::1]/"),
            ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000/"),
        ] {
            assert!(is_direct(list, url), "{list} {url}");
        }
        for (list, url) in [
            ("", "https://r.example/"),
            (",", "https://r.example/"),
            ("ample", "https://r.example/"),
            ("r.example.com", "https://r.example/"),
            ("r.example:80", "https://r.example/"),
            ("r.example:many", "https://r.example/"),
            ("10.1.2.2/32", "https://10.1.2.3/"),
            ("10.0.0.0/33", "https://10.1.2.3/"),
            ("10.0.0.0/8", "https://[2001:db8::1]/"),
            ("10.0.0.0/8", "https://10.example/"),
            ("[2001:db8::1]:5000", "https://[2001:db8::1]/"),
        ] {
            assert!(!is_direct(list, url), "{list} {url}");
        }
    }

    #[test]
    fn this_machine_is_asked_of_no_proxy() {
        for host in ["127.0.0.1:5000", "127.9.9.9", "localhost:5000", "a.localhost", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(is_direct("", &format!("http://{host}/")) && is_direct("", &format!("https://{host}/")), "{host}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let proxies = Proxies { http: Some("one.example".parse().unwrap()), ..Proxies::default() };
        assert!(proxies.of(&Url::parse("http://r.example/").unwrap()).is_some());
        assert!(proxies.of(&Url::parse("https://r.example/").unwrap()).is_none());
    }

    #[test]
    fn proxies_are_spoken_to_in_http_and_tell_no_password() {
        for good in ["proxy:3128", "http://me:secret@proxy", "https://proxy:1/", " 10.0.0.1:80 "] {
            let proxy: Proxy = good.parse().unwrap();
            assert!(!format!("{proxy:?}").contains("secret"));
        }
        for bad in ["", "socks5://proxy", "http://", "file:///x", "http://a b"] {
            assert_eq!(bad.parse::<Proxy>(), Err(ProxyError), "{bad}");
        }
    }
}
