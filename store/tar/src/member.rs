//! From header blocks to members: the one parser that both the reading of a tar and that of a record go through.

use crate::LayerError;
use crate::entry::{Entry, EntryKind, Metadata, Timestamp};
use crate::error::escape;
use crate::header::{BLOCK, Header, sparse_pairs, text};
use crate::path::EntryPath;
use crate::pax::{Extensions, decimal};
use crate::sparse::{SparseMap, pair_up};

/// Longest extended header or long name, in bytes.
const LONGEST_EXTENSION: u64 = 8 << 20;
/// Most blocks of an old GNU sparse map.
const MOST_SPARSE_BLOCKS: usize = 1 << 16;
/// Attributes by which the overlay file system is told what to show: an image that sets them reads what is not its own.
const FORGEABLE: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];

/// Where a tar's bytes come from that are not file contents.
pub trait Blocks {
    /// Fills the buffer. `false`: the stream ended before its first byte.
    ///
    /// # Errors
    /// [`LayerError::Truncated`] where it ends within.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, LayerError>;

    /// Bytes that were given so far, for messages.
    fn offset(&self) -> u64;
}

/// One member: what it makes, and what follows of it in the stream.
#[derive(Debug)]
pub struct Member {
    /// What it makes; `None` for kinds of member that make nothing.
    pub entry: Option<Entry>,
    /// Bytes of body that follow, without padding.
    pub body: u64,
    /// How the body spreads over the file, for sparse ones.
    pub sparse: Option<SparseMap>,
}

/// Reads the next member up to its body. `None` at the end: a block of zeros, or the end of the stream.
///
/// Whoever calls takes the body and its padding from the stream before the next call. `global` holds the PAX global
/// header across calls.
///
/// # Errors
/// What is broken, hostile or too much.
pub fn next(blocks: &mut dyn Blocks, global: &mut Extensions) -> Result<Option<Member>, LayerError> {
    let mut extensions = global.clone();
    let (mut long_name, mut long_link) = (None, None);
    let mut pending = false;
    loop {
        let mut block = [0; BLOCK];
        let offset = blocks.offset();
        let header = if blocks.fill(&mut block)? { Header::parse(&block, offset)? } else { None };
        let Some(header) = header else {
            return if pending { Err(LayerError::Truncated("an extended header")) } else { Ok(None) };
        };
        match header.flag() {
            b'x' | b'g' => {
                let body = extension(blocks, header.size()?)?;
                if header.flag() == b'g' {
                    global.extend(&body, blocks.offset())?;
                }
                extensions.extend(&body, blocks.offset())?;
                pending = header.flag() == b'x';
            }
            b'L' => {
                long_name = Some(text(&extension(blocks, header.size()?)?).to_vec());
                pending = true;
            }
            b'K' => {
                long_link = Some(text(&extension(blocks, header.size()?)?).to_vec());
                pending = true;
            }
            _ => {
                let named_twice = long_name.is_some() && extensions.get("path").is_some()
                    || long_link.is_some() && extensions.get("linkpath").is_some();
                if named_twice {
                    return Err(LayerError::Ambiguous);
                }
                let name = long_name.unwrap_or_else(|| header.name());
                let link = long_link.unwrap_or_else(|| header.link());
                return member(blocks, header, &extensions, name, link).map(Some);
            }
        }
    }
}

fn extension(blocks: &mut dyn Blocks, size: u64) -> Result<Vec<u8>, LayerError> {
    if size > LONGEST_EXTENSION {
        return Err(LayerError::Limit { what: "bytes of an extended header", limit: LONGEST_EXTENSION });
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut body = vec![0; size.next_multiple_of(BLOCK)];
    if !body.is_empty() && !blocks.fill(&mut body)? {
        return Err(LayerError::Truncated("an extended header"));
    }
    body.truncate(size);
    Ok(body)
}

fn member(
    blocks: &mut dyn Blocks,
    header: Header<'_>,
    extensions: &Extensions,
    name: Vec<u8>,
    link: Vec<u8>,
) -> Result<Member, LayerError> {
    let stored = match extensions.number("size")? {
        Some(size) => size,
        None => header.size()?,
    };
    // GNU tar puts a made-up name into "path" and the real one here.
    let name = match (extensions.text("GNU.sparse.name")?, extensions.text("path")?) {
        (Some(real), _) | (None, Some(real)) => real.to_vec(),
        (None, None) => name,
    };
    let link = extensions.text("linkpath")?.map_or(link, <[u8]>::to_vec);
    let mut body = 0;
    let mut sparse = None;
    let kind = match header.flag() {
        b'0' | b'\0' | b'7' if header.flag() == b'\0' && name.ends_with(b"/") => EntryKind::Directory,
        b'0' | b'\0' | b'7' | b'S' => {
            body = stored;
            sparse = sparse_map(blocks, header, extensions, &mut body, &name)?;
            EntryKind::Regular { size: sparse.as_ref().map_or(body, |map| map.size) }
        }
        b'1' => EntryKind::Hardlink { target: EntryPath::parse(&link)? },
        b'2' if link.is_empty() => {
            return Err(LayerError::Path { path: escape(&name), reason: "a symbolic link without a target" });
        }
        b'2' => EntryKind::Symlink { target: link },
        b'3' | b'4' => {
            let (major, minor) = header.device()?;
            if header.flag() == b'3' {
                EntryKind::CharDevice { major, minor }
            } else {
                EntryKind::BlockDevice { major, minor }
            }
        }
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        // Volume labels, multi-volume parts, dumps of directories and what nobody knows: their body is passed over.
        _ => return Ok(Member { entry: None, body: stored, sparse: None }),
    };
    let path = EntryPath::parse(&name)?;
    if path.is_root() && kind != EntryKind::Directory {
        return Err(LayerError::Path { path: escape(&name), reason: "only a directory can be the root" });
    }
    let metadata = metadata(header, extensions, &path)?;
    Ok(Member { entry: Some(Entry { path, kind, metadata }), body, sparse })
}

fn metadata(header: Header<'_>, extensions: &Extensions, path: &EntryPath) -> Result<Metadata, LayerError> {
    let id = |stated: Option<u64>, field: &'static str, own: Result<u64, LayerError>| {
        let id = match stated {
            Some(id) => id,
            None => own?,
        };
        // The largest number means "unchanged" to chown(2).
        let id = u32::try_from(id).ok().filter(|&id| id != u32::MAX);
        id.ok_or_else(|| LayerError::Number { path: escape(path.as_bytes()), field })
    };
    let mtime = match extensions.mtime()? {
        Some(mtime) => mtime,
        None => Timestamp { seconds: header.mtime()?, nanoseconds: 0 },
    };
    let mut metadata = Metadata {
        mode: header.mode()?,
        uid: id(extensions.number("uid")?, "uid", header.uid())?,
        gid: id(extensions.number("gid")?, "gid", header.gid())?,
        mtime,
        xattrs: std::collections::BTreeMap::new(),
    };
    for (name, value) in extensions.xattrs() {
        if FORGEABLE.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(LayerError::ForgedXattr { path: escape(path.as_bytes()), name: escape(name) });
        }
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(LayerError::PaxValue("SCHILY.xattr".to_owned()));
        }
        if value.len() > 64 * 1024 {
            return Err(LayerError::Limit { what: "bytes of an extended attribute", limit: 64 * 1024 });
        }
        metadata.xattrs.insert(name.to_vec(), value.to_vec());
    }
    Ok(metadata)
}

/// The sparse map of a member in any of GNU tar's formats; what of the body is map is taken from the stream.
fn sparse_map(
    blocks: &mut dyn Blocks,
    header: Header<'_>,
    extensions: &Extensions,
    body: &mut u64,
    name: &[u8],
) -> Result<Option<SparseMap>, LayerError> {
    let bad = || LayerError::Sparse { path: escape(name) };
    if header.flag() == b'S' {
        let (mut regions, size, mut more) = header.gnu_sparse()?;
        let mut count = 0;
        while more {
            count += 1;
            if count > MOST_SPARSE_BLOCKS {
                return Err(LayerError::Limit { what: "blocks of a sparse map", limit: MOST_SPARSE_BLOCKS as u64 });
            }
            let mut block = [0; BLOCK];
            if !blocks.fill(&mut block)? {
                return Err(LayerError::Truncated("a sparse map"));
            }
            regions.extend(sparse_pairs(&block[..504]).ok_or_else(bad)?);
            more = block[504] != 0;
        }
        regions.retain(|&(_, length)| length > 0);
        return SparseMap::new(regions, size, *body, name).map(Some);
    }
    if extensions.number("GNU.sparse.major")? == Some(1) {
        let size = extensions.number("GNU.sparse.realsize")?.ok_or_else(bad)?;
        let (numbers, taken) = map_in_body(blocks, *body, name)?;
        *body -= taken;
        return SparseMap::new(nonempty(pair_up(&numbers, name)?), size, *body, name).map(Some);
    }
    let Some(size) = extensions.number("GNU.sparse.size")? else { return Ok(None) };
    let numbers = match extensions.get("GNU.sparse.map") {
        Some(map) if !map.is_empty() => map
            .split(|&byte| byte == b',')
            .map(|number| decimal(number).ok_or_else(bad))
            .collect::<Result<Vec<_>, _>>()?,
        _ => extensions.sparse_pairs.clone(),
    };
    SparseMap::new(nonempty(pair_up(&numbers, name)?), size, *body, name).map(Some)
}

fn nonempty(mut regions: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    regions.retain(|&(_, length)| length > 0);
    regions
}

/// Format 1.0: the map stands before the data, decimal lines padded to whole blocks.
fn map_in_body(blocks: &mut dyn Blocks, body: u64, name: &[u8]) -> Result<(Vec<u64>, u64), LayerError> {
    let bad = || LayerError::Sparse { path: escape(name) };
    let (mut numbers, mut line, mut taken) = (Vec::new(), Vec::new(), 0);
    let mut wanted = None;
    while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
        let mut block = [0; BLOCK];
        if taken + BLOCK as u64 > body.next_multiple_of(BLOCK as u64) || taken >= LONGEST_EXTENSION {
            return Err(bad());
        }
        if !blocks.fill(&mut block)? {
            return Err(LayerError::Truncated("a sparse map"));
        }
        taken += BLOCK as u64;
        for &byte in &block {
            if wanted.is_some_and(|wanted| numbers.len() as u64 == wanted) {
                break;
            }
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let number = decimal(&line).ok_or_else(bad)?;
            line.clear();
            match wanted {
                None => wanted = Some(number.checked_mul(2).ok_or_else(bad)?),
                Some(_) => numbers.push(number),
            }
        }
    }
    if taken > body { Err(bad()) } else { Ok((numbers, taken)) }
}
