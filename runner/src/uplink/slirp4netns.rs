//! `slirp4netns(1)`, with podman's options.

use std::fmt::Display;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sched::CloneFlags;
use rustix::io::FdFlags;
use rustix::mount::MountPropagationFlags;

use super::hostfwd::Entrance;
use super::{Addresses, OWN};
use crate::spec::{Program, Uplink};

/// The device in the container.
const DEVICE: &str = "tap0";
/// Bytes of a packet unless the caller says otherwise, as podman has it.
const MTU: u16 = 65_520;
/// The smallest network that has room for the program's own addresses.
const LONGEST_PREFIX: u8 = 25;
/// From the network's address to the container's, the gateway's and the resolver's.
const PLACES: [u32; 3] = [100, 2, 3];

/// What podman's words say to the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    network: Ipv4Addr,
    prefix: u8,
    mtu: u16,
    enable_ipv6: bool,
    allow_host_loopback: bool,
    outbound: [Option<String>; 2],
}

impl Default for Settings {
    fn default() -> Self {
        let network = Ipv4Addr::from(u32::from(OWN) - PLACES[0]);
        Self { network, prefix: 24, mtu: MTU, enable_ipv6: true, allow_host_loopback: false, outbound: [None, None] }
    }
}

impl Uplink {
    /// By slirp4netns, with podman's options, as `mtu=1500`.
    ///
    /// # Errors
    /// What is wrong with the first option that is no such one.
    pub fn slirp4netns(options: Vec<String>) -> Result<Self, String> {
        Settings::parse(&options)?;
        Ok(Self { program: Program::Slirp4netns, options, ports: Vec::new() })
    }
}

impl Settings {
    /// Those of an uplink, whose options were parsed when it was made.
    pub(super) fn of(uplink: &Uplink) -> Self {
        Self::parse(&uplink.options).unwrap_or_default()
    }

    fn parse(options: &[String]) -> Result<Self, String> {
        let mut settings = Self::default();
        for option in options {
            let wrong = |why: &str| format!("{option}: {why}");
            let (name, value) = option.split_once('=').ok_or_else(|| wrong("write NAME=VALUE"))?;
            let truth = || match value {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(wrong("write true or false")),
            };
            match name {
                "cidr" => (settings.network, settings.prefix) = network(value).map_err(|why| wrong(&why))?,
                "mtu" => settings.mtu = value.parse().map_err(|_| wrong("write a number of bytes, at most 65521"))?,
                "enable_ipv6" => settings.enable_ipv6 = truth()?,
                "allow_host_loopback" => settings.allow_host_loopback = truth()?,
                "outbound_addr" => settings.outbound[0] = Some(value.to_owned()),
                "outbound_addr6" => settings.outbound[1] = Some(value.to_owned()),
                "port_handler" if value == "slirp4netns" => {}
                "port_handler" => return Err(wrong("ports are let in by slirp4netns itself; leave it out")),
                _ => {
                    return Err(wrong(
                        "there are cidr, mtu, enable_ipv6, allow_host_loopback, outbound_addr, outbound_addr6 and \
                         port_handler",
                    ));
                }
            }
        }
        if settings.outbound[1].is_some() && !settings.enable_ipv6 {
            return Err("outbound_addr6: needs enable_ipv6=true".to_owned());
        }
        Ok(settings)
    }

    pub(super) fn addresses(&self) -> Addresses {
        let [own, gateway, resolver] = PLACES.map(|place| Ipv4Addr::from(u32::from(self.network) + place).into());
        Addresses { own: Some(own), resolver, host: self.allow_host_loopback.then_some(gateway) }
    }

    /// The words of a command line for the namespaces of a process, or without one for the network namespace that is its standard
    /// input. The descriptors are handed on to the program: `ready` gets a byte from it, and it ends when `end` does.
    pub(super) fn arguments(
        &self,
        process: Option<i32>,
        ready: BorrowedFd<'_>,
        end: BorrowedFd<'_>,
        entrance: Option<&Entrance>,
    ) -> io::Result<Vec<String>> {
        for fd in [ready, end] {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        let mut words = Vec::new();
        let mut add = |name: &str, value: &dyn Display| words.push(format!("{name}={value}"));
        add("--mtu", &self.mtu);
        add("--cidr", &format_args!("{}/{}", self.network, self.prefix));
        add("--ready-fd", &ready.as_raw_fd());
        add("--exit-fd", &end.as_raw_fd());
        for (name, value) in ["--outbound-addr", "--outbound-addr6"].iter().zip(&self.outbound) {
            if let Some(value) = value {
                add(name, value);
            }
        }
        if let Some(entrance) = entrance {
            add("--api-socket", &entrance.hand_on()?);
        }
        words.extend(["--configure", "--enable-sandbox", "--enable-seccomp"].map(str::to_owned));
        words.extend(self.enable_ipv6.then(|| "--enable-ipv6".to_owned()));
        words.extend((!self.allow_host_loopback).then(|| "--disable-host-loopback".to_owned()));
        let place = if let Some(process) = process {
            // Not of paths: its sandbox is within the user namespace, which it looks for there alone.
            process.to_string()
        } else {
            words.push("--netns-type=path".to_owned());
            "/proc/self/fd/0".to_owned()
        };
        words.extend([place, DEVICE.to_owned()]);
        Ok(words)
    }
}

/// `ADDRESS/PREFIX`.
fn network(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| Some((address.parse().ok()?, prefix.parse().ok()?)));
    let (address, prefix): (Ipv4Addr, u8) = parsed.ok_or("write a network, as 10.0.2.0/24")?;
    if !(1..=LONGEST_PREFIX).contains(&prefix) {
        return Err(format!("its prefix must be 1 to {LONGEST_PREFIX} bits"));
    }
    if u32::from(address) << prefix != 0 {
        return Err("write the network's own address, as 10.0.2.0/24".to_owned());
    }
    Ok((address, prefix))
}

/// A mount namespace in which nothing travels to the host. What slirp4netns mounts for its sandbox would where it stays in
/// the user namespace of the host's mounts: it makes the root private, and no mount below it.
pub(super) fn keep_mounts_apart() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", slave)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn uplink(options: &[&str]) -> Result<Uplink, String> {
        Uplink::slirp4netns(options.iter().map(|&option| option.to_owned()).collect())
    }

    fn line(options: &[&str]) -> String {
        let (end, ready) = io::pipe().unwrap();
        let settings = Settings::of(&uplink(options).unwrap());
        settings.arguments(Some(7), ready.as_fd(), end.as_fd(), None).unwrap().join(" ")
    }

    #[test]
    fn the_hosts_loopback_is_out_of_reach_unless_it_is_asked_for() {
        let words = line(&[]);
        assert!(words.starts_with("--mtu=65520 --cidr=10.0.2.0/24 --ready-fd="), "{words}");
        assert!(words.contains("--configure --enable-sandbox --enable-seccomp --enable-ipv6"), "{words}");
        assert!(words.ends_with("--disable-host-loopback 7 tap0"), "{words}");
        assert_eq!(uplink(&[]).unwrap().addresses().host, None);
        let words = line(&["allow_host_loopback=true", "enable_ipv6=false", "port_handler=slirp4netns"]);
        assert!(!words.contains("loopback") && !words.contains("ipv6"), "{words}");
    }

    #[test]
    fn addresses_are_those_of_the_network() {
        let own = uplink(&["cidr=192.168.0.0/16", "mtu=1500", "outbound_addr=eth0", "allow_host_loopback=1"]).unwrap();
        let addresses = own.addresses();
        assert_eq!(addresses.own, "192.168.0.100".parse().ok());
        assert_eq!(addresses.resolver.to_string(), "192.168.0.3");
        assert_eq!(addresses.host, "192.168.0.2".parse().ok());
        let words = line(&["cidr=192.168.0.0/16", "mtu=1500", "outbound_addr=eth0", "outbound_addr6=::1"]);
        assert!(words.starts_with("--mtu=1500 --cidr=192.168.0.0/16 "), "{words}");
        assert!(words.contains(" --outbound-addr=eth0 --outbound-addr6=::1 "), "{words}");
    }

    #[test]
    fn an_option_that_means_nothing_is_refused() {
        for wrong in [
            "bogus=1",
            "mtu",
            "mtu=big",
            "mtu=65536",
            "cidr=10.0.2.100/24",
            "cidr=10.0.2.0/26",
            "cidr=10.0.2.0",
            "enable_ipv6=perhaps",
            "port_handler=rootlesskit",
        ] {
            assert!(uplink(&[wrong]).unwrap_err().starts_with(wrong), "{wrong}");
        }
        assert!(uplink(&["outbound_addr6=eth0", "enable_ipv6=false"]).is_err());
    }
}
