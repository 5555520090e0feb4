//! Values of `--network` and `--publish`.

use std::net::IpAddr;

use lrun::spec::{Port, Protocol};

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkArgument {
    /// The host's.
    Host,
    /// One of its own with nothing but the loopback device.
    None,
    /// One of its own with a way out by pasta, which gets these options.
    Pasta(Vec<String>),
}

pub(super) fn network(text: &str) -> Result<NetworkArgument, String> {
    match text.split_once(':').map_or((text, None), |(mode, options)| (mode, Some(options))) {
        ("host", None) => Ok(NetworkArgument::Host),
        ("none", None) => Ok(NetworkArgument::None),
        ("private", None) => Ok(NetworkArgument::Pasta(Vec::new())),
        ("pasta", options) => {
            let options = options.unwrap_or_default().split(',').filter(|option| !option.is_empty());
            Ok(NetworkArgument::Pasta(options.map(str::to_owned).collect()))
        }
        ("bridge", _) => Err("there are no bridges; give 'pasta' for a network with a way out, 'host' to share the \
                              host's, or 'none'"
            .into()),
        _ => {
            Err("there is no such network; give 'pasta' for one with a way out, 'host' to share the host's, or 'none'"
                .into())
        }
    }
}

/// `[IP:]HOSTPORT:PORT[/PROTOCOL]`, as podman has it.
pub(super) fn publish(text: &str) -> Result<Port, String> {
    let form = || "write [IP:]HOSTPORT:PORT[/tcp|/udp], each port a number or a range".to_owned();
    let (ports, protocol) = match text.rsplit_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some((_, other)) => return Err(format!("{other}: there are tcp and udp")),
    };
    let (rest, container) = ports.rsplit_once(':').ok_or_else(form)?;
    let (address, host) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((address, host)) => {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            (Some(address.parse::<IpAddr>().map_err(|_| format!("{address}: no address"))?), host)
        }
    };
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (u16, u16) = first.parse().ok().zip(last.parse().ok())?;
        (first > 0 && first <= last).then(|| (first, last - first))
    };
    let ((host, count), (container, inside)) = range(host).zip(range(container)).ok_or_else(form)?;
    match count.checked_add(1) {
        Some(count) if count - 1 == inside => Ok(Port { address, host, container, count, protocol }),
        _ => Err("both ranges must have as many ports".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_published_as_podman_has_it() {
        let port = |address: Option<&str>, host, container, count, protocol| {
            Ok(Port { address: address.map(|address| address.parse().unwrap()), host, container, count, protocol })
        };
        assert_eq!(publish("8080:80"), port(None, 8080, 80, 1, Protocol::Tcp));
        assert_eq!(publish("127.0.0.1:53:5353/udp"), port(Some("127.0.0.1"), 53, 5353, 1, Protocol::Udp));
        assert_eq!(publish("[::1]:80-82:90-92/tcp"), port(Some("::1"), 80, 90, 3, Protocol::Tcp));
        for wrong in ["80", ":80", "8080:", "0:80", "80:90-91", "9-8:9-8", "a:1:2", "1:2/sctp", "65536:1", "1:2:3:4"] {
            assert!(publish(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_is_one_that_exists() {
        let options = |words: &[&str]| NetworkArgument::Pasta(words.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(network("pasta"), Ok(options(&[])));
        assert_eq!(network("pasta:-T,auto,--mtu=1500"), Ok(options(&["-T", "auto", "--mtu=1500"])));
        assert_eq!(network("private"), Ok(options(&[])));
        assert!(network("host:x").is_err() && network("slirp4netns").is_err() && network("").is_err());
    }
}
