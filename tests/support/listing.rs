//! A tree as GNU tar sees it, entry by entry: what two trees are compared by.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

/// Everything that tar tells of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: u8,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: String,
    pub link: Vec<u8>,
    pub content: String,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

pub type Listing = BTreeMap<Vec<u8>, Entry>;

/// Lists a directory.
pub fn of_directory(path: &Path) -> Listing {
    parse(&super::run(Command::new("tar").args(ARGUMENTS).arg("-C").arg(path).args(["-cf", "-", "."])).unwrap().stdout)
}

/// Lists a stub checkout through the overlay that shows its contents, mounted by root in a namespace of its own.
pub fn of_stubs(tree: &Path, objects: &Path, scratch: &Path) -> Listing {
    let mountpoint = scratch.join("seen");
    std::fs::create_dir_all(&mountpoint).unwrap();
    let script = format!(
        "mount -t overlay overlay -o ro,userxattr,lowerdir={}::{} {mount} && exec tar {} -C {mount} -cf - .",
        tree.display(),
        objects.display(),
        ARGUMENTS.join(" "),
        mount = mountpoint.display(),
    );
    parse(&super::run(Command::new("unshare").args(["-m", "sh", "-c", &script])).unwrap().stdout)
}

/// What root gets who extracts the layers with GNU tar, one after another, and applies the whiteouts.
pub fn of_layers(layers: &[Vec<u8>], scratch: &Path) -> Listing {
    let root = scratch.join("oracle");
    std::fs::create_dir_all(&root).unwrap();
    for layer in layers {
        let mut names = Vec::new();
        for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            names.push(String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned());
        }
        for name in names.iter().filter(|name| name.contains(".wh.")) {
            let path = Path::new(name);
            let (parent, file) = (root.join(path.parent().unwrap()), path.file_name().unwrap().to_str().unwrap());
            if file == ".wh..wh..opq" {
                for entry in std::fs::read_dir(&parent).into_iter().flatten() {
                    remove(&entry.unwrap().path());
                }
            } else {
                remove(&parent.join(file.trim_start_matches(".wh.")));
            }
        }
        let archive = scratch.join("layer.tar");
        std::fs::write(&archive, layer).unwrap();
        super::run(
            Command::new("tar")
                .args([
                    "--xattrs",
                    "--xattrs-include=*",
                    "--numeric-owner",
                    "--exclude=.wh.*",
                    "--keep-directory-symlink",
                ])
                .arg("-C")
                .arg(&root)
                .args(["-pxf"])
                .arg(&archive),
        )
        .unwrap();
    }
    let mut listing = of_directory(&root);
    set_directory_times(&mut listing, layers);
    listing
}

/// Extracting one layer over another moves the times of directories that the image itself sets once: theirs is the
/// last that a layer names, and of directories that no layer names any.
fn set_directory_times(listing: &mut Listing, layers: &[Vec<u8>]) {
    let plain = |path: &[u8]| {
        let text = String::from_utf8_lossy(path).into_owned();
        text.trim_start_matches("./").trim_matches('/').to_owned()
    };
    let mut named = BTreeMap::new();
    for layer in layers {
        for (path, entry) in parse(layer).into_iter().filter(|(_, entry)| entry.kind == b'5') {
            named.insert(plain(&path), entry.mtime);
        }
    }
    for (path, entry) in listing.iter_mut().filter(|(_, entry)| entry.kind == b'5') {
        entry.mtime = named.get(&plain(path)).cloned().unwrap_or_else(|| ANY_TIME.to_owned());
    }
}

/// Stands for a time that is nobody's to say.
const ANY_TIME: &str = "any";

fn remove(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        let _ = std::fs::remove_file(path);
    }
}

const ARGUMENTS: [&str; 6] = [
    "--format=pax",
    "--sort=name",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    "--pax-option=delete=atime,delete=ctime,exthdr.name=x",
];

fn parse(bytes: &[u8]) -> Listing {
    let mut listing = Listing::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut mtime = entry.header().mtime().unwrap().to_string();
        let mut xattrs = BTreeMap::new();
        if let Some(extensions) = entry.pax_extensions().unwrap() {
            for extension in extensions {
                let extension = extension.unwrap();
                let key = extension.key().unwrap().to_owned();
                if key == "mtime" {
                    extension.value().unwrap().clone_into(&mut mtime);
                } else if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
                }
            }
        }
        let path = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type().as_byte();
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let header = entry.header();
        let (mode, owner) = (header.mode().unwrap() & 0o7777, (header.uid().unwrap(), header.gid().unwrap()));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let content = format!("{:x}", Sha256::digest(&content));
        listing.insert(path, Entry { kind, mode, owner, mtime, link, content, xattrs });
    }
    listing
}

fn is_same(wanted: &Entry, found: &Entry) -> bool {
    let mut wanted = wanted.clone();
    if wanted.mtime == ANY_TIME {
        wanted.mtime.clone_from(&found.mtime);
    }
    wanted == *found
}

/// The differences, in words.
pub fn differences(wanted: &Listing, found: &Listing) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, entry) in wanted {
        match found.get(path) {
            None => differences.push(format!("{} is missing", path.escape_ascii())),
            Some(other) if !is_same(entry, other) => {
                differences.push(format!("{}: {entry:?} became {other:?}", path.escape_ascii()));
            }
            Some(_) => {}
        }
    }
    let more = found.keys().filter(|path| !wanted.contains_key(*path));
    differences.extend(more.map(|path| format!("{} is too much", path.escape_ascii())));
    differences
}
