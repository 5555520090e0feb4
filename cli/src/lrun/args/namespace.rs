//! Values of `--pid`, `--ipc`, `--uts`, `--cgroupns` and their kin: whose namespace it is.

use std::path::PathBuf;

/// Whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceArgument {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of the container of this name or id.
    Container(String),
    /// That which a file stands for.
    File(PathBuf),
}

impl NamespaceArgument {
    /// Whether it is no other container's and no file's.
    pub fn is_own_or_hosts(&self) -> bool {
        matches!(self, Self::Private | Self::Host)
    }

    /// Whether it is the container's own.
    pub fn is_own(&self) -> bool {
        *self == Self::Private
    }
}

pub(super) fn namespace(text: &str) -> Result<NamespaceArgument, String> {
    match text {
        "" | "private" => Ok(NamespaceArgument::Private),
        "host" => Ok(NamespaceArgument::Host),
        _ => other(text)
            .unwrap_or_else(|| Err("there is no such namespace; give private, host, container:NAME or ns:PATH".into())),
    }
}

/// podman also has a word for one that others may join, as all may here.
pub(super) fn ipc(text: &str) -> Result<NamespaceArgument, String> {
    if text == "shareable" { Ok(NamespaceArgument::Private) } else { namespace(text) }
}

/// `container:NAME` or `ns:PATH`; `None` for anything else.
pub(super) fn other(text: &str) -> Option<Result<NamespaceArgument, String>> {
    let (kind, value) = text.split_once(':')?;
    match kind {
        "container" if value.is_empty() => Some(Err("name the container, as container:NAME".into())),
        "container" => Some(Ok(NamespaceArgument::Container(value.into()))),
        "ns" if value.starts_with('/') => Some(Ok(NamespaceArgument::File(value.into()))),
        "ns" => Some(Err("give the whole path of the namespace, as ns:/run/netns/NAME".into())),
        _ => None,
    }
}

/// `--timens`: whether it is the container's own.
pub(super) fn time(text: &str) -> Result<bool, String> {
    match text {
        "private" => Ok(true),
        "host" => Ok(false),
        _ => Err("there is no such namespace; give private or host".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_own_the_hosts_or_anothers() {
        assert_eq!(namespace(""), Ok(NamespaceArgument::Private));
        assert_eq!(namespace("host"), Ok(NamespaceArgument::Host));
        assert_eq!(namespace("container:web"), Ok(NamespaceArgument::Container("web".to_owned())));
        assert_eq!(namespace("ns:/proc/1/ns/pid"), Ok(NamespaceArgument::File("/proc/1/ns/pid".into())));
        assert_eq!(ipc("shareable"), Ok(NamespaceArgument::Private));
        for wrong in ["container:", "ns:", "ns:x", "pod", "container", "pod:x"] {
            assert!(namespace(wrong).is_err(), "{wrong}");
        }
    }
}
