//! Kernel parameters that belong to a namespace of the container: the only ones that may be set for it, since all others
//! are the host's (`sysctl.d(5)`, `namespaces(7)`).

use std::path::PathBuf;

use crate::error::Error;
use crate::spec::{Network, Spec};

/// Parameters of an IPC namespace.
const IPC: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
];

/// The file of a parameter, if it is the container's own to set.
///
/// # Errors
/// [`Error::Refused`] for what is the host's, or shared with it, or no name.
pub(crate) fn file(spec: &Spec, name: &str) -> Result<PathBuf, Error> {
    let refused = |reason: &str| Err(Error::Refused(format!("--sysctl {name}: {reason}")));
    // As sysctl(8) has it: with slashes first, dots belong to a component, such as the name of a network device.
    let has_slashes = name.find(['.', '/']).is_some_and(|at| name.as_bytes().get(at) == Some(&b'/'));
    let separator = if has_slashes { '/' } else { '.' };
    let parts: Vec<&str> = name.split(separator).collect();
    if parts.len() < 2 || parts.iter().any(|part| matches!(*part, "" | "." | "..") || part.contains('/')) {
        return refused("no name of a kernel parameter");
    }
    let dotted = parts.join(".");
    let ipc = IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
    match parts[0] {
        "net" if spec.network == Network::Host => refused("the network is the host's, and so are its parameters"),
        "net" if spec.network == Network::Joined => refused("the network is another's, and so are its parameters"),
        _ if ipc && !spec.namespaces.ipc => {
            refused("the IPC namespace is the host's or another's, and so are its parameters")
        }
        _ if dotted == "kernel.hostname" => refused("give --hostname"),
        _ if ipc || parts[0] == "net" || dotted == "kernel.domainname" && spec.namespaces.uts => {
            Ok(PathBuf::from("/proc/sys").join(parts.join("/")))
        }
        _ => refused("this parameter is the host's; net.*, fs.mqueue.* and those of System V IPC can be set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Result<String, String> {
        let path = file(&Spec::default(), name).map_err(|error| error.to_string())?;
        Ok(path.to_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn parameters_of_own_namespaces_have_files() {
        assert_eq!(of("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(of("net/ipv4/conf/eth0.1/mtu").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/mtu");
        assert_eq!(of("kernel.shmmax").unwrap(), "/proc/sys/kernel/shmmax");
        assert_eq!(of("fs.mqueue.msg_max").unwrap(), "/proc/sys/fs/mqueue/msg_max");
    }

    #[test]
    fn the_hosts_parameters_are_refused() {
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "fs.file-max",
            "kernel.hostname",
            "net",
            "net/../kernel/x",
            "net..x",
            "",
        ] {
            assert!(of(name).is_err(), "{name}");
        }
        let shared = Spec { network: Network::Host, ..Spec::default() };
        assert!(file(&shared, "net.ipv4.ip_forward").is_err());
    }
}
