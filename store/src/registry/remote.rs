//! A registry over the network (OCI distribution specification), by the crate oci-distribution.

use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use oci_distribution::client::{BlobResponse, Client, ClientConfig, ClientProtocol};
use oci_distribution::errors::OciDistributionError as OciError;
use oci_distribution::manifest::OciDescriptor;
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::{Reference as OciReference, RegistryOperation};

use super::auth::{self, Credentials};
use super::{RawManifest, Registry, RegistryError};
use crate::blob::BlobStream;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// What manifests are asked for.
const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// A host that does not answer for so long does not answer.
const CONNECT: Duration = Duration::from_secs(20);
/// A transfer that brings no byte for so long is broken.
const SILENCE: Duration = Duration::from_mins(1);

/// How to reach registries.
pub struct RemoteOptions {
    /// Plain HTTP for every registry; loopback ones have it anyway.
    pub plain_http: bool,
    /// Credentials by registry host.
    pub credentials: Box<dyn Fn(&str) -> Credentials + Send + Sync>,
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RemoteOptions").field("plain_http", &self.plain_http).finish_non_exhaustive()
    }
}

/// A registry.
pub struct Remote {
    client: Client,
    probe: reqwest::Client,
    host: String,
    is_plain: bool,
    options: RemoteOptions,
    authorized: Mutex<HashSet<String>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remote").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Remote {
    /// A client for the registry of a reference.
    ///
    /// # Errors
    /// A TLS set-up that cannot be made: no root certificates, say.
    pub fn new(reference: &Reference, options: RemoteOptions) -> Result<Self, RegistryError> {
        let host = oci_reference(reference, None).resolve_registry().to_owned();
        let is_plain = options.plain_http || auth::is_loopback(&host);
        let unreachable =
            |error: &dyn std::error::Error| RegistryError::Unreachable { host: host.clone(), cause: innermost(error) };
        let protocol = if is_plain { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT),
            read_timeout: Some(SILENCE),
            user_agent: concat!("lstore/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let probe = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| unreachable(&error))?;
        let client = Client::try_from(config).map_err(|error| unreachable(&error))?;
        Ok(Self { client, probe, host, is_plain, options, authorized: Mutex::default() })
    }

    /// Authenticates once for a repository, before anything is asked of it. The challenge is looked at first: no
    /// credentials, nor even a request, go to a token server in a place where none can be meant.
    async fn authorize(&self, reference: &Reference) -> Result<(), RegistryError> {
        let known = |set: &Mutex<HashSet<String>>| set.lock().is_ok_and(|set| set.contains(&reference.repository));
        if known(&self.authorized) {
            return Ok(());
        }
        let scheme = if self.is_plain { "http" } else { "https" };
        let answer = self.probe.get(format!("{scheme}://{}/v2/", self.host)).send().await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        let challenge = answer.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
        if let Some(realm) = challenge.and_then(auth::realm)
            && !auth::is_trustworthy(realm, &self.host, self.is_plain)
        {
            return Err(RegistryError::Realm { host: self.host.clone(), realm: realm.to_owned() });
        }
        let credentials = match (self.options.credentials)(&reference.registry) {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { username, password } => RegistryAuth::Basic(username, password),
            Credentials::Bearer(token) => RegistryAuth::Bearer(token),
        };
        let oci = oci_reference(reference, None);
        let outcome = self.client.auth(&oci, &credentials, RegistryOperation::Pull).await;
        outcome.map_err(|error| self.explain(error, reference))?;
        if let Ok(mut authorized) = self.authorized.lock() {
            authorized.insert(reference.repository.clone());
        }
        Ok(())
    }

    async fn fetch_manifest(
        &self,
        reference: &Reference,
        digest: Option<&Digest>,
    ) -> Result<RawManifest, RegistryError> {
        self.authorize(reference).await?;
        let oci = oci_reference(reference, digest);
        let pulled = self.client.pull_manifest_raw(&oci, &RegistryAuth::Anonymous, &ACCEPTED).await;
        let (bytes, _) = pulled.map_err(|error| self.explain(error, reference))?;
        let bytes = bytes.to_vec();
        let found = Digest::of(&bytes);
        if let Some(wanted) = digest.copied().or(reference.digest)
            && wanted != found
        {
            return Err(RegistryError::WrongManifest { wanted, found });
        }
        // What the manifest says of itself decides; the header is the server's word.
        let stated = serde_json::from_slice::<Stated>(&bytes).ok().and_then(|stated| stated.media_type);
        Ok(RawManifest { bytes, media_type: stated.unwrap_or_default(), digest: found })
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> RegistryError {
        RegistryError::Unreachable { host: self.host.clone(), cause: innermost(error) }
    }

    fn explain(&self, error: OciError, reference: &Reference) -> RegistryError {
        use oci_distribution::errors::OciErrorCode as Code;
        let (reference, host) = (reference.to_string(), self.host.clone());
        let by_status = |code: u16, reference: String, host: String| match code {
            401 => RegistryError::Unauthorized { reference, host },
            403 => RegistryError::Denied { reference, host },
            404 => RegistryError::NotFound { reference, host },
            429 => RegistryError::TooManyRequests { host },
            code => RegistryError::Answer { reference, host, answer: format!("with status {code}") },
        };
        match error {
            OciError::UnauthorizedError { .. } | OciError::AuthenticationFailure(_) => {
                RegistryError::Unauthorized { reference, host }
            }
            OciError::ImageManifestNotFoundError(_) => RegistryError::NotFound { reference, host },
            OciError::ServerError { code, .. } => by_status(code, reference, host),
            OciError::RegistryError { envelope, .. } => {
                match envelope.errors.into_iter().next().map(|error| error.code) {
                    Some(Code::Unauthorized) => RegistryError::Unauthorized { reference, host },
                    Some(Code::Denied) => RegistryError::Denied { reference, host },
                    Some(
                        Code::ManifestUnknown
                        | Code::NameUnknown
                        | Code::NotFound
                        | Code::BlobUnknown
                        | Code::ManifestBlobUnknown,
                    ) => RegistryError::NotFound { reference, host },
                    Some(Code::Toomanyrequests) => RegistryError::TooManyRequests { host },
                    Some(code) => RegistryError::Answer { reference, host, answer: format!("with error {code:?}") },
                    None => {
                        RegistryError::Answer { reference, host, answer: "with an error without a reason".to_owned() }
                    }
                }
            }
            OciError::RequestError(error) => match error.status() {
                Some(status) => by_status(status.as_u16(), reference, host),
                None => self.unreachable(&error),
            },
            other => RegistryError::Answer { reference, host, answer: other.to_string().replace('\n', " ") },
        }
    }
}

#[derive(serde::Deserialize)]
struct Stated {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

impl Registry for Remote {
    async fn manifest(&self, reference: &Reference) -> Result<RawManifest, RegistryError> {
        self.fetch_manifest(reference, reference.digest.as_ref()).await
    }

    async fn manifest_by_digest(&self, reference: &Reference, digest: &Digest) -> Result<RawManifest, RegistryError> {
        self.fetch_manifest(reference, Some(digest)).await
    }

    async fn blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<BlobStream, RegistryError> {
        self.authorize(reference).await?;
        // Foreign places are never asked: a manifest could name any host (CVE-2020-15157).
        let layer = OciDescriptor {
            media_type: blob.media_type.clone(),
            digest: blob.digest.to_string(),
            size: i64::try_from(blob.size).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let oci = oci_reference(reference, None);
        let asked = async {
            if offset == 0 {
                return self.client.pull_blob_stream(&oci, &layer).await.map(BlobResponse::Full);
            }
            self.client.pull_blob_stream_partial(&oci, &layer, offset, None).await
        };
        let (begins_at, stream) = match asked.await.map_err(|error| self.explain(error, reference))? {
            BlobResponse::Full(stream) => (0, stream),
            BlobResponse::Partial(stream) => (offset, stream),
        };
        Ok(BlobStream::new(begins_at, stream.boxed()))
    }
}

fn oci_reference(reference: &Reference, digest: Option<&Digest>) -> OciReference {
    let (registry, repository) = (reference.registry.clone(), reference.repository.clone());
    match (digest, &reference.tag) {
        (Some(digest), _) => OciReference::with_digest(registry, repository, digest.to_string()),
        (None, Some(tag)) => OciReference::with_tag(registry, repository, tag.clone()),
        (None, None) => OciReference::with_tag(registry, repository, "latest".to_owned()),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string().replace('\n', " ")
}
