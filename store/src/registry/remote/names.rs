//! Where names lead. A name looks harmless until it is looked up, so its addresses are judged there, and those that are
//! refused are connected to by nobody.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::OnceCell;

use crate::registry::reach::{Place, refusal};

/// A name that leads where it must not.
#[derive(Debug, thiserror::Error)]
#[error("the name {name} leads to {address}, {what}, where a registry may not send anybody")]
struct Refused {
    name: String,
    address: IpAddr,
    what: &'static str,
}

/// A name that leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("the name {0} has no address")]
struct Nowhere(String);

/// A name that is in no file of this machine's, and no server to ask.
#[derive(Debug, thiserror::Error)]
#[error("the name {name} is not in the hosts file, and there is no name server to ask: {lack}")]
struct NoServer {
    name: String,
    lack: String,
}

/// How this machine looks names up.
struct System {
    resolver: TokioResolver,
    /// Why there is no server to ask, if there is none.
    lack: Option<String>,
}

/// Looks names up, by the files and the servers of this machine. The cache is shared by all that are cloned.
#[derive(Clone, Default)]
pub(super) struct Names {
    system: Arc<OnceCell<System>>,
    /// From where names are told; from anywhere if it is not known, as for a proxy that the caller chose.
    told_from: Option<Place>,
}

impl Names {
    /// The same names, as told by somebody in a place.
    pub(super) fn told_from(&self, place: Option<Place>) -> Self {
        Self { system: Arc::clone(&self.system), told_from: place }
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let system = names.system.get_or_try_init(|| async { System::of_machine() }).await?;
            let found = system.look_up(name.as_str()).await?;
            let allowed = allowed(name.as_str(), found.iter(), names.told_from)?;
            Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

impl System {
    /// By this machine's resolv.conf and hosts. Without the one there is still the other, where a machine has its own
    /// name; a name server of somebody else's choice would learn what is asked here.
    fn of_machine() -> Result<Self, NetError> {
        let (mut builder, lack) = match TokioResolver::builder_tokio() {
            Ok(builder) => (builder, None),
            Err(error) => {
                let none = ResolverConfig::from_name_servers(Vec::new());
                let builder = TokioResolver::builder_with_config(none, TokioRuntimeProvider::default());
                (builder, Some(error.to_string()))
            }
        };
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        Ok(Self { resolver: builder.build()?, lack })
    }

    async fn look_up(&self, name: &str) -> Result<LookupIp, Box<dyn std::error::Error + Send + Sync>> {
        self.resolver.lookup_ip(name).await.map_err(|error| match &self.lack {
            Some(lack) => NoServer { name: name.to_owned(), lack: lack.clone() }.into(),
            None => error.into(),
        })
    }
}

/// The addresses of a name to which one may go; an error if there are none.
fn allowed(
    name: &str,
    found: impl Iterator<Item = IpAddr>,
    told_from: Option<Place>,
) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let mut allowed = Vec::new();
    let mut refused = None;
    for address in found {
        match told_from.and_then(|from| refusal(Place::of_address(address), from)) {
            Some(what) => refused = Some(Refused { name: name.to_owned(), address, what }),
            None => allowed.push(address),
        }
    }
    match refused {
        Some(refused) if allowed.is_empty() => Err(refused.into()),
        _ if allowed.is_empty() => Err(Nowhere(name.to_owned()).into()),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::Hosts;

    use super::*;

    /// Names by a hosts file of the test's own, and no server.
    fn names(hosts: &str) -> Names {
        let config = ResolverConfig::from_name_servers(Vec::new());
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let mut resolver = builder.build().unwrap();
        let mut known = Hosts::default();
        known.read_hosts_conf(hosts.as_bytes()).unwrap();
        resolver.set_hosts(Arc::new(known));
        let lack = Some("this is a test".to_owned());
        Names { system: Arc::new(OnceCell::new_with(Some(System { resolver, lack }))), told_from: None }
    }

    async fn resolved(names: &Names, name: &str, from: Option<Place>) -> Result<Vec<String>, String> {
        let found = names.told_from(from).resolve(name.parse().unwrap()).await;
        found.map(|found| found.map(|address| address.ip().to_string()).collect()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn names_lead_where_their_teller_may_send() {
        let names = names(
            "127.0.0.1 loop.test\n::ffff:127.0.0.1 mapped.test\n169.254.169.254 link.test\nfe80::1 link6.test\n\
             10.0.0.1 lan.test\n192.0.2.1 both.test\n127.0.0.1 both.test\n",
        );
        let [world, here] = [Some(Place::World), Some(Place::Loopback)];
        for name in ["loop.test", "mapped.test"] {
            let refused = resolved(&names, name, world).await.unwrap_err();
            assert!(refused.contains(name) && refused.contains("a loopback address"), "{refused}");
            assert_eq!(resolved(&names, name, here).await.unwrap().len(), 1);
            assert_eq!(resolved(&names, name, None).await.unwrap().len(), 1);
        }
        for name in ["link.test", "link6.test"] {
            for from in [world, here, Some(Place::Private)] {
                let refused = resolved(&names, name, from).await.unwrap_err();
                assert!(refused.contains("a link-local address"), "{refused}");
            }
        }
        assert_eq!(resolved(&names, "lan.test", world).await.unwrap(), ["10.0.0.1"]);
        assert_eq!(resolved(&names, "both.test", world).await.unwrap(), ["192.0.2.1"]);
        let missing = resolved(&names, "missing.test", None).await.unwrap_err();
        assert!(missing.contains("missing.test is not in the hosts file") && missing.ends_with("a test"), "{missing}");
    }
}
