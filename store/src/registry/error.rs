//! Why a source of images does not give what was asked for.

use std::io;

use crate::digest::Digest;
use crate::manifest::ManifestError;

/// A failure of a source, one line with the way out.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers.
    #[error(
        "cannot reach the registry {host}: {cause}; check the name, the network, and `--tls-verify=false` for plain HTTP"
    )]
    Unreachable {
        /// Host and port.
        host: String,
        /// The innermost cause.
        cause: String,
    },
    /// The registry wants to know who asks.
    #[error(
        "{reference}: the registry {host} refuses access (401); `podman login {host}` or `docker login {host}` stores credentials, and a wrong name is refused in the same way"
    )]
    Unauthorized {
        /// What was asked for.
        reference: String,
        /// Host and port.
        host: String,
    },
    /// The registry knows who asks, and says no.
    #[error("{reference}: the registry {host} denies access (403) to these credentials")]
    Denied {
        /// What was asked for.
        reference: String,
        /// Host and port.
        host: String,
    },
    /// There is no such image.
    #[error("{reference}: not found in the registry {host} (404); check the name and the tag")]
    NotFound {
        /// What was asked for.
        reference: String,
        /// Host and port.
        host: String,
    },
    /// Too many requests.
    #[error("the registry {host} limits how often it may be asked (429); wait, or log in for a higher limit")]
    TooManyRequests {
        /// Host and port.
        host: String,
    },
    /// Any other answer.
    #[error("{reference}: the registry {host} answers {answer}")]
    Answer {
        /// What was asked for.
        reference: String,
        /// Host and port.
        host: String,
        /// Status or problem.
        answer: String,
    },
    /// A token server in a place where no registry's would be.
    #[error("the registry {host} sends credentials to {realm}, which is not a place for a token server; refused")]
    Realm {
        /// Host and port.
        host: String,
        /// Where it sends them.
        realm: String,
    },
    /// A redirect that is not followed.
    #[error("the registry {host} redirects {problem}; refused")]
    Redirect {
        /// Host and port.
        host: String,
        /// Where to, and why that will not do.
        problem: String,
    },
    /// The login that is kept for the registry cannot be had.
    #[error("the credentials for the registry {host}: {source}")]
    Credentials {
        /// Host and port.
        host: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Bytes of another digest than asked for.
    #[error("{wanted}: the source sent a manifest of digest {found}; it was tampered with, or the source is broken")]
    WrongManifest {
        /// Asked for.
        wanted: Digest,
        /// Computed from what came.
        found: Digest,
    },
    /// A layout or archive that cannot be read.
    #[error("{what}: {source}")]
    Read {
        /// File, folder or member.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A layout or archive that is not what it should be.
    #[error("{what}: {problem}")]
    Malformed {
        /// File, folder or member.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// A layout or archive of several images, and none chosen.
    #[error("there are several images in it; choose one: {0}")]
    Several(String),
    /// See [`ManifestError`].
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl RegistryError {
    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TooManyRequests { .. } | Self::Answer { .. })
    }
}
