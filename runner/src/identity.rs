//! Who the command runs as: looked up in the image's own files, never through the host's name services.

use std::io;
use std::path::Path;

use crate::spec::Account;
use crate::target::Root;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Largest passwd or group file that is read.
const LARGEST: u64 = 16 << 20;
/// Ids above it are refused: tools that hold ids in signed numbers would take them for others.
const LARGEST_ID: u32 = i32::MAX.cast_unsigned();

/// A user inside of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Further groups.
    pub(crate) groups: Vec<u32>,
    /// Home directory, where the image knows the user.
    pub(crate) home: Option<String>,
}

/// Looks up `USER`, `UID`, `USER:GROUP` …; empty is root.
///
/// `further` are groups besides, which the command has in any case. A user that is not root has its own group among them.
pub(crate) fn look_up(root: &Root, text: &str, further: &[String]) -> io::Result<Identity> {
    let passwd = root.read(Path::new(PASSWD), LARGEST)?.unwrap_or_default();
    let group = root.read(Path::new(GROUP), LARGEST)?.unwrap_or_default();
    let group = String::from_utf8_lossy(&group);
    let mut identity = resolve(text, &String::from_utf8_lossy(&passwd), &group)?;
    for wanted in further {
        let id = group_id(wanted, &group)?;
        if !identity.groups.contains(&id) {
            identity.groups.push(id);
        }
    }
    // A set-group-id program changes the group of its process. Without its own among the further ones the user could so
    // leave a group to which a file's mode gives less than to all others (CVE-2022-2989).
    if identity.uid != 0 && !identity.groups.contains(&identity.gid) {
        identity.groups.insert(0, identity.gid);
    }
    Ok(identity)
}

/// Gives a user that the image does not know its lines.
pub(crate) fn enter(root: &Root, account: &Account) -> io::Result<()> {
    for (path, id, line) in [(PASSWD, account.uid, &account.passwd), (GROUP, account.gid, &account.group)] {
        let mut text = root.read(Path::new(path), LARGEST)?.unwrap_or_default();
        let is_known =
            String::from_utf8_lossy(&text).lines().any(|line| line.split(':').nth(2).and_then(decimal) == Some(id));
        if is_known {
            continue;
        }
        if text.last().is_some_and(|&last| last != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
        root.write(Path::new(path), &text)?;
    }
    Ok(())
}

fn resolve(text: &str, passwd: &str, group: &str) -> io::Result<Identity> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = number(user)?;
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| match number {
        // A number is an id even where a user has that name: an image must not turn 1000 into root.
        Some(id) => fields.get(2).and_then(|field| decimal(field)) == Some(id),
        None => fields.first() == Some(&user),
    });
    let field = |index: usize| entry.as_ref().and_then(|fields| fields.get(index)).copied();
    let id = |index: usize| field(index).and_then(decimal);
    let uid = number.or_else(|| id(2)).ok_or_else(|| unknown("user", user, "/etc/passwd"))?;
    let gid = match wanted_group.filter(|group| !group.is_empty()) {
        Some(wanted) => group_id(wanted, group)?,
        None => id(3).unwrap_or(0),
    };
    let name = field(0).unwrap_or_default();
    // An explicit group stands alone, as for podman and docker.
    let groups = if wanted_group.is_some() || name.is_empty() { Vec::new() } else { memberships(name, group) };
    Ok(Identity { uid, gid, groups, home: field(5).filter(|home| !home.is_empty()).map(str::to_owned) })
}

fn group_id(wanted: &str, group: &str) -> io::Result<u32> {
    if let Some(id) = number(wanted)? {
        return Ok(id);
    }
    let line =
        group.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&wanted));
    let id = line.and_then(|fields| decimal(fields.get(2)?));
    id.ok_or_else(|| unknown("group", wanted, "/etc/group"))
}

fn memberships(user: &str, group: &str) -> Vec<u32> {
    let lines = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let own = lines.filter(|fields| fields.get(3).is_some_and(|members| members.split(',').any(|name| name == user)));
    own.filter_map(|fields| decimal(fields.get(2)?)).collect()
}

/// The number that a text is; `None` for a name.
fn number(text: &str) -> io::Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse().ok().filter(|&id| id <= LARGEST_ID) {
        Some(id) => Ok(Some(id)),
        None => Err(io::Error::other(format!("the id {text} is too large"))),
    }
}

/// An id in a file of the image: digits alone, not the sign that Rust's own parser lets pass.
fn decimal(text: &str) -> Option<u32> {
    number(text).ok().flatten()
}

fn unknown(kind: &str, name: &str, file: &str) -> io::Error {
    io::Error::other(format!("the image has no {kind} {} in {file}", name.escape_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:100:Bob:/home/bob:/bin/sh\n1001:x:0:0::/:\n";
    const GROUPS: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,bob\nvideo:x:44:bob\n";

    fn of(text: &str) -> io::Result<Identity> {
        resolve(text, USERS, GROUPS)
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        let bob = of("bob").unwrap();
        assert_eq!(
            (bob.uid, bob.gid, bob.groups.clone(), bob.home.as_deref()),
            (1000, 100, vec![10, 44], Some("/home/bob"))
        );
        assert_eq!(of("1000").unwrap(), bob);
        assert_eq!(of("").unwrap().uid, 0);
        assert_eq!(of("bob:video").unwrap().gid, 44);
        assert_eq!(of("bob:video").unwrap().groups, [0_u32; 0]);
    }

    #[test]
    fn a_number_is_never_a_name() {
        let identity = of("1001").unwrap();
        assert_eq!((identity.uid, identity.gid, identity.home), (1001, 0, None));
    }

    #[test]
    fn an_id_with_a_sign_is_none() {
        assert!(resolve("eve", "eve:x:+0:0::/:\n", "").is_err());
        assert!(resolve("0:eve", "", "eve:x:+5:\n").is_err());
    }

    #[test]
    fn what_is_unknown_or_too_large_is_refused() {
        for text in ["nobody", "bob:none", "2147483648", "4294967296", "99999999999999999999", "bob:4294967295"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
