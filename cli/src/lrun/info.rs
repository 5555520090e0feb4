//! `lrun info`: what this machine allows a container, what is missing for more, and how it is had.

use std::path::Path;

use lrun::host::find_program;
use lrun::idmap::Shape;
use lrun::refusal::Obstacles;
use lrun::root_ids;
use lrun::spec::Program;
use lrun::state::random_id;
use lrun::sys::landlock;
use lrun::userns::{Maps, attempt, maps_of_caller};
use serde_json::json;

use super::folder::Folder;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::lstore::args::ReportArguments;
use crate::output::{Format, Output, Table};
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &ReportArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let host = lrun::Host::probe();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let works = if host.is_root {
        // A process that lacks power is told why no container starts, rather than that none is needed.
        Obstacles::probe().cause_for_root(nix::libc::EPERM).unwrap_or("work").to_owned()
    } else {
        attempt().map_or_else(|error| error.to_string(), |()| "work".to_owned())
    };
    let line = |maps: &Maps| maps.users.to_string().trim().replace('\n', ", ");
    let ids = if host.is_root {
        match root_ids::attempt(&store) {
            Ok(maps) => line(&maps),
            Err(lrun::Error::Unmapped(why)) => {
                let around = read("/proc/self/uid_map").unwrap_or_default();
                let around = around.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
                let whose = match around.as_str() {
                    "" | "0 0 4294967295" => "the host's (run by root)".to_owned(),
                    map => format!("those of the namespace around, {map}"),
                };
                format!("{whose}: {why}")
            }
            Err(error) => return Err(error.into()),
        }
    } else {
        maps_of_caller(Shape::Auto).map_or_else(|error| format!("yours alone: {error}"), |maps| line(&maps))
    };
    let helpers = ["newuidmap", "newgidmap"].map(|name| find_program(name).is_some());
    let helpers = if helpers == [true, true] { "installed" } else { "missing: install the package uidmap" };
    let namespaces = read("/proc/sys/user/max_user_namespaces").unwrap_or_else(|| "unknown".to_owned());
    let (apparmor, selinux) = (apparmor(), selinux());
    let landlock = landlock::version().map_or_else(|error| error.to_string(), |version| format!("version {version}"));
    let (cgroups, nested) = (cgroups(), nested());
    let (root, uplinks) = (root(&store), uplinks());
    let value = json!({
        "Version": env!("CARGO_PKG_VERSION"), "Kernel": kernel, "Root": host.is_root, "UserNamespaces": works, "Ids": ids,
        "IdHelpers": helpers, "MaxUserNamespaces": namespaces, "AppArmor": apparmor, "SELinux": selinux,
        "Landlock": landlock, "Cgroups": cgroups, "Uplinks": uplinks, "Nested": nested, "Store": store,
        "RootFilesystem": root, "LastCapability": host.last_capability,
    });
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, std::io::IsTerminal::is_terminal(&stdout));
    if let Some(format) = &arguments.output.format {
        output.item(&value, &Format::parse(format)?)?;
    } else {
        let mut table = Table::with_header(["", ""]);
        for (name, text) in [
            ("lrun", env!("CARGO_PKG_VERSION")),
            ("kernel", &kernel),
            ("user namespaces", &works),
            ("at most", &namespaces),
            ("ids", &ids),
            ("id helpers", helpers),
            ("AppArmor", &apparmor),
            ("SELinux", selinux),
            ("Landlock", &landlock),
            ("cgroups", cgroups),
            ("ways out", &told(&uplinks)),
            ("nested", nested),
            ("store", &store.to_string_lossy()),
            ("root files", &root),
        ] {
            table.row([name, text]);
        }
        output.table(&table)?;
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

/// The programs that give a container a way out, of those that are known.
fn uplinks() -> Vec<&'static str> {
    [Program::Pasta, Program::Slirp4netns]
        .into_iter()
        .filter(|known| known.find().is_some())
        .map(Program::name)
        .collect()
}

fn told(uplinks: &[&str]) -> String {
    match uplinks {
        [] => "none but the host's network: install the package passt for --network pasta".to_owned(),
        found => format!("by {}", found.join(" and ")),
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn apparmor() -> String {
    let Some(label) = lrun::refusal::apparmor_label() else { return "not there".to_owned() };
    if label != "unconfined" && !label.is_empty() {
        return format!("this program has the profile {label}");
    }
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return "withholds power in user namespaces from programs without a profile; `lrun apparmor` prints one"
            .to_owned();
    }
    "does not restrict user namespaces; --security-opt apparmor=PROFILE confines a container".to_owned()
}

fn selinux() -> &'static str {
    match read("/sys/fs/selinux/enforce").as_deref() {
        Some("1") => "enforces; --security-opt label=type:TYPE and the like label a container",
        Some(_) => "permissive",
        None => "not there",
    }
}

fn cgroups() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "version 2; limits need a systemd of yours, or a group that you may make groups in"
    } else {
        "version 1, which cannot be delegated; limits are refused"
    }
}

/// What a container's root file system is, by trying.
fn root(store: &Path) -> String {
    match lstore::Store::open_existing(store) {
        Err(lstore::Error::NoStore(_)) => return "no store yet; the first pull makes it".to_owned(),
        Err(error) => return format!("not to be told: {error}"),
        Ok(_) => {}
    }
    let tried = random_id().map_err(Failure::from).and_then(|name| {
        let folder = Folder::make(store, &name, true)?;
        let tried = lrun::own::attempt(&folder.path());
        let _ = lstore::remove_tree(&folder.path());
        Ok(tried?)
    });
    match tried {
        Ok(None) => "an overlay above the image's; `lstore info` tells by what placement".to_owned(),
        Ok(Some(reason)) => {
            format!(
                "a copy of the image's, for each container its own, as the kernel refuses an overlay here: {reason}"
            )
        }
        Err(failure) => format!("not to be told: {}", failure.error),
    }
}

fn nested() -> &'static str {
    let marks = ["/run/.containerenv", "/.dockerenv"];
    if !marks.iter().any(|mark| Path::new(mark).exists()) {
        return "no";
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|target| target.starts_with("/proc/"))) {
        "inside a container, which covers parts of /proc: unless you are its root, containers are given that /proc and /sys"
    } else {
        "inside a container"
    }
}
