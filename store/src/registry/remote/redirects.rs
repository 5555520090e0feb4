//! Redirects, which is how registries hand out blobs. They are followed here rather than by the HTTP client, which
//! judges each hop by the one before: that one's host may be a stranger already, and the login still in the request.

use reqwest::header::LOCATION;
use reqwest::{Response, StatusCode};
use url::Url;

use super::{Remote, Request};
use crate::registry::RegistryError;
use crate::registry::reach::{Place, refusal};

/// Redirects that are followed for one request.
const REDIRECTS: usize = 5;

/// An answer that is no redirect.
pub(super) struct Answer {
    pub(super) response: Response,
    /// Whether the registry itself gave it, and nobody else had a say in what it was asked.
    pub(super) is_own: bool,
    /// Who gave it.
    pub(super) url: Url,
}

impl Remote {
    /// Follows the redirects of an answer to a request of the registry's own, if it is one. The login goes along while
    /// all of them stay with the registry; once one has led elsewhere it stays behind for good, also where a later one
    /// leads back: what is asked of the registry then was chosen by somebody else.
    pub(super) async fn follow(
        &self,
        mut response: Response,
        mut url: Url,
        request: Request<'_>,
    ) -> Result<Answer, RegistryError> {
        let own = url.origin();
        let mut is_own = true;
        let mut hops = 0;
        loop {
            let refused = |problem: String| RegistryError::Redirect { host: self.name.clone(), problem };
            let Some(next) = target(&response, &url).map_err(refused)? else {
                return Ok(Answer { response, is_own, url });
            };
            if hops == REDIRECTS {
                return Err(refused("again and again".to_owned()));
            }
            judge(&url, &next, self.place).map_err(refused)?;
            is_own &= next.origin() == own;
            let request = if is_own { request } else { request.without_login() };
            response = self.send(&next, next.origin() == own, request).await?;
            url = next;
            hops += 1;
        }
    }
}

/// Where an answer leads; `None` if it is no redirect.
fn target(response: &Response, url: &Url) -> Result<Option<Url>, String> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let Some(location) = response.headers().get(LOCATION).filter(|_| is_redirect) else { return Ok(None) };
    let target = location.to_str().ok().and_then(|location| url.join(location).ok());
    target.map(Some).ok_or_else(|| "to what is no URL".to_owned())
}

/// Whether a redirect from one URL to another may be followed, for a registry in a place.
fn judge(from: &Url, to: &Url, registry: Place) -> Result<(), String> {
    let host = to.host_str().unwrap_or_default();
    match to.scheme() {
        "https" => {}
        "http" if from.scheme() == "http" => {}
        "http" => return Err(format!("from https to plain http, at {host}")),
        _ => return Err("to what is no web address".to_owned()),
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(format!("to {host} with a login of its own"));
    }
    match refusal(Place::of_host(host), registry) {
        Some(what) => Err(format!("to {host}, {what}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_out_and_not_in() {
        let judged =
            |from: &str, to: &str, registry| judge(&Url::parse(from).unwrap(), &Url::parse(to).unwrap(), registry);
        for (from, to, registry) in [
            ("https://r.example/", "http://r.example/", Place::World),
            ("https://r.example/", "ftp://r.example/", Place::World),
            ("https://r.example/", "file:///etc/passwd", Place::World),
            ("https://r.example/", "https://me:x@cdn.example/", Place::World),
            ("https://r.example/", "https://127.0.0.1/", Place::World),
            ("https://r.example/", "https://2130706433/", Place::World),
            ("https://r.example/", "https://localhost/", Place::World),
            ("https://r.example/", "https://0.0.0.0/", Place::World),
            ("https://10.0.0.1/", "https://127.0.0.1/", Place::Private),
            ("https://r.example/", "https://169.254.169.254/", Place::World),
            ("http://127.0.0.1/", "http://169.254.169.254/", Place::Loopback),
            ("http://127.0.0.1/", "http://[fe80::1]/", Place::Loopback),
            ("http://127.0.0.1/", "http://[::ffff:169.254.169.254]/", Place::Loopback),
        ] {
            assert!(judged(from, to, registry).is_err(), "{from} {to}");
        }
        for (from, to, registry) in [
            ("https://r.example/", "https://cdn.example/", Place::World),
            ("http://r.example/", "https://cdn.example/", Place::World),
            ("http://r.example/", "http://cdn.example/", Place::World),
            ("https://r.example/", "https://10.0.0.1/", Place::World),
            ("http://127.0.0.1/", "http://127.0.0.2/", Place::Loopback),
        ] {
            assert!(judged(from, to, registry).is_ok(), "{from} {to}");
        }
    }
}
