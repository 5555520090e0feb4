//! `lstore pull`.

use std::io::IsTerminal;
use std::sync::Arc;

use lstore::registry::{Remote, RemoteOptions};
use lstore::{Durability, Events, Placement, Platform, PullOptions, Pulled, Reference, Store};

use super::args::PullArguments;
use super::context::{Context, now};
use crate::credentials;
use crate::exit::Exit;
use crate::global::RegistryArguments;
use crate::progress::{Mode, Progress};
use crate::report::Failure;

/// Layers that are read at the same time: enough to keep two processors and a network busy.
const PARALLEL: usize = 3;

pub(super) fn run(context: &Context, arguments: &PullArguments) -> Result<Exit, Failure> {
    let references = arguments.references.iter().map(|name| Reference::parse(name)).collect::<Result<Vec<_>, _>>()?;
    let durability = if arguments.sync { Durability::Synced } else { Durability::Consistent };
    let store = Arc::new(context.store(durability)?);
    let placement = store.placement(context.forced_placement())?;
    let events = progress(context);
    let mut output = context.output();
    for reference in &references {
        let pulled = pull(context, &store, reference, &arguments.registry, placement, &events)?;
        output.line(pulled.image.id.hex().as_str())?;
        output.flush()?;
        context.tell_lost(&pulled.lost);
    }
    Ok(Exit::SUCCESS)
}

fn pull(
    context: &Context,
    store: &Arc<Store>,
    reference: &Reference,
    registry: &RegistryArguments,
    placement: Placement,
    events: &Arc<dyn Events>,
) -> Result<Pulled, Failure> {
    install_tls();
    let files = context.environment.credential_files(registry.authfile.as_deref());
    let rate = match registry.min_rate {
        Some(rate) => rate,
        None => context.environment.minimum_rate()?,
    };
    let remote = RemoteOptions {
        insecure: !registry.tls_verify,
        credentials: Arc::new(move |reference| Ok(credentials::look_up(&files, reference)?)),
        proxies: context.environment.proxies()?,
        minimum_rate: rate.0,
    };
    let remote = Arc::new(Remote::new(reference, remote));
    let options = options(registry.platform().as_deref(), Some(placement), vec![reference.to_string()])?;
    // The threads begin here: the process is in its namespace by now.
    Ok(runtime()?.block_on(store.pull(&remote, reference, &options, events))?)
}

/// How to pull, from what was said.
///
/// # Errors
/// A platform that is none.
pub(super) fn options(
    platform: Option<&str>,
    placement: Option<Placement>,
    names: Vec<String>,
) -> Result<PullOptions, Failure> {
    let platform = platform.map_or_else(|| Ok(Platform::host()), Platform::parse)?;
    Ok(PullOptions { platform, placement, names, parallel: PARALLEL, now: now() })
}

/// The runtime that the network needs; two threads serve it, blocking work has its own.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// The display of a pull on standard error.
pub(super) fn progress(context: &Context) -> Arc<dyn Events> {
    let bars = context.environment.bars(std::io::stderr().is_terminal());
    Arc::new(Progress::new(Mode::choose(context.global.quiet, bars)))
}

/// Chooses the cryptography of TLS for the process.
fn install_tls() {
    // An error means that it was chosen before, by the pull of another reference.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
