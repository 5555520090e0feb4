//! A registry over the network (OCI distribution specification, "Pulling").
//!
//! A request goes out with what is known of the repository's login; a 401 brings the challenge that tells how to log in,
//! and the request is made once more. So an open registry costs no request beyond those for content, and the challenge
//! that is judged is the very one that is answered. Where a login may go is for [`super::auth`] to say.
//!
//! Which of HTTP and HTTPS a registry speaks is known by its name, save for those on this machine and those that the
//! caller trusts without TLS: they are tried by one and then by the other, and the first answer decides.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};
use tokio::sync::Mutex;
use url::Url;

use self::clients::Clients;
pub use self::pace::MinimumRate;
use self::pace::paced;
pub use self::proxies::{Exceptions, Proxies, Proxy, ProxyError};
use self::redirects::Answer;
use super::auth::Credentials;
use super::reach::Place;
use super::{RawManifest, Registry, RegistryError};
use crate::blob::BlobStream;
use crate::digest::Digest;
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, MAX_BYTES, ManifestError, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;

/// Where the registry that is named docker.io answers.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// A host that does not answer for so long does not answer.
const CONNECT: Duration = Duration::from_secs(20);
/// A transfer that brings no byte for so long is broken.
const SILENCE: Duration = Duration::from_mins(1);

/// Looks the credentials for a reference up. It may take its time, such as to ask a helper program: it is called on a
/// thread of its own, and only when the registry wants to know who asks.
pub type LookUp =
    Arc<dyn Fn(&Reference) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// How to reach registries.
#[derive(Clone)]
pub struct RemoteOptions {
    /// No certificate is verified, and a registry that speaks no TLS is spoken to in plain HTTP.
    pub insecure: bool,
    /// Who asks.
    pub credentials: LookUp,
    /// Through whom.
    pub proxies: Proxies,
    /// How slowly the content may come; `None` for any rate, though a minute's silence is the end in any case.
    pub minimum_rate: Option<MinimumRate>,
}

impl Default for RemoteOptions {
    /// Certificates are verified, nobody logs in, no proxy is asked, and the rate is the usual one.
    fn default() -> Self {
        Self {
            insecure: false,
            credentials: Arc::new(|_| Ok(Credentials::Anonymous)),
            proxies: Proxies::default(),
            minimum_rate: Some(MinimumRate::default()),
        }
    }
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = formatter.debug_struct("RemoteOptions");
        told.field("insecure", &self.insecure).field("proxies", &self.proxies);
        told.field("minimum_rate", &self.minimum_rate).finish_non_exhaustive()
    }
}

/// What a registry speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// What to try, in order. This machine's own registries rarely speak TLS; others are asked for it first.
    fn candidates(place: Place, insecure: bool) -> &'static [Self] {
        match (place == Place::Loopback, insecure) {
            (true, _) => &[Self::Http, Self::Https],
            (false, true) => &[Self::Https, Self::Http],
            (false, false) => &[Self::Https],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A request for content, save for whom it is sent to.
#[derive(Clone, Copy)]
struct Request<'a> {
    headers: &'a [(HeaderName, String)],
    login: Option<&'a HeaderValue>,
}

impl Request<'_> {
    fn without_login(self) -> Self {
        Self { login: None, ..self }
    }
}

/// A registry.
pub struct Remote {
    clients: Clients,
    /// As the reference names it.
    name: String,
    /// As it is reached.
    host: String,
    /// Where that is.
    place: Place,
    schemes: &'static [Scheme],
    /// The one of them by which it answered.
    spoken: OnceLock<Scheme>,
    options: RemoteOptions,
    /// What to send for a repository, once it is known.
    authorizations: Mutex<HashMap<String, HeaderValue>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remote").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Remote {
    /// A client for the registry of a reference. The cryptography of TLS must have been chosen for the process before,
    /// as by `rustls::crypto::ring::default_provider().install_default()`.
    pub fn new(reference: &Reference, options: RemoteOptions) -> Self {
        let name = reference.registry.clone();
        let host = if name == "docker.io" { DOCKER_HUB.to_owned() } else { name.clone() };
        let place = Place::of_registry(&host);
        let schemes = Scheme::candidates(place, options.insecure);
        let (spoken, authorizations) = (OnceLock::new(), Mutex::default());
        Self { clients: Clients::new(place), name, host, place, schemes, spoken, options, authorizations }
    }

    /// Asks for something of the repository, after a login where one is wanted.
    async fn get(
        &self,
        reference: &Reference,
        path: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, RegistryError> {
        let known = self.authorizations.lock().await.get(&reference.repository).cloned();
        let request = Request { headers, login: known.as_ref() };
        let path = format!("/v2/{}/{path}", reference.repository);
        let (url, first) = self.first_answer(&path, request).await?;
        let answer = self.follow(first, url.clone(), request).await?;
        if answer.response.status() != StatusCode::UNAUTHORIZED || !answer.is_own {
            return self.judge(answer, reference);
        }
        // A token may have expired since it was given.
        let login = self.authorize(reference, answer.response.headers(), known.as_ref()).await?;
        let request = Request { headers, login: Some(&login) };
        let first = self.send(&url, true, request).await?;
        self.judge(self.follow(first, url, request).await?, reference)
    }

    /// Sends a request to the registry by the scheme that it speaks, which the first answer of all tells.
    async fn first_answer(&self, path: &str, request: Request<'_>) -> Result<(Url, Response), RegistryError> {
        let url = |scheme: Scheme| {
            let url = Url::parse(&format!("{}://{}{path}", scheme.name(), self.host));
            url.map_err(|error| unreachable(&self.name, &error))
        };
        if let Some(&scheme) = self.spoken.get() {
            let url = url(scheme)?;
            let answer = self.send(&url, true, request).await?;
            return Ok((url, answer));
        }
        let mut failure = None;
        let mut is_refused = false;
        for &scheme in self.schemes {
            let url = url(scheme)?;
            match self.send(&url, true, request).await {
                // What servers of TLS say to who speaks none.
                Ok(answer) if scheme == Scheme::Http && answer.status() == StatusCode::BAD_REQUEST => is_refused = true,
                Ok(answer) => {
                    // Another request may have been first to set it, with the same answer.
                    let _ = self.spoken.set(scheme);
                    return Ok((url, answer));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(match failure {
            Some(RegistryError::Unreachable { host, cause }) if is_refused => {
                let cause = format!("plain HTTP is answered with status 400, and HTTPS fails: {cause}");
                RegistryError::Unreachable { host, cause }
            }
            Some(error) => error,
            None => unreachable(&self.name, &std::io::Error::other("it answers with status 400")),
        })
    }

    /// Sends a request for content, and waits for the head of the answer.
    async fn send(&self, url: &Url, is_own: bool, request: Request<'_>) -> Result<Response, RegistryError> {
        let host = if is_own { &self.name } else { url.authority() };
        let failed = |error: reqwest::Error| unreachable(host, &error);
        let mut sent = self.clients.client(url, is_own, &self.options).map_err(failed)?.get(url.clone());
        for (name, value) in request.headers {
            sent = sent.header(name, value);
        }
        if let Some(login) = request.login {
            sent = sent.header(AUTHORIZATION, login);
        }
        sent.send().await.map_err(failed)
    }

    /// Reads an answer whole; `None` if it has more than `limit` bytes.
    async fn body(&self, answer: Response, limit: usize) -> Result<Option<Vec<u8>>, RegistryError> {
        let mut body = paced(answer.bytes_stream(), self.options.minimum_rate);
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| unreachable(&self.name, &error))?);
            if bytes.len() > limit {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }

    async fn fetch_manifest(
        &self,
        reference: &Reference,
        wanted: Option<&Digest>,
    ) -> Result<RawManifest, RegistryError> {
        let wanted = wanted.or(reference.digest.as_ref());
        let name = match (wanted, &reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        };
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");
        let answer = self.get(reference, &format!("manifests/{name}"), &[(ACCEPT, accept)]).await?;
        let stated = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // Registries made of plain files send any type; then the manifest's own word is all there is.
        let media_type = if media_type.starts_with("application/vnd.") { media_type } else { String::new() };
        let too_large = ManifestError::TooLarge { what: "manifest", size: MAX_BYTES + 1 };
        let bytes = self.body(answer, MAX_BYTES).await?.ok_or(too_large)?;
        // Docker-Content-Digest is the server's word too: only the bytes count.
        let digest = Digest::of(&bytes);
        match wanted {
            Some(wanted) if *wanted != digest => Err(RegistryError::WrongManifest { wanted: *wanted, found: digest }),
            _ => Ok(RawManifest { bytes, media_type, digest }),
        }
    }

    /// Lets a good answer through.
    fn judge(&self, answer: Answer, reference: &Reference) -> Result<Response, RegistryError> {
        let (reference, host) = (reference.to_string(), self.name.clone());
        Err(match answer.response.status() {
            status if status.is_success() => return Ok(answer.response),
            StatusCode::UNAUTHORIZED if !answer.is_own => {
                let at = answer.url.authority();
                RegistryError::Redirect { host, problem: format!("to {at}, which wants a login (401)") }
            }
            StatusCode::UNAUTHORIZED => RegistryError::Unauthorized { reference, host },
            StatusCode::FORBIDDEN => RegistryError::Denied { reference, host },
            StatusCode::NOT_FOUND => RegistryError::NotFound { reference, host },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::TooManyRequests { host },
            status => RegistryError::Answer { reference, host, answer: format!("with status {}", status.as_u16()) },
        })
    }
}

fn unreachable(host: &str, error: &dyn std::error::Error) -> RegistryError {
    RegistryError::Unreachable { host: host.to_owned(), cause: innermost(error) }
}

impl Registry for Remote {
    async fn manifest(&self, reference: &Reference) -> Result<RawManifest, RegistryError> {
        self.fetch_manifest(reference, None).await
    }

    async fn manifest_by_digest(&self, reference: &Reference, digest: &Digest) -> Result<RawManifest, RegistryError> {
        self.fetch_manifest(reference, Some(digest)).await
    }

    /// Never asks the `urls` of a descriptor: a manifest could name any host (CVE-2020-15157).
    async fn blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<BlobStream, RegistryError> {
        let range = (offset > 0).then(|| (RANGE, format!("bytes={offset}-")));
        let answer = self.get(reference, &format!("blobs/{}", blob.digest), range.as_slice()).await?;
        let begins_at = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                if range.and_then(first_byte) != Some(offset) {
                    let (reference, host) = (reference.to_string(), self.name.clone());
                    let answer = "with another part of the blob than was asked for".to_owned();
                    return Err(RegistryError::Answer { reference, host, answer });
                }
                offset
            }
            _ => 0,
        };
        Ok(BlobStream::new(begins_at, paced(answer.bytes_stream(), self.options.minimum_rate)))
    }
}

/// The first position of `bytes 5-9/10` (RFC 9110, section 14.4).
fn first_byte(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string().replace('\n', " ")
}

mod clients;
mod login;
mod names;
mod pace;
mod proxies;
mod redirects;
#[cfg(test)]
mod tests;
