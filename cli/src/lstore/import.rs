//! `lstore import`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use lstore::blob::decompress;
use lstore::registry::{Archive, Kind, Layout, Registry};
use lstore::{Durability, ImportConfig, PullOptions, Pulled, Reference, Store};
use serde_json::{Map, Value, json};

use super::args::ImportArguments;
use super::change::Change;
use super::context::{Context, print};
use super::pull::{options, progress, runtime};
use crate::exit::Exit;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &ImportArguments) -> Result<Exit, Failure> {
    let name = arguments.name.as_deref().map(Reference::parse).transpose()?;
    let path = &arguments.path;
    let describe = |error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
    let durability = if arguments.sync { Durability::Synced } else { Durability::Consistent };
    let is_stdin = path.as_os_str() == "-";
    let is_layout = !is_stdin && std::fs::metadata(path).map_err(|error| describe(&error))?.is_dir();

    let store = Arc::new(context.store(durability)?);
    let placement = store.placement(context.forced_placement())?;
    let names = name.iter().map(ToString::to_string).collect();
    let mut options = options(arguments.platform.as_deref(), Some(placement), names)?;
    let pulled = if is_layout {
        let layout = Layout::open(path)?;
        let wanted = wanted(name.as_ref(), &layout.names(), &mut options)?;
        pull(context, &store, layout, &wanted, &options)?
    } else {
        let file = if is_stdin {
            spool(&store, &mut std::io::stdin())?
        } else {
            plain(&store, File::open(path).map_err(|error| describe(&error))?)?
        };
        match Archive::detect(file.try_clone()?).map_err(|error| describe(&error))? {
            Kind::Images(archive) => {
                let wanted = wanted(name.as_ref(), &archive.names(), &mut options)?;
                pull(context, &store, archive, &wanted, &options)?
            }
            Kind::RootFilesystem => {
                let mut file = file;
                file.seek(SeekFrom::Start(0))?;
                let config = ImportConfig {
                    config: config(&arguments.changes),
                    comment: format!(
                        "imported from {}",
                        if is_stdin { "standard input".into() } else { path.display().to_string() }
                    ),
                    created: Some(crate::output::rfc3339(std::time::SystemTime::now())),
                };
                store.import(&mut file, &config, &options, progress(context).as_ref())?
            }
        }
    };
    let id = pulled.image.id.hex();
    let value = json!({ "Id": id, "Names": pulled.image.names, "Size": pulled.image.logical });
    print(context, arguments.output.format.as_deref(), &value, |output| output.line(&id))?;
    context.tell_lost(&pulled.lost);
    Ok(Exit::SUCCESS)
}

/// The reference to look for in an archive; the names to give are the caller's, else the archive's own.
fn wanted(name: Option<&Reference>, archived: &[String], options: &mut PullOptions) -> Result<Reference, Failure> {
    if let Some(name) = name {
        return Ok(name.clone());
    }
    // A layout may name an image by its tag alone, which is no name to keep.
    let full = archived.iter().filter(|name| name.contains([':', '/']));
    let references: Vec<Reference> = full.filter_map(|name| Reference::parse(name).ok()).collect();
    options.names = references.iter().map(ToString::to_string).collect();
    Ok(references.into_iter().next().map_or_else(|| Reference::parse("localhost/imported"), Ok)?)
}

fn pull<R: Registry + Send + Sync + 'static>(
    context: &Context,
    store: &Arc<Store>,
    registry: R,
    reference: &Reference,
    options: &PullOptions,
) -> Result<Pulled, Failure> {
    let events = progress(context);
    Ok(runtime()?.block_on(store.pull(&Arc::new(registry), reference, options, &events))?)
}

/// An archive that can be read in place: as it is, or decompressed into a nameless file.
fn plain(store: &Store, mut file: File) -> Result<File, Failure> {
    let mut first = [0; 512];
    let is_tar = file.read(&mut first)? == first.len() && &first[257..262] == b"ustar";
    file.seek(SeekFrom::Start(0))?;
    if is_tar && file.metadata()?.is_file() { Ok(file) } else { spool(store, &mut file) }
}

/// Writes a stream, decompressed, into a nameless file of the store.
fn spool(store: &Store, input: &mut dyn Read) -> Result<File, Failure> {
    let mut raw = store.scratch_file()?;
    std::io::copy(input, &mut raw)?;
    raw.seek(SeekFrom::Start(0))?;
    let mut spooled = store.scratch_file()?;
    std::io::copy(&mut decompress::sniffed(raw)?, &mut spooled)?;
    spooled.seek(SeekFrom::Start(0))?;
    Ok(spooled)
}

/// The fields of an image's configuration that changes are about.
pub(super) fn config(changes: &[Change]) -> Map<String, Value> {
    let mut config = Map::new();
    for change in changes {
        match change {
            Change::Cmd(words) => {
                config.insert("Cmd".to_owned(), json!(words));
            }
            Change::Entrypoint(words) => {
                config.insert("Entrypoint".to_owned(), json!(words));
            }
            Change::User(user) => {
                config.insert("User".to_owned(), json!(user));
            }
            Change::WorkingDirectory(directory) => {
                config.insert("WorkingDir".to_owned(), json!(directory));
            }
            Change::Volume(paths) => {
                for path in paths {
                    config.entry("Volumes").or_insert_with(|| json!({}))[path] = json!({});
                }
            }
            Change::Expose(ports) => {
                for port in ports {
                    let port = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
                    config.entry("ExposedPorts").or_insert_with(|| json!({}))[port] = json!({});
                }
            }
            Change::StopSignal(signal) => {
                config.insert("StopSignal".to_owned(), json!(signal));
            }
            Change::Env(name, value) => {
                let list = config.entry("Env").or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.push(json!(format!("{name}={value}")));
                }
            }
            Change::Label(name, value) => {
                config.entry("Labels").or_insert_with(|| json!({}))[name] = json!(value);
            }
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_become_the_config() {
        let change = |text: &str| text.parse::<Change>().unwrap();
        let config = config(&[change("CMD [\"/bin/sh\"]"), change("ENV A=1"), change("ENV B=2"), change("LABEL x=y")]);
        assert_eq!(Value::Object(config), json!({ "Cmd": ["/bin/sh"], "Env": ["A=1", "B=2"], "Labels": { "x": "y" } }));
    }

    #[test]
    fn the_archives_own_names_are_kept_unless_one_is_given() {
        let mut options = options(None, None, vec![]).unwrap();
        let archived = ["app:1".to_owned(), "latest".to_owned()];
        let reference = wanted(None, &archived, &mut options).unwrap();
        assert_eq!(reference.to_string(), "docker.io/library/app:1");
        assert_eq!(options.names, ["docker.io/library/app:1"]);
    }
}
