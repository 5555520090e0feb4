//! Logins: the answer to a challenge of the registry itself.

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use url::Url;

use super::redirects::Answer;
use super::{Remote, Scheme, unreachable};
use crate::reference::Reference;
use crate::registry::RegistryError;
use crate::registry::auth::{self, Challenge, Credentials};

/// Largest answer of a token server, in bytes.
const MAX_TOKEN: usize = 1 << 20;

/// What a token server answers; either name is in use.
#[derive(serde::Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Remote {
    /// Answers the challenge of a 401, unless another request of the repository just did.
    pub(super) async fn authorize(
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
        let credentials = self.credentials(reference).await?;
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

    async fn credentials(&self, reference: &Reference) -> Result<Credentials, RegistryError> {
        let (look_up, asked) = (Arc::clone(&self.options.credentials), reference.clone());
        let found = tokio::task::spawn_blocking(move || look_up(&asked)).await;
        let found = found.unwrap_or_else(|failed| Err(failed.into()));
        found.map_err(|source| RegistryError::Credentials { host: self.name.clone(), source })
    }

    /// Gets a token for reading the repository (distribution's "Token Authentication Specification"), for an identity
    /// token by its "OAuth2 Token Authentication".
    async fn token(
        &self,
        reference: &Reference,
        challenge: &Challenge,
        credentials: &Credentials,
    ) -> Result<String, RegistryError> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let scheme = self.spoken.get().copied().unwrap_or(Scheme::Https);
        let Some(mut url) = auth::token_server(realm, &self.host, scheme == Scheme::Http) else {
            let realm = realm.chars().filter(|letter| !letter.is_control()).take(200).collect();
            return Err(RegistryError::Realm { host: self.name.clone(), realm });
        };
        let host = url.authority().to_owned();
        let own = Url::parse(&format!("{}://{}", scheme.name(), self.host));
        let is_own = own.is_ok_and(|own| own.origin() == url.origin());
        let failed = |error: reqwest::Error| unreachable(&host, &error);
        let client = self.clients.client(&url, is_own, &self.options).map_err(failed)?;
        let service = challenge.parameter("service");
        let scope = format!("repository:{}:pull", reference.repository);
        let request = if let Credentials::Identity(identity) = credentials {
            let form = auth::refresh(identity, service, &scope);
            client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
        } else {
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            url.query_pairs_mut().append_pair("scope", &scope);
            let request = client.get(url.clone());
            match credentials {
                Credentials::Basic { username, password } => {
                    request.header(AUTHORIZATION, auth::basic(username, password))
                }
                _ => request,
            }
        };
        let response = request.send().await.map_err(failed)?;
        // A refusal of a login is the registry's, whoever speaks for it.
        let response = self.judge(Answer { response, is_own: true, url }, reference)?;
        let bytes = self.body(response, MAX_TOKEN).await?;
        let token = bytes.and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok());
        token.and_then(|token| token.token.or(token.access_token)).ok_or_else(|| RegistryError::Answer {
            reference: reference.to_string(),
            host: self.name.clone(),
            answer: "a login with something that is no token".to_owned(),
        })
    }
}
