//! The way out of a container's network, as the command line wants it.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use lrun::spec::{Network, Program, Spec, Uplink};
use lstore::manifest::RunConfig;

use super::args::{NetworkArgument, RunArguments};
use super::publish::published;
use crate::report::Failure;

/// podman's name for the host, and docker's.
const HOST: &str = "host.containers.internal host.docker.internal";

/// The network of a command line.
///
/// # Errors
/// Ports where nothing can lead in, or none that is free.
pub fn network(arguments: &RunArguments, config: &RunConfig) -> Result<Network, Failure> {
    let uplink = match &arguments.network {
        NetworkArgument::Host | NetworkArgument::None if !arguments.publish.is_empty() || arguments.publish_all => {
            return Err(
                "--publish: neither the host's network nor none at all has ports to publish; add --network pasta"
                    .into(),
            );
        }
        NetworkArgument::Other(_) if !arguments.publish.is_empty() || arguments.publish_all => {
            return Err("--publish: the network is another's, whose ports are published with it; leave it out".into());
        }
        NetworkArgument::Other(_) => return Ok(Network::Joined),
        NetworkArgument::Host => return Ok(Network::Host),
        NetworkArgument::None => return Ok(Network::None),
        NetworkArgument::Private if only_slirp4netns() => slirp4netns(&[])?,
        NetworkArgument::Private => pasta(&[])?,
        NetworkArgument::Pasta(options) => pasta(options)?,
        NetworkArgument::Slirp4netns(options) => slirp4netns(options)?,
    };
    let ports = published(arguments, &config.exposed_ports)?;
    let over_6 = ports.iter().filter_map(|port| port.address).find(IpAddr::is_ipv6);
    if let (Program::Slirp4netns, Some(address)) = (uplink.program, over_6) {
        return Err(format!(
            "--publish {address}: slirp4netns lets in what comes over IPv4 alone; give --network pasta"
        )
        .into());
    }
    Ok(Network::Uplink(Uplink { ports, ..uplink }))
}

fn only_slirp4netns() -> bool {
    Program::Pasta.find().is_none() && Program::Slirp4netns.find().is_some()
}

fn slirp4netns(options: &[String]) -> Result<Uplink, Failure> {
    Ok(Uplink::slirp4netns(options.to_vec()).map_err(|why| format!("--network slirp4netns: {why}"))?)
}

fn pasta(options: &[String]) -> Result<Uplink, Failure> {
    Ok(Uplink::pasta(options.to_vec())
        .map_err(|option| format!("--network pasta: {option} is set by lrun; leave it out"))?)
}

/// Gives the container's `/etc/hosts` the host's address, which may be another at each start.
pub(super) fn name_host(spec: &mut Spec) {
    if let Some(uplink) = spec.network.uplink() {
        let loopback = uplink.addresses().host;
        add_host(spec, loopback);
    }
}

/// See above; `loopback` is where its loopback device is, if that can be reached.
pub(super) fn add_host(spec: &mut Spec, loopback: Option<IpAddr>) {
    let hosts = spec.files.iter_mut().find(|(path, _)| path == Path::new("/etc/hosts"));
    if let (Some((_, text)), Some(address)) = (hosts, loopback.or_else(host_address)) {
        text.extend_from_slice(format!("{address}\t{HOST}\n").as_bytes());
    }
}

/// The address from which the host reaches others. No packet is sent: a datagram socket that is connected has looked up
/// its route.
fn host_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}
