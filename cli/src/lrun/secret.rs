//! `lrun secret`, and the secrets that containers are given.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lrun::secrets::{Given, LARGEST, Manner, Secret, SecretError, Secrets};
use lrun::spec::{SecretFile, Spec};
use serde_json::{Value, json};

use super::PROGRAM;
use super::args::{
    SecretArgument, SecretCommand, SecretCreateArguments, SecretInspectArguments, SecretListArguments,
    SecretRemoveArguments,
};
use super::make::label;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::output::{Format, Output, Table, ago, rfc3339};
use crate::report::{self, Failure};

fn secrets(store: &Path) -> Secrets {
    Secrets::within(store.join("secrets"))
}

/// The secrets of a command line, which must be there.
pub(super) fn wanted(arguments: &[SecretArgument], store: &Path) -> Result<Vec<Given>, Failure> {
    let given = |argument: &SecretArgument| {
        let Secret { id, name, .. } = secrets(store).find(&argument.name)?;
        let target = argument.target.clone().unwrap_or_else(|| name.clone());
        let manner = if argument.is_variable {
            Manner::Variable(target)
        } else {
            Manner::File { target: target.into(), uid: argument.uid, gid: argument.gid, mode: argument.mode }
        };
        Ok(Given { id, name, manner })
    };
    arguments.iter().map(given).collect()
}

/// Puts what a container is given into the wish for one start, which is not written down.
pub(super) fn reveal(given: &[Given], store: &Path, spec: &mut Spec) -> Result<(), Failure> {
    for one in given {
        let content = secrets(store).reveal(&one.id, &one.name)?;
        match &one.manner {
            Manner::Variable(name) => {
                let mut variable = format!("{name}=").into_bytes();
                // Variables end at a NUL.
                variable.extend(content.into_iter().take_while(|&byte| byte != 0));
                let prefix = format!("{name}=");
                spec.env.retain(|known| !known.as_bytes().starts_with(prefix.as_bytes()));
                spec.env.push(std::ffi::OsStr::from_bytes(&variable).to_owned());
            }
            Manner::File { target, uid, gid, mode } => {
                spec.secrets.push(SecretFile { target: target.clone(), uid: *uid, gid: *gid, mode: *mode, content });
            }
        }
    }
    Ok(())
}

pub(super) fn run(global: &Global, command: &SecretCommand) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let store = environment.store(global)?;
    match command {
        SecretCommand::Create(arguments) => create(&store, arguments, &environment),
        SecretCommand::Ls(arguments) => list(global, &store, arguments),
        SecretCommand::Inspect(arguments) => inspect(&store, arguments),
        SecretCommand::Rm(arguments) => remove(&store, arguments),
        SecretCommand::Exists(arguments) => match secrets(&store).find(&arguments.secret) {
            Ok(_) => Ok(Exit::SUCCESS),
            Err(SecretError::NotFound(_)) => Ok(Exit::FAILURE),
            Err(error) => Err(error.into()),
        },
    }
}

fn create(store: &Path, arguments: &SecretCreateArguments, environment: &Environment) -> Result<Exit, Failure> {
    let source = &arguments.source;
    let mut data = Vec::new();
    if arguments.env {
        let name = source.to_str().unwrap_or_default();
        let value = environment.get(name).ok_or_else(|| format!("--env: there is no variable {name:?}"))?;
        data = value.as_bytes().to_vec();
    } else {
        let input: Box<dyn Read> = if source == Path::new("-") {
            if std::io::stdin().is_terminal() {
                return Err(
                    "a secret does not come from a terminal, which would show it; give a file, or a pipe".into()
                );
            }
            Box::new(std::io::stdin())
        } else {
            Box::new(File::open(source).map_err(|error| format!("{}: {error}", source.display()))?)
        };
        // One more than is allowed, so that it is seen.
        input.take(LARGEST + 1).read_to_end(&mut data)?;
    }
    let labels = arguments.labels.iter().map(|text| label(text)).collect::<Result<_, _>>()?;
    // The store too, which may not be there yet.
    lstore::Store::open(store, lstore::Durability::Consistent)?;
    let secret = secrets(store).create(&arguments.name, labels, &data)?;
    writeln!(std::io::stdout(), "{}", secret.id)?;
    Ok(Exit::SUCCESS)
}

fn time(secret: &Secret) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(secret.created)
}

fn list(global: &Global, store: &Path, arguments: &SecretListArguments) -> Result<Exit, Failure> {
    let format = arguments.format.as_deref().map(Format::parse).transpose()?;
    let mut all = secrets(store).all();
    all.retain(|secret| {
        let holds = |(name, value): &(String, String)| match name.as_str() {
            "id" => secret.id.starts_with(value.as_str()),
            _ => secret.name.contains(value.as_str()),
        };
        arguments.filters.iter().all(holds)
    });
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, stdout.is_terminal());
    let now = SystemTime::now();
    match format {
        Some(format) => {
            let shown = |secret: &Secret| {
                let age = ago(time(secret), now);
                json!({ "ID": secret.id, "Name": secret.name, "Driver": "file", "CreatedAt": age, "UpdatedAt": age })
            };
            let titles = [("CreatedAt", "CREATED"), ("UpdatedAt", "UPDATED")];
            output.list(&all.iter().map(shown).collect::<Vec<_>>(), &format, &titles)?;
        }
        None if global.quiet => {
            for secret in &all {
                output.line(&secret.id)?;
            }
        }
        None => {
            let header = ["ID", "NAME", "DRIVER", "CREATED", "UPDATED"];
            let mut table = if arguments.noheading { Table::default() } else { Table::with_header(header) };
            for secret in &all {
                let age = ago(time(secret), now);
                table.row([secret.id.as_str(), &secret.name, "file", &age, &age]);
            }
            output.table(&table)?;
        }
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

fn inspect(store: &Path, arguments: &SecretInspectArguments) -> Result<Exit, Failure> {
    let format = arguments.format.as_deref().map(Format::parse).transpose()?;
    let mut values = Vec::new();
    for name in &arguments.secrets {
        let secret = secrets(store).find(name)?;
        let made = rfc3339(time(&secret));
        let mut value = json!({
            "ID": secret.id, "CreatedAt": made, "UpdatedAt": made,
            "Spec": { "Name": secret.name, "Driver": { "Name": "file", "Options": {} }, "Labels": secret.labels },
        });
        if arguments.showsecret {
            let data = secrets(store).reveal(&secret.id, &secret.name)?;
            value["SecretData"] = String::from_utf8_lossy(&data).into();
        }
        values.push(value);
    }
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, stdout.is_terminal());
    output.list(&values, &format.unwrap_or(Format::Json), &[])?;
    output.flush()?;
    Ok(Exit::SUCCESS)
}

fn remove(store: &Path, arguments: &SecretRemoveArguments) -> Result<Exit, Failure> {
    let secrets = secrets(store);
    let wanted: Vec<String> = if arguments.all {
        secrets.all().into_iter().map(|secret| secret.name).collect()
    } else {
        arguments.secrets.clone()
    };
    let mut exit = Exit::SUCCESS;
    for name in wanted {
        match secrets.find(&name).and_then(|secret| secrets.remove(&secret).map(|()| secret)) {
            Ok(secret) => writeln!(std::io::stdout(), "{}", secret.id)?,
            Err(SecretError::NotFound(_)) if arguments.ignore => {}
            Err(error) => {
                // The others are removed all the same.
                let _ = writeln!(std::io::stderr(), "{}", report::line(PROGRAM, &error));
                exit = Exit::RUNNER;
            }
        }
    }
    Ok(exit)
}

/// What `inspect` tells of those that a container is given: not what they are.
pub(super) fn told(given: &[Given]) -> Value {
    let one = |one: &Given| {
        let (uid, gid, mode) = match &one.manner {
            Manner::File { uid, gid, mode, .. } => (*uid, *gid, *mode),
            Manner::Variable(_) => (0, 0, 0),
        };
        json!({ "Name": one.name, "ID": one.id, "UID": uid, "GID": gid, "Mode": mode })
    };
    given.iter().map(one).collect()
}
