//! The variables of a container: the image's, the caller's, and a few of the runner's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lstore::manifest::RunConfig;

use super::args::RunArguments;
use crate::env::Environment;
use crate::report::Failure;
use crate::volume;

/// PATH where neither image nor caller has one.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The variable by which a program knows that it is in a container.
const CONTAINER: &str = "container=lrun";
/// TERM of a container's terminal.
const TERM: &str = "TERM=xterm";
/// What `--http-proxy` is about; each also in capitals.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// All variables of a container to be; what comes later in podman's order stands above the rest: the host's, its proxies, the
/// image's, files, those that are named.
///
/// # Errors
/// A name that is none, a file that cannot be read, a change of what is not there.
pub fn of(
    arguments: &RunArguments,
    config: &RunConfig,
    environment: &Environment,
    hostname: &str,
) -> Result<Vec<OsString>, Failure> {
    let said = &arguments.variables;
    let mut variables: Vec<OsString> = Vec::new();
    let is_wanted =
        |name: &OsStr| said.env_host || said.http_proxy && PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy));
    if said.env_host || said.http_proxy {
        for (name, value) in environment.iter().filter(|(name, _)| is_wanted(name)) {
            set(&mut variables, &joined(name, value));
        }
    }
    for own in [CONTAINER, &format!("HOSTNAME={hostname}")].into_iter().chain(arguments.tty.then_some(TERM)) {
        set(&mut variables, OsStr::new(own));
    }
    if value(&variables, "PATH").is_none() {
        variables.push(PATH.into());
    }
    for variable in &config.env {
        set(&mut variables, OsStr::new(variable));
    }
    for (name, text) in &said.env_merge {
        if value(&variables, name).is_none() {
            return Err(format!("--env-merge {name}: the image has no such variable; give -e {name}=VALUE").into());
        }
        let merged = expanded(text.as_bytes(), |name| value(&variables, name).unwrap_or_default());
        set(&mut variables, &joined(OsStr::new(name), OsStr::from_bytes(&merged)));
    }
    variables.retain(|variable| !said.unsetenv_all && !said.unsetenv.iter().any(|name| named(variable, name)));
    add(&mut variables, &arguments.env_file, &arguments.env, environment)?;
    Ok(variables)
}

/// Sets the variables of `--env-file` and `--env`, as both commands have them.
///
/// # Errors
/// A name that is none, a file that cannot be read.
pub fn add(
    variables: &mut Vec<OsString>,
    files: &[PathBuf],
    said: &[OsString],
    environment: &Environment,
) -> Result<(), Failure> {
    for (name, value) in volume::variables(files, said, environment, |path| std::fs::read(path))? {
        set(variables, &joined(&name, &value));
    }
    Ok(())
}

/// Whether a variable is of this container rather than of what runs in it.
pub fn is_own(variable: &str) -> bool {
    [CONTAINER, TERM].contains(&variable) || variable.starts_with("HOSTNAME=")
}

/// Sets a variable, in place of one of the same name: each is there once.
pub fn set(variables: &mut Vec<OsString>, variable: &OsStr) {
    let name = |variable: &OsStr| variable.as_bytes().split(|&byte| byte == b'=').next().unwrap_or_default().to_vec();
    let wanted = name(variable);
    match variables.iter_mut().find(|present| name(present) == wanted) {
        Some(present) => variable.clone_into(present),
        None => variables.push(variable.to_owned()),
    }
}

fn joined(name: &OsStr, value: &OsStr) -> OsString {
    let mut variable = name.to_owned();
    variable.push("=");
    variable.push(value);
    variable
}

fn named(variable: &OsStr, name: &str) -> bool {
    variable.as_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

fn value(variables: &[OsString], name: &str) -> Option<Vec<u8>> {
    let variable = variables.iter().find(|variable| named(variable, name))?;
    Some(variable.as_bytes()[name.len() + 1..].to_vec())
}

/// A text with `$NAME` and `${NAME}` replaced by what they hold; another `$` is itself.
fn expanded(text: &[u8], value: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let mut made = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'$') {
        made.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let is_braced = rest.starts_with(b"{");
        let begin = usize::from(is_braced);
        let is_name = |&byte: &u8| byte == b'_' || byte.is_ascii_alphanumeric();
        let end = begin + rest[begin..].iter().take_while(|byte| is_name(byte)).count();
        let closed = !is_braced || rest.get(end) == Some(&b'}');
        match std::str::from_utf8(&rest[begin..end]) {
            Ok(name) if closed && name.starts_with(|first: char| !first.is_ascii_digit()) => {
                made.extend_from_slice(&value(name));
                rest = &rest[end + begin..];
            }
            _ => made.push(b'$'),
        }
    }
    made.extend_from_slice(rest);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lrun::args::VariableArguments;

    fn variables(said: VariableArguments, env: &[&str]) -> Result<Vec<OsString>, Failure> {
        let env = env.iter().map(OsString::from).collect();
        let arguments = RunArguments { variables: said, env, ..RunArguments::default() };
        let config = RunConfig { env: vec!["PATH=/image".to_owned(), "A=image".to_owned()], ..RunConfig::default() };
        let host = [("B", "host"), ("A", "host"), ("HTTP_PROXY", "p"), ("no_proxy", "q"), ("HOSTNAME", "host")];
        of(&arguments, &config, &Environment::from_iter(host), "box")
    }

    #[test]
    fn the_hosts_stand_below_the_images_and_what_is_left_out_can_be_named_anew() {
        let all = variables(VariableArguments { env_host: true, ..Default::default() }, &[]).unwrap();
        assert_eq!(
            all,
            ["B=host", "A=image", "HTTP_PROXY=p", "no_proxy=q", "HOSTNAME=box", "container=lrun", "PATH=/image"]
        );
        let proxies = variables(VariableArguments { http_proxy: true, ..Default::default() }, &[]).unwrap();
        assert_eq!(proxies, ["HTTP_PROXY=p", "no_proxy=q", "container=lrun", "HOSTNAME=box", "PATH=/image", "A=image"]);
        let said = VariableArguments { unsetenv: vec!["A".to_owned(), "container".to_owned()], ..Default::default() };
        assert_eq!(variables(said, &[]).unwrap(), ["HOSTNAME=box", "PATH=/image"]);
        let said = VariableArguments { unsetenv_all: true, ..Default::default() };
        assert_eq!(variables(said, &["A=mine"]).unwrap(), ["A=mine"]);
    }

    #[test]
    fn a_variable_of_the_image_is_changed_by_what_it_holds() {
        let merge = |name: &str, value: &str| VariableArguments {
            env_merge: vec![(name.to_owned(), value.to_owned())],
            ..Default::default()
        };
        let path = variables(merge("PATH", "${PATH}:$A:$$5${NONE}${"), &[]).unwrap();
        assert!(path.contains(&"PATH=/image:image:$$5${".into()), "{path:?}");
        assert!(variables(merge("NEW", "x"), &[]).is_err());
    }
}
