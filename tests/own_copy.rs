//! Where the kernel refuses an overlay, as above the files of another container, a container has a copy of its image's files:
//! as good a root as the overlay, only slower and larger, and told.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use crate::need;
use crate::support::{Env, all, has, run, said};

pub const IMAGE: &str = "localhost/small:1";
const WARNING: &str = "lrun: warning: own copy of the image's files";

/// An image of a few programs of this machine, with all that a file can be.
const MAKE: &str = r#"
mkdir tree && cd tree && mkdir -p etc srv && PATH=/usr/bin:/bin
for program in sh cat cp rm mkdir chmod touch sleep mv; do command -v $program; ldd "$(command -v $program)" | grep -o '/[^ ]*'
done | sort -u | while read -r file; do cp -L --parents "$file" .; done
echo one > srv/one; echo two > srv/two; chmod 0 srv/two; echo gone > srv/gone; mkdir srv/folder; echo x > srv/folder/x
echo linked > srv/first; ln srv/first srv/second; ln -s one srv/link; mkfifo srv/fifo; touch srv/empty
cp /bin/true srv/setid; chown 42:43 srv/setid; chmod 6755 srv/setid; setfattr -n user.key -v value srv/one
truncate -s 8M srv/hole; echo end >> srv/hole; mkdir srv/sticky; chmod 1777 srv/sticky; chown 7 srv/sticky
touch -d 2001-02-03T04:05:06.789 srv/* srv
tar --xattrs --format=pax -cf ../small.tar .
"#;

/// What a container does to it, so that each kind of change is there; one changes neither size nor time.
const CHANGE: &str = "echo new > /srv/new; mkdir -p /opt/a/b; rm /srv/gone; rm -r /srv/folder; chmod 700 /srv/sticky; mv /srv/link /srv/moved
    echo ONE > /ref; cp --attributes-only -p /srv/one /ref; echo ONE > /srv/one; touch -r /ref /srv/one; rm /ref
    cat /srv/first > /srv/read; rm /srv/read; chmod 700 /srv/setid; chmod 755 /srv/setid; echo changed >> /srv/second";

/// A store, and the tar of the image.
pub fn small() -> Result<(Env, String), String> {
    let env = has("setfattr").and_then(|()| Env::new())?;
    run(Command::new("sh").args(["-ec", MAKE]).current_dir(&env.scratch))?;
    let tar = env.scratch.join("small.tar").display().to_string();
    env.ok(&["import", "-q", &tar, IMAGE]);
    Ok((env, tar))
}

/// An overlay that belongs to the user, unmounted with the value.
struct Mounted(PathBuf);

impl Mounted {
    fn new(env: &Env) -> Result<Self, String> {
        let script = r#"mkdir lower upper work merged && chown "$1" upper &&
            mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged"#;
        let user = env.user.as_ref().ok_or("no user")?.uid.to_string();
        run(Command::new("sh").args(["-c", script, "sh", &user]).current_dir(&env.scratch))?;
        Ok(Self(env.scratch.join("merged")))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// All that `lrun export` says of each file. Its root belongs to the container and not to the image.
fn exported(env: &Env, name: &str) -> BTreeMap<PathBuf, String> {
    let tar = env.lrun(&["export", name]);
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(&tar.stdout[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let pax: Vec<_> = entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap).collect();
        let pax: Vec<_> = pax.iter().map(|one| format!("{}={:?}", one.key().unwrap(), one.value_bytes())).collect();
        let mut text = format!("{:?} {pax:?} ", entry.header());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        text.push_str(&crate::support::image::sha256(&content));
        found.insert(entry.path().unwrap().into_owned(), text);
    }
    found.retain(|path, _| path.components().count() > 0 && path.as_os_str() != "./");
    found
}

#[test]
fn where_there_can_be_no_overlay_a_container_has_a_copy_of_its_own() {
    let name = "where_there_can_be_no_overlay";
    let (plain, tar) = need!(name, small());
    let mounted = need!(name, Mounted::new(&plain));
    let inner = Env::at(&mounted.0.join("store")).unwrap();
    inner.ok(&["import", "-q", &tar, IMAGE]);
    let info: serde_json::Value = serde_json::from_str(&said(&inner.lrun(&["info", "--format", "json"]))).unwrap();
    assert!(info["RootFilesystem"].as_str().unwrap().contains("the store is on an overlay"), "{info}");

    // Before anything runs it is the image, file by file, and nothing of it is an inode of the store's.
    for env in [&plain, &inner] {
        said(&env.lrun(&["create", "--name", "whole", IMAGE, "sh"]));
    }
    let (wanted, found) = (exported(&plain, "whole"), exported(&inner, "whole"));
    assert!(wanted.len() > 30 && wanted.contains_key(&PathBuf::from("srv/second")), "{:?}", wanted.keys());
    assert_eq!(found, wanted);
    let own = inner.store.join("containers/whole/own");
    let linked = run(Command::new("find").arg(&own).args(["-type", "f", "-links", "+1"])).unwrap();
    assert_eq!(said(&linked).lines().count(), 2, "the image's own two: {}", said(&linked));
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(own.join("srv/hole")).unwrap());
    assert!(blocks < 1000, "holes stay: {blocks}");

    // What it does is kept, told and committed as above an overlay.
    let mut told = Vec::new();
    for env in [&plain, &inner] {
        let begun = env.lrun(&["run", "-d", "--name", "box", IMAGE, "sleep", "1000"]);
        told.push(all(&begun).matches(WARNING).count());
        said(&env.lrun(&["exec", "box", "sh", "-ec", CHANGE]));
    }
    assert_eq!(told, [0, 1]);
    let diff = said(&inner.lrun(&["diff", "box"]));
    assert!(
        diff.contains("C /srv/one\n") && diff.contains("D /srv/folder\n") && diff.contains("A /srv/new\n"),
        "{diff}"
    );
    // Above an overlay the second name of a file is one of its own when it is written to.
    let above = said(&plain.lrun(&["diff", "box"]));
    let above: Vec<&str> = above.lines().collect();
    let others: Vec<&str> = diff.lines().filter(|line| !line.ends_with("/srv/first")).collect();
    assert_eq!(others, above);
    let size = said(&inner.lrun(&["ps", "-s", "--noheading"]));
    assert!(size.trim_end().ends_with(" kB"), "what was changed, not the whole: {size}");
    said(&inner.lrun(&["stop", "-t", "0", "box"]));
    said(&inner.lrun(&["cp", &tar, "box:/srv/copied"]));
    said(&inner.lrun(&["rename", "box", "bag"]));
    assert_eq!(all(&inner.lrun(&["start", "bag"])).matches(WARNING).count(), 1);
    assert_eq!(said(&inner.lrun(&["exec", "bag", "cat", "/srv/new", "/srv/one"])), "new\nONE\n");
    said(&inner.lrun(&["commit", "bag", "localhost/kept:1"]));
    said(&inner.lrun(&["rm", "-f", "-t", "0", "bag", "whole"]));
    // Nothing is to be written and nothing to be kept: no copy is needed.
    let look = "cat /srv/new /srv/one /srv/second; [ ! -e /srv/gone ] && ! touch /srv/x";
    let kept = inner.lrun(&["run", "--rm", "--read-only", "localhost/kept:1", "sh", "-c", look]);
    assert_eq!(said(&kept), "new\nONE\nlinked\nchanged\n");
    assert!(!all(&kept).contains(WARNING), "{}", all(&kept));

    // One that is started again by policy goes on from what it did.
    let again =
        ["run", "-d", "--name", "again", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo x >> /n; exit 1"];
    said(&inner.lrun(&again));
    said(&inner.lrun(&["wait", "again"]));
    assert!(said(&inner.lrun(&["cp", "again:/n", "-"])).contains("x\nx\nx\n"));
    said(&inner.lrun(&["rm", "-f", "again"]));

    let gone = inner.lrun(&["run", "--rm", IMAGE, "cat", "/srv/one", "/srv/first"]);
    assert_eq!(said(&gone), "one\nlinked\n", "the image is as it was");
    assert_eq!(all(&gone).matches(WARNING).count(), 1);
    assert!(inner.ok(&["fsck"]).ends_with("clean\n"));
    assert_eq!(std::fs::read_dir(inner.store.join("containers")).unwrap().count(), 0);
    said(&plain.lrun(&["rm", "-f", "-t", "0", "box", "whole"]));
}
