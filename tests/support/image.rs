//! Images made by the tests: layers by the tar crate, manifests by hand; and one real Debian.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// How layers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Zstd,
    Plain,
}

/// An image in pieces, each of which a test may break.
#[derive(Debug, Clone)]
pub struct Image {
    pub config: Vec<u8>,
    pub manifest: serde_json::Value,
    /// Digest and bytes of layers, packed.
    pub blobs: Vec<(String, Vec<u8>)>,
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

pub fn pack(tar: &[u8], packing: Packing) -> (Vec<u8>, &'static str) {
    match packing {
        Packing::Plain => (tar.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
        Packing::Zstd => (zstd::encode_all(tar, 3).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd"),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            (encoder.finish().unwrap(), "application/vnd.oci.image.layer.v1.tar+gzip")
        }
    }
}

impl Image {
    /// An image of these layers, with a plain config.
    pub fn new(layers: &[Vec<u8>], packing: Packing) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|tar| sha256(tar)).collect();
        let packed: Vec<_> = layers.iter().map(|tar| pack(tar, packing)).collect();
        Self::from_parts(&diff_ids, packed)
    }

    /// An image whose config may promise other diff IDs than its layers have.
    pub fn from_parts(diff_ids: &[String], packed: Vec<(Vec<u8>, &'static str)>) -> Self {
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let layers: Vec<_> = packed
            .iter()
            .map(|(bytes, media_type)| json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() }))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": sha256(&config), "size": config.len(),
            },
            "layers": layers,
        });
        let blobs = packed.into_iter().map(|(bytes, _)| (sha256(&bytes), bytes)).collect();
        Self { config, manifest, blobs }
    }
}

impl Image {
    /// Writes it as an OCI image layout of one image without a name.
    pub fn write_layout(&self, folder: &Path) {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let blob = |digest: &str, bytes: &[u8]| {
            std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        };
        let manifest = self.manifest.to_string().into_bytes();
        blob(&sha256(&manifest), &manifest);
        blob(&sha256(&self.config), &self.config);
        for (digest, bytes) in &self.blobs {
            blob(digest, bytes);
        }
        let described = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(&manifest), "size": manifest.len(),
        });
        let index = json!({ "schemaVersion": 2, "manifests": [described] });
        std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

/// One member of a layer.
pub struct Member<'a> {
    pub path: &'a str,
    pub kind: tar::EntryType,
    pub body: &'a [u8],
    pub link: &'a str,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
    pub pax: &'a [(&'a str, &'a [u8])],
}

impl Default for Member<'_> {
    fn default() -> Self {
        Self {
            path: "",
            kind: tar::EntryType::Regular,
            body: b"",
            link: "",
            mode: 0o644,
            owner: (0, 0),
            mtime: 1_700_000_000,
            pax: &[],
        }
    }
}

pub fn file<'a>(path: &'a str, body: &'a [u8]) -> Member<'a> {
    Member { path, body, ..Member::default() }
}

pub fn dir(path: &str) -> Member<'_> {
    Member { path, kind: tar::EntryType::Directory, mode: 0o755, ..Member::default() }
}

pub fn link<'a>(path: &'a str, target: &'a str, kind: tar::EntryType) -> Member<'a> {
    Member { path, link: target, kind, mode: 0o777, ..Member::default() }
}

/// A layer's tar. Names go into the header byte by byte, so that hostile ones can be written.
pub fn layer(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..member.path.len()].copy_from_slice(member.path.as_bytes());
        header.as_old_mut().linkname[..member.link.len()].copy_from_slice(member.link.as_bytes());
        header.set_entry_type(member.kind);
        header.set_size(member.body.len() as u64);
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_mtime(member.mtime);
        if member.kind.is_character_special() || member.kind.is_block_special() {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        if !member.pax.is_empty() {
            builder.append_pax_extensions(member.pax.iter().copied()).unwrap();
        }
        builder.append(&header, member.body).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Two layers with everything in them that a file system can hold.
pub fn everything() -> Vec<Vec<u8>> {
    use tar::EntryType as Type;
    let large: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    let lower = layer(&[
        dir("./"),
        dir("bin"),
        dir("usr/lib"),
        link("lib", "usr/lib", Type::Symlink),
        Member { mode: 0o4755, ..file("bin/setuid", b"setuid root") },
        Member { mode: 0o2755, owner: (0, 43), ..file("bin/setgid", b"setgid") },
        Member { owner: (33, 34), mode: 0o640, ..file("owned", b"by others") },
        Member { mode: 0o1777, owner: (12, 13), ..dir("tmp") },
        file("large", &large),
        file("empty1", b""),
        file("empty2", b""),
        file("twin1", b"the same"),
        file("twin2", b"the same"),
        Member { mtime: 1, ..file("twin3", b"the same") },
        file("hard1", b"hard linked"),
        link("hard2", "hard1", Type::Link),
        link("usr/hard3", "/hard1", Type::Link),
        Member { pax: &[("mtime", b"1700000000.123456789")], ..file("nanoseconds", b"ns") },
        Member { pax: &[("SCHILY.xattr.user.note", b"kept")], ..file("noted", b"with xattr") },
        link("dangling", "/does/not/exist", Type::Symlink),
        Member { mode: 0o600, ..Member { path: "fifo", kind: Type::Fifo, ..Member::default() } },
        Member { mode: 0o666, ..Member { path: "null", kind: Type::Char, ..Member::default() } },
        Member { mode: 0, ..dir("closed") },
        file("closed/inside", b"behind mode 0"),
        dir("gone"),
        file("gone/a", b"a"),
        file("opaque/old", b"old"),
        Member { pax: &[("path", b"latin/caf\xe9")], ..file("x", b"bytes") },
    ]);
    let upper = layer(&[
        file(".wh.gone", b""),
        file("opaque/.wh..wh..opq", b""),
        file("opaque/new", b"new"),
        file("lib/through-link", b"merged usr"),
        Member { mtime: 1_600_000_000, ..file("twin2", b"the same") },
        file("hard1", b"replaced"),
    ]);
    vec![lower, upper]
}

/// A real Debian root file system as a tar, made once from the package mirror.
pub fn debian() -> Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| bootstrap("debian", &["--include=ca-certificates"])).clone()
}

/// A Debian with the packages that Distrobox would install into a container.
pub fn distrobox() -> Result<PathBuf, String> {
    const PACKAGES: &str = "--include=bc,bsdextrautils,bzip2,ca-certificates,curl,diffutils,findutils,gnupg,hostname,iputils-ping,less,\
        lsof,man-db,openssh-client,passwd,pigz,pinentry-curses,procps,rsync,sudo,time,tree,unzip,util-linux,wget,xauth,zip";
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        // What nobody reads here would take its time in each import.
        let excluded = ["doc", "locale", "man"].map(|folder| format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
        bootstrap("distrobox", &[PACKAGES, &excluded[0], &excluded[1], &excluded[2]])
    })
    .clone()
}

fn bootstrap(name: &str, options: &[&str]) -> Result<PathBuf, String> {
    super::has("mmdebstrap")?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}.tar"));
    if !path.exists() {
        let fresh = folder.join(format!("{name}.new.tar"));
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase"]).args(options).arg("bookworm").arg(&fresh);
        super::run(&mut command).map_err(|error| format!("the package mirror gives no Debian: {error}"))?;
        std::fs::rename(&fresh, &path).map_err(|error| error.to_string())?;
    }
    Ok(path)
}
