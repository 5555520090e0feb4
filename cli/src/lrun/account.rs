//! Lines of `/etc/passwd` and `/etc/group` for a user whom the image does not know, as podman makes them.

use std::path::Path;

use lrun::spec::Account;

use super::args::{RunArguments, UserNamespaceArgument};
use crate::bridge::shape;
use crate::report::Failure;

/// What a line may hold.
struct Words {
    name: String,
    full_name: String,
    uid: u32,
    gid: u32,
    group: String,
    home: String,
}

/// The lines for `user`, which is as [`lrun::Spec::user`] has it; none for a user by name, whom only the image knows.
///
/// # Errors
/// A line that would not be one.
pub fn of(arguments: &RunArguments, user: &str, cwd: &Path) -> Result<Option<Account>, Failure> {
    if !arguments.passwd {
        return Ok(None);
    }
    let (user, group) = user.split_once(':').unwrap_or((user, "0"));
    let (Ok(uid), Ok(gid)) = (user.parse(), group.parse()) else { return Ok(None) };
    if uid == 0 {
        return Ok(None);
    }
    let keeps_caller = matches!(arguments.userns, UserNamespaceArgument::KeepId { .. })
        && shape(arguments).caller() == (uid, gid)
        && arguments.user.is_none();
    let mut words = Words {
        name: uid.to_string(),
        full_name: "container user".to_owned(),
        uid,
        gid,
        group: gid.to_string(),
        home: cwd.to_string_lossy().into_owned(),
    };
    if keeps_caller {
        words.be_caller(arguments);
    }
    let line = |flag, template: Option<&String>, default: String| match template {
        Some(template) => words.fill(flag, template),
        None => Ok(default),
    };
    let Words { name, full_name, group, home, .. } = &words;
    let passwd = format!("{name}:*:{uid}:{gid}:{full_name}:{home}:/bin/sh");
    let group = format!("{group}:x:{gid}:{name}");
    Ok(Some(Account {
        uid,
        gid,
        passwd: line("--passwd-entry", arguments.passwd_entry.as_ref(), passwd)?,
        group: line("--group-entry", arguments.group_entry.as_ref(), group)?,
    }))
}

impl Words {
    /// Takes the caller's names of this machine, and its home where that is mounted.
    fn be_caller(&mut self, arguments: &RunArguments) {
        let fields = |file: &str, id: u32| -> Option<Vec<String>> {
            let text = std::fs::read_to_string(file).ok()?;
            let mut lines = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
            lines.find(|fields| fields.get(2).is_some_and(|field| *field == id.to_string()))
        };
        if let Some(own) = fields("/etc/passwd", rustix::process::getuid().as_raw()) {
            self.name.clone_from(&own[0]);
            self.full_name = own.get(4).cloned().unwrap_or_default();
            let home = own.get(5).map(Path::new).filter(|home| home.is_absolute() && *home != Path::new("/"));
            let is_mounted = |home: &&Path| {
                let targets = arguments.volumes.iter().filter_map(|volume| volume.split(':').nth(1));
                targets.into_iter().any(|target| home.starts_with(target))
            };
            if let Some(home) = home.filter(is_mounted) {
                self.home = home.to_string_lossy().into_owned();
            }
        }
        if let Some(own) = fields("/etc/group", rustix::process::getgid().as_raw()) {
            self.group.clone_from(&own[0]);
        }
    }

    /// A line by the caller's template, with podman's variables.
    fn fill(&self, flag: &str, template: &str) -> Result<String, Failure> {
        let line = template
            .replace("$USERNAME", &self.name)
            .replace("$GROUPNAME", &self.group)
            .replace("$UID", &self.uid.to_string())
            .replace("$GID", &self.gid.to_string())
            .replace("$NAME", &self.full_name)
            .replace("$HOME", &self.home);
        if line.contains('\n') || !line.contains(':') {
            return Err(format!("{flag} {line:?}: not one line of fields with colons between").into());
        }
        Ok(line)
    }
}
