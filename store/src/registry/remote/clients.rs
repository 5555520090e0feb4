//! HTTP clients, each made when it is first needed: to read this machine's root certificates takes longer than all else
//! that a look at a registry without TLS costs. None of them follows redirects, or knows a proxy but the one it is for.

use std::sync::OnceLock;

use reqwest::redirect::Policy;
use reqwest::{Client, Proxy};
use url::Url;

use super::names::Names;
use super::{CONNECT, RemoteOptions, SILENCE};
use crate::registry::reach::Place;

/// How a URL is reached.
#[derive(Clone, Copy)]
enum Way {
    /// It is the registry that the caller named. Where its name leads is the caller's business, link-local addresses
    /// apart.
    Own,
    /// A registry named it.
    Elsewhere,
    /// A proxy reaches it, and looks its name up.
    Proxy,
}

/// The clients for one registry.
pub(super) struct Clients {
    registry: Place,
    names: Names,
    /// By [`Way`], for plain HTTP and then for TLS.
    made: [OnceLock<Client>; 6],
}

impl Clients {
    pub(super) fn new(registry: Place) -> Self {
        Self { registry, names: Names::default(), made: Default::default() }
    }

    /// The client that reaches a URL; `is_own` if it is of the registry itself.
    ///
    /// # Errors
    /// A TLS set-up that cannot be made, such as for want of root certificates.
    pub(super) fn client(&self, url: &Url, is_own: bool, options: &RemoteOptions) -> reqwest::Result<&Client> {
        let proxy = options.proxies.of(url);
        let (way, told_from) = match proxy {
            Some(_) => (Way::Proxy, None),
            None if is_own => (Way::Own, Some(Place::Loopback)),
            None => (Way::Elsewhere, Some(self.registry)),
        };
        let is_tls = url.scheme() == "https";
        let place = &self.made[usize::from(is_tls) * 3 + way as usize];
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .dns_resolver(self.names.told_from(told_from))
            .tls_danger_accept_invalid_certs(options.insecure)
            .user_agent(concat!("lstore/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = proxy {
            builder = builder.proxy(Proxy::all(proxy.url().clone())?);
        }
        if !is_tls && proxy.is_none_or(|proxy| proxy.url().scheme() != "https") {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build()?;
        // Another request may have been faster.
        Ok(place.get_or_init(|| client))
    }
}
