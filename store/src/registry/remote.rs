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
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::header::{HeaderName, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::sync::Mutex;

use self::clients::Clients;
use super::auth::{self, Challenge, Credentials};
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
/// Redirects that are followed for one request.
const REDIRECTS: usize = 5;
/// Largest answer of a token server, in bytes.
const MAX_TOKEN: usize = 1 << 20;

/// How to reach registries.
pub struct RemoteOptions {
    /// No certificate is verified, and a registry that speaks no TLS is spoken to in plain HTTP.
    pub insecure: bool,
    /// Credentials by registry host.
    pub credentials: Box<dyn Fn(&str) -> Credentials + Send + Sync>,
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RemoteOptions").field("insecure", &self.insecure).finish_non_exhaustive()
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
    fn candidates(host: &str, insecure: bool) -> &'static [Self] {
        match (auth::is_loopback(host), insecure) {
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

/// A registry.
pub struct Remote {
    clients: Clients,
    /// As the reference names it.
    name: String,
    /// As it is reached.
    host: String,
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
        let schemes = Scheme::candidates(&host, options.insecure);
        let clients = Clients::new(options.insecure);
        Self { clients, name, host, schemes, spoken: OnceLock::new(), options, authorizations: Mutex::default() }
    }

    /// Asks for something of the repository, after a login where one is wanted.
    async fn get(
        &self,
        reference: &Reference,
        path: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, RegistryError> {
        let request = |scheme: Scheme, authorization: Option<&HeaderValue>, client: &Client| {
            let url = format!("{}://{}/v2/{}/{path}", scheme.name(), self.host, reference.repository);
            let request = headers.iter().fold(client.get(url), |request, (name, value)| request.header(name, value));
            authorization.into_iter().fold(request, |request, value| request.header(AUTHORIZATION, value))
        };
        let known = self.authorizations.lock().await.get(&reference.repository).cloned();
        let (scheme, answer) = self.first_answer(|scheme, client| request(scheme, known.as_ref(), client)).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return self.judge(answer, reference);
        }
        // A token may have expired since it was given.
        let authorization = self.authorize(reference, answer.headers(), known.as_ref()).await?;
        let answer = self.send(scheme, |client| request(scheme, Some(&authorization), client)).await?;
        self.judge(answer, reference)
    }

    /// Sends a request by the scheme that the registry speaks, which the first answer of all tells.
    async fn first_answer(
        &self,
        request: impl Fn(Scheme, &Client) -> RequestBuilder,
    ) -> Result<(Scheme, Response), RegistryError> {
        if let Some(&scheme) = self.spoken.get() {
            return Ok((scheme, self.send(scheme, |client| request(scheme, client)).await?));
        }
        let mut failure = None;
        let mut is_refused = false;
        for &scheme in self.schemes {
            match self.send(scheme, |client| request(scheme, client)).await {
                // What servers of TLS say to who speaks none.
                Ok(answer) if scheme == Scheme::Http && answer.status() == StatusCode::BAD_REQUEST => is_refused = true,
                Ok(answer) => {
                    // Another request may have been first to set it, with the same answer.
                    let _ = self.spoken.set(scheme);
                    return Ok((scheme, answer));
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
            None => self.unreachable(&std::io::Error::other("it answers with status 400")),
        })
    }

    async fn send(
        &self,
        scheme: Scheme,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        self.clients.send(scheme, request).await.map_err(|error| self.unreachable(&error))
    }

    /// Answers the challenge of a 401, unless another request of the repository just did.
    async fn authorize(
        &self,
        reference: &Reference,
        headers: &HeaderMap,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        let unauthorized = || RegistryError::Unauthorized { reference: reference.to_string(), host: self.name.clone() };
        let mut authorizations = self.authorizations.lock().await;
        if let Some(newer) = authorizations.get(&reference.repository).filter(|newer| Some(*newer) != refused) {
            return Ok(newer.clone());
        }
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = texts.flat_map(auth::challenges).collect();
        let with = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let credentials = (self.options.credentials)(&self.name);
        let text = match (with("bearer"), &credentials) {
            (Some(_), Credentials::Bearer(token)) => format!("Bearer {token}"),
            (Some(challenge), _) => format!("Bearer {}", self.token(reference, challenge, &credentials).await?),
            (None, Credentials::Basic { username, password }) if with("basic").is_some() => {
                auth::basic(username, password)
            }
            _ => return Err(unauthorized()),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| unauthorized())?;
        value.set_sensitive(true);
        authorizations.insert(reference.repository.clone(), value.clone());
        Ok(value)
    }

    /// Gets a token for reading the repository (distribution's "Token Authentication Specification").
    async fn token(
        &self,
        reference: &Reference,
        challenge: &Challenge,
        credentials: &Credentials,
    ) -> Result<String, RegistryError> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let Some(mut url) = auth::token_server(realm, &self.host, self.spoken.get() == Some(&Scheme::Http)) else {
            let realm = realm.chars().filter(|letter| !letter.is_control()).take(200).collect();
            return Err(RegistryError::Realm { host: self.name.clone(), realm });
        };
        if let Some(service) = challenge.parameter("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", reference.repository));
        let mut request = self.clients.login().map_err(|error| self.unreachable(&error))?.get(url);
        if let Credentials::Basic { username, password } = credentials {
            request = request.header(AUTHORIZATION, auth::basic(username, password));
        }
        let answer = self.judge(request.send().await.map_err(|error| self.unreachable(&error))?, reference)?;
        let bytes = self.body(answer, MAX_TOKEN).await?;
        let token = bytes.and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok());
        token.and_then(|token| token.token.or(token.access_token)).ok_or_else(|| RegistryError::Answer {
            reference: reference.to_string(),
            host: self.name.clone(),
            answer: "a login with something that is no token".to_owned(),
        })
    }

    /// Reads an answer whole; `None` if it has more than `limit` bytes.
    async fn body(&self, mut answer: Response, limit: usize) -> Result<Option<Vec<u8>>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            bytes.extend_from_slice(&chunk);
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
    fn judge(&self, answer: Response, reference: &Reference) -> Result<Response, RegistryError> {
        let (reference, host) = (reference.to_string(), self.name.clone());
        Err(match answer.status() {
            status if status.is_success() => return Ok(answer),
            StatusCode::UNAUTHORIZED => RegistryError::Unauthorized { reference, host },
            StatusCode::FORBIDDEN => RegistryError::Denied { reference, host },
            StatusCode::NOT_FOUND => RegistryError::NotFound { reference, host },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::TooManyRequests { host },
            status => RegistryError::Answer { reference, host, answer: format!("with status {}", status.as_u16()) },
        })
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> RegistryError {
        RegistryError::Unreachable { host: self.name.clone(), cause: innermost(error) }
    }
}

/// What a token server answers; either name is in use.
#[derive(serde::Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
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
        let bytes = answer.bytes_stream().map_err(|error| std::io::Error::other(innermost(&error)));
        Ok(BlobStream::new(begins_at, bytes.boxed()))
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
#[cfg(test)]
mod tests;
