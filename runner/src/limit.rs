//! Resource limits of a container's processes: `setrlimit(2)`.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// One limit. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name as `ulimit` arguments have it: `nofile`, `nproc`, `core`, …
    pub name: String,
    /// What processes start with.
    pub soft: Option<u64>,
    /// What they may raise it to.
    pub hard: Option<u64>,
}

/// Every limit that the kernel has, by name.
const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

impl Limit {
    /// Whether the kernel has a limit of this name.
    pub fn is_known(name: &str) -> bool {
        RESOURCES.iter().any(|(known, _)| *known == name)
    }

    /// Sets it for this process and all that come from it.
    ///
    /// # Errors
    /// EPERM above the hard limit of the caller, which only the host's root may raise.
    pub(crate) fn apply(&self) -> io::Result<()> {
        let resource = RESOURCES.iter().find(|(name, _)| *name == self.name).map(|(_, resource)| *resource);
        let resource = resource.ok_or_else(|| io::Error::other("the kernel has no such limit"))?;
        let refused = |errno: rustix::io::Errno| match errno {
            rustix::io::Errno::PERM => {
                let most = rustix::process::getrlimit(resource).maximum;
                let most = most.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
                io::Error::other(format!("above your own hard limit, {most}"))
            }
            errno => errno.into(),
        };
        setrlimit(resource, Rlimit { current: self.soft, maximum: self.hard }).map_err(refused)
    }
}
