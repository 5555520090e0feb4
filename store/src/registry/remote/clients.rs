//! HTTP clients, each made when it is first needed: to read this machine's root certificates takes longer than all else
//! that a look at a registry without TLS costs.

use std::sync::OnceLock;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};

use super::{CONNECT, REDIRECTS, SILENCE, Scheme};

/// The clients for one registry.
pub(super) struct Clients {
    /// Whether certificates are believed without a look.
    insecure: bool,
    /// For content in plain HTTP: knows no root certificate.
    plain: OnceLock<Client>,
    /// For content.
    content: OnceLock<Client>,
    /// For logins.
    login: OnceLock<Client>,
}

impl Clients {
    pub(super) fn new(insecure: bool) -> Self {
        Self { insecure, plain: OnceLock::new(), content: OnceLock::new(), login: OnceLock::new() }
    }

    /// Sends a request for content, and follows redirects, which is how registries hand out blobs.
    ///
    /// # Errors
    /// A TLS set-up that cannot be made, such as for want of root certificates, or a host that does not answer.
    pub(super) async fn send(
        &self,
        scheme: Scheme,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> reqwest::Result<Response> {
        if scheme == Scheme::Http {
            let plain = self.made(&self.plain, |builder| builder.redirect(redirects(false)).tls_certs_only([]))?;
            let answer = request(plain).send().await?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
        }
        request(self.made(&self.content, |builder| builder.redirect(redirects(true)))?).send().await
    }

    /// The client for logins, which follows no redirects.
    ///
    /// # Errors
    /// A TLS set-up that cannot be made.
    pub(super) fn login(&self) -> reqwest::Result<&Client> {
        self.made(&self.login, |builder| builder.redirect(Policy::none()))
    }

    fn made<'a>(
        &self,
        place: &'a OnceLock<Client>,
        kind: impl Fn(ClientBuilder) -> ClientBuilder,
    ) -> reqwest::Result<&'a Client> {
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let builder = Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .referer(false)
            .tls_danger_accept_invalid_certs(self.insecure)
            .user_agent(concat!("lstore/", env!("CARGO_PKG_VERSION")));
        let client = kind(builder).build()?;
        // Another request may have been faster.
        Ok(place.get_or_init(|| client))
    }
}

/// Follows a few, and none out of TLS; none into TLS either, unless certificates can be verified. The client leaves the
/// authorization behind at another host.
fn redirects(into_tls: bool) -> Policy {
    Policy::custom(move |attempt| {
        let is_tls = attempt.url().scheme() == "https";
        if !is_tls && attempt.previous().iter().any(|url| url.scheme() == "https") {
            attempt.error("it redirects from https to plain http, which is refused")
        } else if attempt.previous().len() > REDIRECTS {
            attempt.error("it redirects again and again")
        } else if is_tls && !into_tls {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}
