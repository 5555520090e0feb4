//! The files that a container finds in /etc besides those of its image.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use lrun::Spec;
use lrun::spec::Network;

use super::args::RunArguments;
use super::inherit;
use crate::report::Failure;

/// The container's own name where nothing else has an address.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));

/// By which a program knows that it is in a container; shells read it as a script.
const CONTAINERENV: &str = "/run/.containerenv";

/// Tells a privileged container who it is, as podman does. Others find the file empty.
pub fn introduce(spec: &mut Spec, name: &str, id: &str, image: &str, image_id: &str) {
    // A shell reads what is between the quotes.
    let quoted = |text: &str| {
        let escape = |letter: char| if "\"\\$`".contains(letter) { vec!['\\', letter] } else { vec![letter] };
        text.chars().filter(|letter| !letter.is_control()).flat_map(escape).collect::<String>()
    };
    let rootless = i32::from(!rustix::process::geteuid().is_root());
    let text = format!(
        "engine=\"lrun-{}\"\nname=\"{}\"\nid=\"{}\"\nimage=\"{}\"\nimageid=\"{}\"\nrootless={rootless}\n",
        env!("CARGO_PKG_VERSION"),
        quoted(name),
        quoted(id),
        quoted(image),
        quoted(image_id.strip_prefix("sha256:").unwrap_or(image_id)),
    );
    for (path, content) in &mut spec.files {
        if path.as_os_str() == CONTAINERENV {
            *content = text.clone().into_bytes();
        }
    }
}

/// The files that a container finds in /etc besides those of its image.
///
/// # Errors
/// A time zone that the host does not know.
pub fn files(arguments: &RunArguments, hostname: &str, network: &Network) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if let Some(file) = arguments.hosts_file.as_ref().filter(|file| !file.as_os_str().is_empty()) {
        let base = std::fs::read_to_string(file);
        hosts = base.map_err(|error| format!("--hosts-file {}: {error}", file.display()))?;
        hosts.push_str(if hosts.is_empty() || hosts.ends_with('\n') { "" } else { "\n" });
    } else if *network == Network::Host
        && arguments.hosts_file.is_none()
        && let Ok(own) = std::fs::read_to_string("/etc/hosts")
    {
        hosts = own;
    }
    let own = network.uplink().and_then(|uplink| uplink.addresses().own).unwrap_or(LOOPBACK);
    hosts = format!("{hosts}{own}\t{hostname}\n");
    for (name, address) in &arguments.add_host {
        hosts = format!("{hosts}{address}\t{name}\n");
    }
    let mut files = vec![(PathBuf::from(CONTAINERENV), Vec::new())];
    if !arguments.no_hostname {
        files.insert(0, (PathBuf::from("/etc/hostname"), format!("{hostname}\n").into_bytes()));
    }
    if !arguments.no_hosts {
        files.push((PathBuf::from("/etc/hosts"), hosts.into_bytes()));
    }
    files.extend(resolver(arguments, network).map(|text| (PathBuf::from("/etc/resolv.conf"), text)));
    inherit::files(arguments, &mut files)?;
    Ok(files)
}

/// What is in `/etc/resolv.conf`: the host's, with what the caller says in place of its lines of that kind.
fn resolver(arguments: &RunArguments, network: &Network) -> Option<Vec<u8>> {
    let RunArguments { dns, dns_search, dns_option, .. } = arguments;
    let host = || match network {
        Network::Host => std::fs::read("/etc/resolv.conf").ok(),
        // Another's, which is put in its place.
        Network::None | Network::Joined => None,
        Network::Uplink(uplink) => Some(forwarded(uplink.addresses().resolver)),
    };
    if dns.is_empty() && dns_search.is_empty() && dns_option.is_empty() {
        return host();
    }
    let replaced =
        [("nameserver", !dns.is_empty()), ("search", !dns_search.is_empty()), ("options", !dns_option.is_empty())];
    let host = host().unwrap_or_default();
    let kept = String::from_utf8_lossy(&host);
    let kept = kept.lines().filter(|line| {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        !replaced.iter().any(|&(keyword, is_said)| is_said && keyword == first)
    });
    let mut lines: Vec<String> = kept.map(str::to_owned).collect();
    // A lone dot is podman's word for no domain.
    let domains: Vec<_> = dns_search.iter().filter(|domain| *domain != ".").cloned().collect();
    lines.extend((!domains.is_empty()).then(|| format!("search {}", domains.join(" "))));
    lines.extend(dns.iter().map(|server| format!("nameserver {server}")));
    lines.extend((!dns_option.is_empty()).then(|| format!("options {}", dns_option.join(" "))));
    Some((lines.join("\n") + "\n").into_bytes())
}

/// The host's, with what answers for its name servers in place of them: those may be on its loopback device.
fn forwarded(resolver: IpAddr) -> Vec<u8> {
    let host = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    let host = String::from_utf8_lossy(&host);
    let others = host.lines().filter(|line| !line.trim_start().starts_with("nameserver"));
    let lines: Vec<String> = others.map(str::to_owned).chain([format!("nameserver {resolver}")]).collect();
    (lines.join("\n") + "\n").into_bytes()
}
