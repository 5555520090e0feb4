//! The one file that knows both libraries: an image, its checkout and the flags become the runner's spec and root.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lrun::Rootfs;
use lrun::spec::{Mount, MountKind, Network, Propagation, Seccomp, Spec, UserNamespace};
use lstore::Checkout;
use lstore::manifest::RunConfig;

use crate::capability;
use crate::env::Environment;
use crate::lrun::args::{NetworkArgument, RunArguments, UserNamespaceArgument};
use crate::lrun::security::{SeccompOption, SecurityOptions, Unmask};
use crate::report::Failure;
use crate::volume;

/// PATH where neither image nor caller has one.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// TERM of a container's terminal.
const TERM: &str = "TERM=xterm";

/// Puts the wish together: what the image says, overridden by what the caller says.
///
/// # Errors
/// Flags that mean nothing, files that cannot be read.
pub fn spec(
    arguments: &RunArguments,
    config: &RunConfig,
    name: &str,
    environment: &Environment,
) -> Result<Spec, Failure> {
    let security = SecurityOptions::parse(&arguments.security)?;
    let last = lrun::Host::probe().last_capability;
    let known = u64::MAX >> (63 - last.min(63));
    let capabilities = capability::resolve(&arguments.cap_add, &arguments.cap_drop)? & known;
    let hostname = arguments.hostname.clone().unwrap_or_else(|| name.to_owned());
    let network = match arguments.network {
        NetworkArgument::Host => Network::Host,
        NetworkArgument::None => Network::None,
    };
    let working_dir = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    Ok(Spec {
        args: words(arguments, config),
        env: variables(arguments, config, environment, &hostname)?,
        cwd: Path::new("/").join(arguments.workdir.clone().unwrap_or_else(|| working_dir.into())),
        user: user(arguments, config),
        network,
        user_namespace: match arguments.userns {
            UserNamespaceArgument::Auto => UserNamespace::Own(lrun::idmap::Shape::Auto),
            UserNamespaceArgument::Host => UserNamespace::Host,
            UserNamespaceArgument::KeepId => UserNamespace::Own(lrun::idmap::Shape::KeepId),
        },
        capabilities,
        granted: capability::named(&arguments.cap_add)? & capabilities,
        no_new_privileges: security.no_new_privileges,
        seccomp: seccomp(&security.seccomp, capabilities)?,
        mounts: mounts(arguments)?,
        unmask: match security.unmask {
            Unmask::All => vec![PathBuf::from("ALL")],
            Unmask::Paths(paths) => paths,
        },
        read_only: arguments.read_only,
        terminal: arguments.tty,
        interactive: arguments.interactive,
        init: arguments.init,
        ephemeral: arguments.rm,
        files: files(&hostname, network),
        hostname,
    })
}

/// The container's root: the checkout, with changes in the container's own folder.
pub fn overlay(store: &Path, checkout: &Checkout, folder: &Path) -> Rootfs {
    Rootfs::Overlay {
        lower: store.join("trees").join(checkout.id.to_string()).join("root"),
        data: checkout.data().map(|_| store.join("objects")),
        upper: folder.join("upper"),
        work: folder.join("work"),
        // In the container's own mounts, and there for a moment: what it hides was opened before.
        mountpoint: folder.to_path_buf(),
    }
}

/// With `keep-id` the caller stays who it is, unless it is told otherwise.
fn user(arguments: &RunArguments, config: &RunConfig) -> String {
    match (&arguments.user, arguments.userns) {
        (Some(user), _) => user.clone(),
        (None, UserNamespaceArgument::KeepId) => {
            format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
        }
        (None, _) => config.user.clone(),
    }
}

/// Entrypoint and command. A new entrypoint drops the image's command too, as podman has it.
fn words(arguments: &RunArguments, config: &RunConfig) -> Vec<OsString> {
    let own = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let said = arguments.command().to_vec();
    if let Some(mut entrypoint) = arguments.entrypoint() {
        entrypoint.extend(said);
        entrypoint
    } else {
        let mut words = own(&config.entrypoint);
        words.extend(if said.is_empty() { own(&config.cmd) } else { said });
        words
    }
}

fn variables(
    arguments: &RunArguments,
    config: &RunConfig,
    environment: &Environment,
    hostname: &str,
) -> Result<Vec<OsString>, Failure> {
    let mut variables: Vec<OsString> = vec!["container=lrun".into(), format!("HOSTNAME={hostname}").into()];
    if arguments.tty {
        variables.push(TERM.into());
    }
    variables.push(PATH.into());
    for variable in &config.env {
        set(&mut variables, OsStr::new(variable));
    }
    add_variables(&mut variables, &arguments.env_file, &arguments.env, environment)?;
    Ok(variables)
}

/// Sets the variables of `--env-file` and `--env`, as both commands have them.
pub fn add_variables(
    variables: &mut Vec<OsString>,
    files: &[PathBuf],
    said: &[OsString],
    environment: &Environment,
) -> Result<(), Failure> {
    for (name, value) in volume::variables(files, said, environment, |path| std::fs::read(path))? {
        let mut variable = name;
        variable.push("=");
        variable.push(value);
        set(variables, &variable);
    }
    Ok(())
}

/// Sets a variable, in place of one of the same name: each is there once.
fn set(variables: &mut Vec<OsString>, variable: &OsStr) {
    let name = |variable: &OsStr| variable.as_bytes().split(|&byte| byte == b'=').next().unwrap_or_default().to_vec();
    let wanted = name(variable);
    match variables.iter_mut().find(|present| name(present) == wanted) {
        Some(present) => variable.clone_into(present),
        None => variables.push(variable.to_owned()),
    }
}

fn seccomp(option: &SeccompOption, kept: u64) -> Result<Seccomp, Failure> {
    use lrun::seccomp::{NATIVE, compile, oci};
    let SeccompOption::Profile(path) = option else {
        return Ok(if *option == SeccompOption::Unconfined { Seccomp::Unconfined } else { Seccomp::Default });
    };
    let cannot = |error: &dyn std::fmt::Display| Failure::from(format!("seccomp profile {}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| cannot(&error))?;
    let uname = rustix::system::uname();
    let kernel = uname.release().to_str().ok().and_then(oci::KernelVersion::parse);
    let kernel = kernel.ok_or("the kernel does not tell its version in a known form")?;
    let parsed = oci::parse(&bytes, NATIVE, kernel).map_err(|error| cannot(&error))?;
    Ok(Seccomp::Program(compile(&parsed.profile, NATIVE, kept)?))
}

fn mounts(arguments: &RunArguments) -> Result<Vec<Mount>, Failure> {
    let parsed = volume::mounts(&arguments.volumes, &arguments.mounts, &arguments.tmpfs)?;
    parsed.into_iter().map(mount).collect()
}

fn mount(mount: volume::Mount) -> Result<Mount, Failure> {
    use volume::Propagation as Said;
    let volume::Mount { kind, target, read_only, nosuid, nodev, noexec } = mount;
    let kind = match kind {
        volume::MountKind::Tmpfs { size, mode } => MountKind::Tmpfs { size, mode: mode.unwrap_or(0o1777) },
        volume::MountKind::Bind { source, recursive, propagation, relabel } => {
            if relabel && Path::new("/sys/fs/selinux/enforce").exists() {
                return Err(format!(
                    "{}: labels are not changed; leave out z and Z, or run chcon before",
                    source.display()
                )
                .into());
            }
            let source = std::path::absolute(&source)?;
            if !source.exists() {
                return Err(format!("{}: no such file or directory to bind; make it first", source.display()).into());
            }
            let propagation = match propagation {
                Said::Private | Said::RecursivePrivate | Said::Unbindable | Said::RecursiveUnbindable => {
                    Propagation::Private
                }
                Said::Slave | Said::RecursiveSlave => Propagation::Slave,
                Said::Shared | Said::RecursiveShared => Propagation::Shared,
            };
            MountKind::Bind { source, recursive, propagation }
        }
    };
    Ok(Mount { kind, target, read_only, nosuid, nodev, noexec })
}

/// The files that a container finds in /etc besides those of its image; made for each start.
pub fn files(hostname: &str, network: Network) -> Vec<(PathBuf, Vec<u8>)> {
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if network == Network::Host
        && let Ok(own) = std::fs::read_to_string("/etc/hosts")
    {
        hosts = own;
    }
    hosts = format!("{hosts}127.0.1.1\t{hostname}\n");
    let mut files = vec![
        (PathBuf::from("/etc/hosts"), hosts.into_bytes()),
        (PathBuf::from("/etc/hostname"), format!("{hostname}\n").into_bytes()),
        (PathBuf::from("/run/.containerenv"), Vec::new()),
    ];
    if network == Network::Host
        && let Ok(resolver) = std::fs::read("/etc/resolv.conf")
    {
        files.push((PathBuf::from("/etc/resolv.conf"), resolver));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lrun::args::{Lrun, LrunCommand, with_command};
    use clap::Parser;

    fn arguments(words: &[&str]) -> RunArguments {
        let words = std::iter::once("lrun").chain(words.iter().copied()).map(OsString::from);
        match Lrun::parse_from(with_command(words)).command {
            LrunCommand::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    fn config() -> RunConfig {
        RunConfig {
            env: vec!["PATH=/image".to_owned(), "A=image".to_owned()],
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["default".to_owned()],
            working_dir: "/work".to_owned(),
            user: "bob".to_owned(),
            ..RunConfig::default()
        }
    }

    fn wish(words: &[&str]) -> Spec {
        spec(&arguments(words), &config(), "name", &Environment::from_iter([("B", "host")])).unwrap()
    }

    #[test]
    fn the_image_says_what_to_run_and_the_caller_overrides() {
        assert_eq!(wish(&["i"]).args, ["/entry", "default"]);
        assert_eq!(wish(&["i", "x", "y"]).args, ["/entry", "x", "y"]);
        assert_eq!(wish(&["--entrypoint", "/other", "i"]).args, ["/other"]);
        assert_eq!(wish(&["--entrypoint", "", "i", "x"]).args, ["x"]);
        assert_eq!((wish(&["i"]).cwd, wish(&["i"]).user), ("/work".into(), "bob".to_owned()));
        assert_eq!(wish(&["-w", "/w", "-u", "0", "i"]).cwd, Path::new("/w"));
    }

    #[test]
    fn each_variable_is_there_once_and_the_last_word_wins() {
        let env = wish(&["-e", "A=1", "-e", "B", "-e", "A=2", "i"]).env;
        let of = |name: &str| env.iter().filter(|v| v.as_bytes().starts_with(name.as_bytes())).collect::<Vec<_>>();
        assert_eq!(of("A="), ["A=2"]);
        assert_eq!(of("B="), ["B=host"]);
        assert_eq!(of("PATH="), ["PATH=/image"]);
        assert_eq!(of("HOSTNAME="), ["HOSTNAME=name"]);
    }

    #[test]
    fn a_bind_of_nothing_is_refused() {
        let refused = spec(
            &arguments(&["-v", "/does/not/exist:/x", "i"]),
            &config(),
            "n",
            &Environment::from_iter([("", ""); 0]),
        );
        assert!(refused.unwrap_err().error.to_string().contains("no such file"));
    }
}
