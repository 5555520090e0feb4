//! Writes tars again: the exact one of a layer, or one of the whole merged tree.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::layer::entry::Metadata;
use crate::layer::record::write_tar;
use crate::pool::Pool;
use crate::store::Store;
use crate::tree::{Inode, InodeId, InodeKind, Tree};

/// Bytes of the name and of the link field of a ustar header.
const NAME_FIELD: usize = 100;
/// The largest number that the id fields hold.
const LARGEST_ID: u32 = 0o7_777_777;
/// The largest number that the size and time fields hold.
const LARGEST_NUMBER: u64 = 0o77_777_777_777;

impl Store {
    /// A layer by its diff ID; its length in bytes.
    ///
    /// # Errors
    /// [`Error::LayerMissing`].
    pub fn layer(&self, diff_id: &Digest) -> Result<u64> {
        let layer = self.read_index()?.find_layer(diff_id, None)?.ok_or(Error::LayerMissing(*diff_id))?;
        Ok(layer.size)
    }

    /// Writes the exact tar of a layer, whose SHA-256 is the diff ID; returns its length.
    ///
    /// # Errors
    /// [`Error::LayerMissing`], or a damaged record or pool.
    pub fn export_layer(&self, diff_id: &Digest, out: &mut dyn Write) -> Result<u64> {
        let layer = self.read_index()?.find_layer(diff_id, None)?.ok_or_else(|| Error::LayerMissing(*diff_id))?;
        Ok(write_tar(self.record(layer.id)?, &self.pool, out)?)
    }

    /// Writes an image's root file system as a tar, members in the order of their names.
    pub fn export(&self, image: &Image, out: &mut dyn Write) -> Result<()> {
        let session = self.session()?;
        let layers = self.index()?.pin_layers(&image.diff_ids, session.number())?;
        let tree = self.merge(&layers)?;
        write_rootfs(&tree, &self.pool, out).context("export", image.short_id())
    }
}

fn write_rootfs(tree: &Tree, pool: &Pool, out: &mut dyn Write) -> io::Result<()> {
    let mut builder = Builder::new(out);
    let mut first_names: std::collections::HashMap<InodeId, Vec<u8>> = std::collections::HashMap::new();
    // Children are put on the stack in reverse, so that they leave it in order.
    let mut stack = vec![(Tree::ROOT, b"./".to_vec())];
    while let Some((id, path)) = stack.pop() {
        let inode = tree.inode(id);
        // No device, but what the overlay file system hides a file with.
        if inode.kind == (InodeKind::CharDevice { major: 0, minor: 0 }) {
            continue;
        }
        if let Some(first) = first_names.get(&id) {
            member(&mut builder, inode, &path, Some(first), pool)?;
            continue;
        }
        member(&mut builder, inode, &path, None, pool)?;
        if inode.links > 1 {
            first_names.insert(id, path.clone());
        }
        let below = stack.len();
        for (name, child) in tree.children(id) {
            let mut path = [path.as_slice(), name].concat();
            if matches!(tree.inode(child).kind, InodeKind::Directory(_)) {
                path.push(b'/');
            }
            stack.push((child, path));
        }
        stack[below..].reverse();
    }
    builder.finish()
}

fn member<W: Write>(
    builder: &mut Builder<W>,
    inode: &Inode,
    path: &[u8],
    first: Option<&Vec<u8>>,
    pool: &Pool,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    let mut link: &[u8] = b"";
    let mut content = None;
    header.set_size(0);
    match (&inode.kind, first) {
        (_, Some(first)) => {
            header.set_entry_type(EntryType::Link);
            link = first;
        }
        (InodeKind::Directory(_), _) => header.set_entry_type(EntryType::Directory),
        (InodeKind::Regular { object, size }, _) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(*size);
            content = *object;
        }
        (InodeKind::Symlink(target), _) => {
            header.set_entry_type(EntryType::Symlink);
            link = target;
        }
        (InodeKind::CharDevice { major, minor }, _) => device(&mut header, EntryType::Char, *major, *minor)?,
        (InodeKind::BlockDevice { major, minor }, _) => device(&mut header, EntryType::Block, *major, *minor)?,
        (InodeKind::Fifo, _) => header.set_entry_type(EntryType::Fifo),
    }
    let extensions = extensions(&mut header, &inode.metadata, path, link, first.is_none());
    if !extensions.is_empty() {
        builder.append_pax_extensions(extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
    }
    header.set_cksum();
    match content {
        Some(object) => builder.append(&header, pool.open(object)?),
        None => builder.append(&header, io::empty()),
    }
}

/// Fills the header's fields; returns what does not fit into them as PAX records.
fn extensions(
    header: &mut Header,
    metadata: &Metadata,
    path: &[u8],
    link: &[u8],
    xattrs: bool,
) -> Vec<(String, Vec<u8>)> {
    let mut extensions = Vec::new();
    let mut put = |key: &str, value: Vec<u8>| extensions.push((key.to_owned(), value));
    header.set_mode(metadata.mode);
    for (id, key) in [(metadata.uid, "uid"), (metadata.gid, "gid")] {
        let fits = id <= LARGEST_ID;
        let field = u64::from(if fits { id } else { 0 });
        if key == "uid" {
            header.set_uid(field);
        } else {
            header.set_gid(field);
        }
        if !fits {
            put(key, id.to_string().into_bytes());
        }
    }
    let mtime = metadata.mtime;
    let whole = u64::try_from(mtime.seconds).ok().filter(|&seconds| seconds <= LARGEST_NUMBER);
    header.set_mtime(whole.unwrap_or(0));
    if whole.is_none() || mtime.nanoseconds != 0 {
        put("mtime", decimal_time(mtime.seconds, mtime.nanoseconds).into_bytes());
    }
    if let Ok(size) = header.size()
        && size > LARGEST_NUMBER
    {
        put("size", size.to_string().into_bytes());
    }
    let fields = header.as_old_mut();
    for (text, field, key) in [(path, &mut fields.name, "path"), (link, &mut fields.linkname, "linkpath")] {
        let fits = text.len().min(NAME_FIELD);
        field[..fits].copy_from_slice(&text[..fits]);
        if text.len() > NAME_FIELD {
            put(key, text.to_vec());
        }
    }
    if xattrs {
        for (name, value) in &metadata.xattrs {
            put(&format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value.clone());
        }
    }
    extensions
}

fn device(header: &mut Header, kind: EntryType, major: u32, minor: u32) -> io::Result<()> {
    header.set_entry_type(kind);
    header.set_device_major(major)?;
    header.set_device_minor(minor)
}

/// Seconds with a fraction, negative times as "-1.25".
fn decimal_time(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        return format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_written_as_they_are_read() {
        assert_eq!(decimal_time(-2, 750_000_000), "-1.250000000");
        assert_eq!(decimal_time(12, 5), "12.000000005");
    }
}
