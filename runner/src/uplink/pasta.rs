//! `pasta(1)` of the package passt.

use super::{Addresses, GATEWAY, OWN, RESOLVER};
use crate::spec::{Port, Program, Protocol, Uplink};

/// Options of pasta that are set here, and mean how it is run rather than what it does.
const OURS: [&str; 14] = [
    "--foreground",
    "-f",
    "--pid",
    "-P",
    "--netns",
    "--userns",
    "--netns-only",
    "--no-netns-quit",
    "--config-net",
    "--runas",
    "--fd",
    "-F",
    "--stderr",
    "-e",
];
/// Options of pasta by which the caller takes the choice of addresses over.
const ADDRESSES: [&str; 12] = [
    "-a",
    "--address",
    "-n",
    "--netmask",
    "-g",
    "--gateway",
    "-i",
    "--interface",
    "-6",
    "--ipv6-only",
    "--outbound-if4",
    "--no-tap",
];

impl Uplink {
    /// By pasta, with options of the caller's.
    ///
    /// # Errors
    /// The first option that is not the caller's to set.
    pub fn pasta(options: Vec<String>) -> Result<Self, String> {
        let is_ours = |option: &&String| OURS.contains(&option.split('=').next().unwrap_or_default());
        match options.iter().find(is_ours) {
            Some(option) => Err(option.clone()),
            None => Ok(Self { program: Program::Pasta, options, ports: Vec::new() }),
        }
    }

    pub(super) fn pasta_addresses(&self) -> Addresses {
        let told = |names: &[&str]| self.value(names).and_then(|value| value.split('/').next()?.parse().ok());
        Addresses {
            own: told(&["-a", "--address"]).or_else(|| (!self.has(&ADDRESSES)).then_some(OWN.into())),
            resolver: told(&["--dns-forward"]).unwrap_or(RESOLVER.into()),
            host: None,
        }
    }

    /// The first value of an option that has one of these names, `-a X`, `--address X` or `--address=X`.
    fn value(&self, names: &[&str]) -> Option<&str> {
        self.options.iter().enumerate().find_map(|(at, option)| match option.split_once('=') {
            Some((name, value)) if names.contains(&name) => Some(value),
            None if names.contains(&option.as_str()) => self.options.get(at + 1).map(String::as_str),
            _ => None,
        })
    }

    fn has(&self, names: &[&str]) -> bool {
        self.options.iter().any(|option| names.contains(&option.split('=').next().unwrap_or_default()))
    }

    /// The words of a command line. The network namespace is its standard input; its standard output is the user namespace, if it
    /// `joins` that.
    pub(super) fn pasta_arguments(&self, joins: bool, is_root: bool) -> Vec<String> {
        let mut words: Vec<String> =
            ["--foreground", "--quiet", "--no-netns-quit", "--config-net"].map(str::to_owned).into();
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        // Its number is written when all is ready, here into the pipe of its complaints.
        add("--pid", "/proc/self/fd/2".to_owned());
        if joins {
            add("--userns", "/proc/self/fd/1".to_owned());
        }
        if is_root {
            // Which it would leave for nobody, who may join nothing.
            add("--runas", "0:0".to_owned());
        }
        add("--netns", "/proc/self/fd/0".to_owned());
        if !self.has(&ADDRESSES) {
            add("-a", OWN.to_string());
            add("-n", "24".to_owned());
            add("-g", GATEWAY.to_string());
        }
        if !self.has(&["--dns-forward"]) {
            add("--dns-forward", RESOLVER.to_string());
        }
        for (protocol, names, outward) in [
            (Protocol::Tcp, ["-t", "--tcp-ports"], ["-T", "--tcp-ns"]),
            (Protocol::Udp, ["-u", "--udp-ports"], ["-U", "--udp-ns"]),
        ] {
            let ports: Vec<String> =
                self.ports.iter().filter(|port| port.protocol == protocol).map(Port::words).collect();
            if ports.is_empty() && !self.has(&names) {
                add(names[0], "none".to_owned());
            }
            for port in ports {
                add(names[0], port);
            }
            if !self.has(&outward) {
                add(outward[0], "none".to_owned());
            }
        }
        if !joins {
            words.push("--netns-only".to_owned());
        }
        // podman's word for what pasta does unless it is told not to: the gateway's address leads to the host's loopback.
        if !self.has(&["--map-gw", "--no-map-gw", "--map-host-loopback"]) {
            words.push("--no-map-gw".to_owned());
        }
        words.extend(self.options.iter().filter(|option| *option != "--map-gw").cloned());
        words
    }
}

impl Port {
    /// As pasta has it.
    fn words(&self) -> String {
        let range = |first: u16| match self.count {
            0 | 1 => first.to_string(),
            count => format!("{first}-{}", first.saturating_add(count - 1)),
        };
        let address = self.address.map(|address| format!("{address}/")).unwrap_or_default();
        format!("{address}{}:{}", range(self.host), range(self.container))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(address: Option<&str>, host: u16, container: u16, count: u16, protocol: Protocol) -> Port {
        Port { address: address.map(|address| address.parse().unwrap()), host, container, count, protocol }
    }

    fn pasta(options: &[&str], ports: Vec<Port>) -> Uplink {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Uplink { ports, ..Uplink::pasta(options).unwrap() }
    }

    fn line(uplink: &Uplink) -> String {
        uplink.pasta_arguments(true, false).join(" ")
    }

    #[test]
    fn nothing_is_forwarded_but_what_was_published() {
        let words = line(&pasta(&[], vec![]));
        assert!(words.contains("--userns /proc/self/fd/1 --netns /proc/self/fd/0"), "{words}");
        assert!(words.contains("-t none -T none -u none -U none --no-map-gw"), "{words}");
        let ports = vec![
            port(Some("127.0.0.1"), 8080, 80, 1, Protocol::Tcp),
            port(None, 90, 91, 3, Protocol::Tcp),
            port(Some("::1"), 53, 53, 1, Protocol::Udp),
        ];
        let words = line(&pasta(&[], ports));
        assert!(words.contains("-t 127.0.0.1/8080:80 -t 90-92:91-93 -T none -u ::1/53:53 -U none"), "{words}");
    }

    #[test]
    fn what_the_caller_says_to_pasta_takes_the_place_of_what_is_said_otherwise() {
        let own = pasta(&["--address=192.0.2.7", "-T", "auto", "--map-gw", "--dns-forward", "192.0.2.8"], vec![]);
        let words = line(&own);
        assert!(words.ends_with("--address=192.0.2.7 -T auto --dns-forward 192.0.2.8"), "{words}");
        assert!(!words.contains("10.0.2") && !words.contains("-T none") && !words.contains("map-gw"), "{words}");
        let addresses = own.addresses();
        assert_eq!((addresses.own, addresses.resolver), ("192.0.2.7".parse().ok(), "192.0.2.8".parse().unwrap()));
        assert_eq!(pasta(&["-i", "eth1"], vec![]).addresses().own, None);
        assert_eq!(pasta(&["--mtu", "1500"], vec![]).addresses().own, Some(OWN.into()));
        assert_eq!(Uplink::pasta(vec!["--pid=/x".to_owned()]), Err("--pid=/x".to_owned()));
    }
}
