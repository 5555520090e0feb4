//! Values of `--network` and `--publish`.

use std::net::IpAddr;

use lrun::spec::{Port, Protocol};

use super::namespace::{self, NamespaceArgument};

/// How `--publish` is written.
const FORM: &str = "write [[IP:][HOSTPORT]:]PORT[/tcp|/udp], each port a number or a range";

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkArgument {
    /// The host's.
    Host,
    /// One of its own with nothing but the loopback device.
    None,
    /// One of its own with a way out, by what is installed.
    Private,
    /// One of its own with a way out by pasta, which gets these options.
    Pasta(Vec<String>),
    /// The same by slirp4netns, with podman's options for it.
    Slirp4netns(Vec<String>),
    /// That of a container or a file.
    Other(NamespaceArgument),
}

pub(super) fn network(text: &str) -> Result<NetworkArgument, String> {
    match text.split_once(':').map_or((text, None), |(mode, options)| (mode, Some(options))) {
        ("host", None) => Ok(NetworkArgument::Host),
        ("none", None) => Ok(NetworkArgument::None),
        ("private", None) => Ok(NetworkArgument::Private),
        ("pasta", options) => Ok(NetworkArgument::Pasta(listed(options))),
        ("slirp4netns", options) => Ok(NetworkArgument::Slirp4netns(listed(options))),
        ("bridge", _) => Err("there are no bridges; give 'pasta' for a network with a way out, 'host' to share the \
                              host's, or 'none'"
            .into()),
        _ => match namespace::other(text) {
            Some(other) => other.map(NetworkArgument::Other),
            None => Err("there is no such network; give 'pasta' for one with a way out, 'host' to share the host's, \
                         'container:NAME' or 'ns:PATH' to share another, or 'none'"
                .into()),
        },
    }
}

fn listed(options: Option<&str>) -> Vec<String> {
    let options = options.unwrap_or_default().split(',').filter(|option| !option.is_empty());
    options.map(str::to_owned).collect()
}

/// `[[IP:][HOSTPORT]:]PORT[/PROTOCOL]`, as podman has it. Without a port of the host that is 0: one will be chosen.
pub(super) fn publish(text: &str) -> Result<Port, String> {
    let (ports, protocol) = protocol(text)?;
    let form = || FORM.to_owned();
    let (address, host, container) = match ports.rsplit_once(':') {
        None => (None, None, ports),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => (None, Some(rest), container),
            Some((address, host)) => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                let address = address.parse::<IpAddr>().map_err(|_| format!("{address}: no address"))?;
                (Some(address), Some(host).filter(|host| !host.is_empty()), container)
            }
        },
    };
    let (container, count) = range(container).ok_or_else(form)?;
    let (host, wanted) = host.map_or(Some((0, count)), range).ok_or_else(form)?;
    if wanted != count {
        return Err("both ranges must have as many ports".into());
    }
    Ok(Port { address, host, container, count, protocol })
}

/// `PORT[/PROTOCOL]` or a range, of a container: what an image exposes, and `--expose`. Its host's port is none.
pub(crate) fn exposed(text: &str) -> Result<Port, String> {
    let (ports, protocol) = protocol(text)?;
    let (container, count) =
        range(ports).ok_or("write PORT[/tcp|/udp], the port a number from 1 to 65535 or a range")?;
    Ok(Port { address: None, host: 0, container, count, protocol })
}

fn protocol(text: &str) -> Result<(&str, Protocol), String> {
    match text.rsplit_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((ports, "tcp")) => Ok((ports, Protocol::Tcp)),
        Some((ports, "udp")) => Ok((ports, Protocol::Udp)),
        Some((_, other)) => Err(format!("{other}: there are tcp and udp")),
    }
}

/// The first port and how many there are.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = first.parse().ok().zip(last.parse().ok())?;
    if first == 0 || first > last {
        return None;
    }
    Some((first, (last - first).checked_add(1)?))
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
        assert_eq!(publish("80"), port(None, 0, 80, 1, Protocol::Tcp));
        assert_eq!(publish("127.0.0.1::80-81/udp"), port(Some("127.0.0.1"), 0, 80, 2, Protocol::Udp));
        assert_eq!(exposed("90-92/udp"), port(None, 0, 90, 3, Protocol::Udp));
        assert!(exposed("1:2").is_err() && exposed("0").is_err() && exposed("1/sctp").is_err());
        for wrong in
            ["", "0", ":80", "::80", "8080:", "0:80", "80:90-91", "9-8:9-8", "a:1:2", "1:2/sctp", "65536:1", "1:2:3:4"]
        {
            assert!(publish(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_is_one_that_exists() {
        let options = |words: &[&str]| NetworkArgument::Pasta(words.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(network("pasta"), Ok(options(&[])));
        assert_eq!(network("pasta:-T,auto,--mtu=1500"), Ok(options(&["-T", "auto", "--mtu=1500"])));
        assert_eq!(network("private"), Ok(NetworkArgument::Private));
        let slirp = network("slirp4netns:mtu=1500,cidr=10.1.0.0/24");
        assert_eq!(slirp, Ok(NetworkArgument::Slirp4netns(vec!["mtu=1500".into(), "cidr=10.1.0.0/24".into()])));
        assert!(network("host:x").is_err() && network("private:x").is_err() && network("").is_err());
    }
}
