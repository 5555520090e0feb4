//! Names of images, as Docker and the distribution specification write them.
//!
//! Whatever becomes part of a URL or of a database key goes through [`Reference::parse`]: host, repository and tag hold
//! nothing but the characters of their grammar, so neither `..`, control characters nor user information get through.

use std::fmt::{self, Display, Formatter};

use serde::{Serialize, Serializer};

use crate::digest::Digest;

/// Registry of a name that gives none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Namespace of a name of a single component on [`DEFAULT_REGISTRY`].
const DEFAULT_NAMESPACE: &str = "library/";
/// Tag of a name that has neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// Registry of images that were built or imported here.
const LOCALHOST: &str = "localhost";
/// Longest registry and repository together, in bytes (distribution reference grammar).
const MAX_NAME: usize = 255;
/// Longest tag, in bytes (distribution specification, "Pulling manifests").
const MAX_TAG: usize = 128;

/// The name of an image with all that a short name leaves out filled in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host of the registry, with its port where one was given: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// Path of the repository on it: `library/debian`.
    pub repository: String,
    /// Tag; `None` only where there is a digest.
    pub tag: Option<String>,
    /// Digest of the manifest; it decides where a tag is given too.
    pub digest: Option<Digest>,
}

/// Text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the name of an image: {reason}")]
pub struct ReferenceError {
    /// What was given, cut after 300 characters.
    text: String,
    /// What is wrong with it and how it should be.
    reason: &'static str,
}

impl Reference {
    /// Reads a name by Docker's rules: what stands before the first `/` is a registry if it is `localhost`, or holds a
    /// `.`, a `:` or an uppercase letter; otherwise the registry is `docker.io`, whose own images live under `library/`.
    ///
    /// # Errors
    /// Anything outside the grammar of the distribution reference, with what is wrong about it.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|reason| ReferenceError { text: text.chars().take(300).collect(), reason })
    }

    /// Registry and repository without tag and digest: `docker.io/library/debian`.
    pub fn repository_name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The short form in which people write it: `debian:12` for `docker.io/library/debian:12`.
    pub fn familiar(&self) -> String {
        let mut text = if self.registry == DEFAULT_REGISTRY {
            self.repository.strip_prefix(DEFAULT_NAMESPACE).unwrap_or(&self.repository).to_owned()
        } else {
            self.repository_name()
        };
        self.suffix(&mut text);
        text
    }

    /// The same name among the images that were built or imported here, for a name of one component without registry:
    /// `localhost/app:1` for `app:1`. `None` for any other.
    pub fn on_localhost(&self) -> Option<Self> {
        let name = self.repository.strip_prefix(DEFAULT_NAMESPACE).filter(|_| self.registry == DEFAULT_REGISTRY)?;
        Some(Self { registry: LOCALHOST.to_owned(), repository: name.to_owned(), ..self.clone() })
    }

    /// Appends tag and digest.
    fn suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

/// The canonical form: `docker.io/library/debian:latest`.
impl Display for Reference {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let mut text = self.repository_name();
        self.suffix(&mut text);
        formatter.write_str(&text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let (named, digest) = match text.split_once('@') {
        None => (text, None),
        Some((named, digest)) => {
            let digest =
                digest.parse().map_err(|_| "after @ there must be sha256: and 64 lowercase hexadecimal digits")?;
            (named, Some(digest))
        }
    };
    // A colon before the last slash belongs to a port.
    let last = named.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match named[last..].split_once(':') {
        None => (named, None),
        Some((component, tag)) => (&named[..last + component.len()], Some(tag)),
    };
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err("a tag is up to 128 letters, digits, '_', '.' and '-', and begins with neither '.' nor '-'");
    }
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if is_registry(host) => (host, path),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if !is_host(registry) {
        return Err("the registry before the first '/' must be a host name or address, with a port if need be");
    }
    if !path.split('/').all(is_component) {
        return Err("the repository must be lowercase letters and digits, single '.', '_', '__' or '-' between them");
    }
    let short = registry == DEFAULT_REGISTRY && !path.contains('/');
    if short && path.len() == 64 && path.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("64 hexadecimal digits are an image id");
    }
    let repository = if short { format!("{DEFAULT_NAMESPACE}{path}") } else { path.to_owned() };
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err("registry and repository together may have 255 characters");
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_TAG.to_owned()),
    };
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// Tells a registry from the first component of a repository (Docker's rule).
fn is_registry(component: &str) -> bool {
    component == LOCALHOST
        || component.contains(['.', ':', '['])
        || component.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (None, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("") }))
    } else {
        match text.split_once(':') {
            None => (Some(text), None),
            Some((host, port)) => (Some(host), Some(port)),
        }
    };
    let port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|number| number != 0)
    });
    port && host.is_none_or(|host| host.split('.').all(is_label))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` of the distribution specification, "Pulling manifests".
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    let separators = || component.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    ends.is_some_and(|(first, last)| alphanumeric(*first) && alphanumeric(*last))
        && separators()
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(|first| word(*first))
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_filled_in_as_docker_does() {
        let digest = Digest::of(b"manifest");
        for (given, canonical, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("localhost/app:1", "localhost/app:1", "localhost/app:1"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("quay.io/a/b/c__d.e--f:V1.x", "quay.io/a/b/c__d.e--f:V1.x", "quay.io/a/b/c__d.e--f:V1.x"),
        ] {
            let reference = Reference::parse(given).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (canonical, familiar));
            assert_eq!(Reference::parse(canonical).unwrap(), reference, "{canonical} must mean itself");
            assert_eq!(Reference::parse(familiar).unwrap(), reference, "{familiar} must mean the same");
        }
        let pinned = Reference::parse(&format!("debian@{digest}")).unwrap();
        assert_eq!((pinned.tag.as_deref(), pinned.digest), (None, Some(digest)));
        assert_eq!(pinned.to_string(), format!("docker.io/library/debian@{digest}"));
        let both = Reference::parse(&format!("debian:12@{digest}")).unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/debian:12@{digest}"));
        assert_eq!(both.repository_name(), "docker.io/library/debian");
    }

    #[test]
    fn what_is_outside_the_grammar_is_refused() {
        let long = "a".repeat(256);
        let hex = "a".repeat(64);
        for text in [
            "",
            "/",
            ":",
            "@",
            "debian:",
            "debian@",
            "debian@sha256:12",
            "Debian",
            "a//b",
            "/a",
            "a/",
            "a/../b",
            "..",
            "quay.io/../a",
            "quay.io/a/..",
            "a b",
            "a\r\nHost: evil",
            "a\0",
            "user@quay.io/a",
            "user:pass@quay.io/a",
            "quay.io:port/a",
            "quay.io:0/a",
            "quay.io:99999/a",
            "quay.io:/a",
            "quay.io:+80/a",
            "-a.io/b",
            "a..io/b",
            "[::1/a",
            "[zz]/a",
            "[::1]x/a",
            "a:-b",
            "a:.b",
            "a:b:c",
            "a___b",
            "a._b",
            "a?b",
            "a%2e",
            "https://quay.io/a",
            "é",
            &long,
            &hex,
            &format!("a:{}", "t".repeat(129)),
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn only_plain_names_are_looked_for_on_localhost() {
        let local = |text: &str| Reference::parse(text).unwrap().on_localhost().map(|local| local.to_string());
        assert_eq!(local("app:1").as_deref(), Some("localhost/app:1"));
        assert_eq!(local("me/app:1"), None);
        assert_eq!(local("quay.io/library/app"), None);
    }
}
