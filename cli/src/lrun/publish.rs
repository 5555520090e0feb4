//! The ports of a container: what it exposes, what leads there, and which ports of the host are free for it.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use lrun::spec::{Port, Protocol};

use super::args::{RunArguments, exposed as parse};
use crate::report::Failure;

/// How often a run of free ports is looked for.
const ATTEMPTS: usize = 64;

/// A port that is taken for as long as this is.
enum Held {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// What the image and the command line expose, each port once.
pub fn exposed<'a>(
    arguments: &RunArguments,
    image: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<Port>, Failure> {
    let mut all = arguments.expose.clone();
    for text in image {
        all.push(parse(text).map_err(|why| format!("the image exposes the port {text:?}: {why}"))?);
    }
    let mut ports = Vec::new();
    for port in all {
        ports.extend((0..port.count).map(|at| Port { container: port.container + at, count: 1, ..port.clone() }));
    }
    ports.sort_by_key(|port| (port.container, port.protocol == Protocol::Udp));
    ports.dedup();
    Ok(ports)
}

/// What is to be published, each with a port of the host.
pub fn published<'a>(
    arguments: &RunArguments,
    image: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<Port>, Failure> {
    let mut ports = arguments.publish.clone();
    if arguments.publish_all {
        let more = exposed(arguments, image)?;
        let is_said = |port: &Port| ports.iter().any(|said| leads_to(said, port).is_some());
        let more: Vec<Port> = more.into_iter().filter(|port| !is_said(port)).collect();
        ports.extend(more);
    }
    // Held until all have one: none is given out twice.
    let mut held = Vec::new();
    for port in ports.iter_mut().filter(|port| port.host == 0) {
        let (host, own) = free(port).ok_or_else(|| {
            format!("--publish {}/{}: the host has no free port for it; name one", port.container, port.protocol)
        })?;
        port.host = host;
        held.extend(own);
    }
    Ok(ports)
}

/// The port of the host that leads to one of the container, if this publishes it.
pub fn leads_to(published: &Port, wanted: &Port) -> Option<u16> {
    let at = wanted.container.checked_sub(published.container).filter(|at| *at < published.count)?;
    (published.protocol == wanted.protocol).then(|| published.host.wrapping_add(at))
}

/// Ports of the host that nobody has, as many in a row as are wanted; the first is the kernel's choice.
fn free(port: &Port) -> Option<(u16, Vec<Held>)> {
    let address = port.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    (0..ATTEMPTS).find_map(|_| {
        let (first, held) = Held::new(address, 0, port.protocol)?;
        let rest = (1..port.count).map(|at| Held::new(address, first.checked_add(at)?, port.protocol));
        let rest = rest.map(|held| Some(held?.1)).collect::<Option<Vec<_>>>()?;
        Some((first, std::iter::once(held).chain(rest).collect()))
    })
}

impl Held {
    fn new(address: IpAddr, port: u16, protocol: Protocol) -> Option<(u16, Self)> {
        let held = match protocol {
            Protocol::Tcp => Self::Tcp(TcpListener::bind((address, port)).ok()?),
            Protocol::Udp => Self::Udp(UdpSocket::bind((address, port)).ok()?),
        };
        let bound = match &held {
            Self::Tcp(socket) => socket.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        };
        Some((bound.ok()?.port(), held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(container: u16, host: u16, count: u16, protocol: Protocol) -> Port {
        Port { address: Some(Ipv4Addr::LOCALHOST.into()), host, container, count, protocol }
    }

    #[test]
    fn free_ports_are_free_in_a_row_and_none_is_given_twice() {
        let arguments = RunArguments {
            publish: vec![port(80, 0, 3, Protocol::Tcp), port(80, 0, 1, Protocol::Tcp), port(53, 0, 1, Protocol::Udp)],
            ..RunArguments::default()
        };
        let ports = published(&arguments, []).unwrap();
        assert!(ports.iter().all(|port| port.host > 0));
        assert!(!(ports[0].host..ports[0].host + 3).contains(&ports[1].host), "{ports:?}");
        for at in 0..3 {
            TcpListener::bind(("127.0.0.1", ports[0].host + at)).unwrap();
        }
    }

    #[test]
    fn all_that_is_exposed_is_published_once() {
        let image = ["80/tcp".to_owned(), "443".to_owned()];
        let arguments = RunArguments {
            publish_all: true,
            publish: vec![port(80, 8080, 1, Protocol::Tcp)],
            expose: vec![parse("443-444").unwrap(), parse("443/udp").unwrap()],
            ..RunArguments::default()
        };
        let ports = published(&arguments, &image).unwrap();
        let shown: Vec<String> = ports.iter().map(|port| format!("{}/{}", port.container, port.protocol)).collect();
        assert_eq!(shown, ["80/tcp", "443/tcp", "443/udp", "444/tcp"]);
        assert_eq!(leads_to(&port(80, 8080, 3, Protocol::Tcp), &port(82, 0, 1, Protocol::Tcp)), Some(8082));
        assert_eq!(leads_to(&port(80, 8080, 3, Protocol::Tcp), &port(83, 0, 1, Protocol::Tcp)), None);
        assert_eq!(leads_to(&port(80, 8080, 3, Protocol::Tcp), &port(80, 0, 1, Protocol::Udp)), None);
    }
}
