//! From header blocks to members: the one parser that both the reading of a tar and that of a record go through.

use crate::TarError;
use crate::entry::{Entry, EntryKind, Metadata, Timestamp};
use crate::error::escape;
use crate::header::{BLOCK, Header, sparse_pairs, text};
use crate::path::EntryPath;
use crate::pax::{Extensions, Globals, decimal};
use crate::sparse::{SparseMap, pair_up};

/// Most bytes of all extended headers and long names before one member, as Go's archive/tar has it for one header.
const MOST_EXTENSION_BYTES: u64 = 1 << 20;
/// Most extended headers and long names before one member: GNU tar writes three at most.
const MOST_EXTENSIONS: u64 = 16;
/// Longest target of a symbolic link, in bytes: `PATH_MAX` without its NUL.
const LONGEST_TARGET: usize = 4095;
/// The largest major number of a device: the kernel keeps 12 bits of it (`MKDEV`, `include/linux/kdev_t.h`).
pub const MOST_MAJOR: u32 = (1 << 12) - 1;
/// The largest minor number: 20 bits.
pub const MOST_MINOR: u32 = (1 << 20) - 1;
/// Most bytes of the sparse map that stands before the data (format 1.0).
const LONGEST_MAP: u64 = 8 << 20;
/// Most blocks of an old GNU sparse map.
const MOST_SPARSE_BLOCKS: usize = 1 << 16;
/// Attributes by which the overlay file system is told what to show: an image that sets them reads what is not its own.
const FORGEABLE: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];

/// Where a tar's bytes come from that are not file contents.
pub trait Blocks {
    /// Why they cannot be had.
    type Error: From<TarError>;

    /// Fills the buffer. `false`: the stream ended before its first byte.
    ///
    /// # Errors
    /// [`TarError::Truncated`] where it ends within.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Self::Error>;

    /// Bytes that were given so far, for messages.
    fn offset(&self) -> u64;
}

/// One member: what it makes, and what follows of it in the stream.
#[derive(Debug)]
pub struct Member {
    /// What it makes; `None` for kinds of member that make nothing.
    pub entry: Option<Entry>,
    /// The type flag of its header.
    pub flag: u8,
    /// Bytes of body that follow, without padding.
    pub body: u64,
    /// How the body spreads over the file, for sparse ones.
    pub sparse: Option<SparseMap>,
}

/// Reads the next member up to its body. `None` at the end: a block of zeros, or the end of the stream.
///
/// Whoever calls takes the body and its padding from the stream before the next call. `globals` holds what global
/// headers say across calls. Of two extended headers before one member the last alone counts, as for GNU tar and Go.
///
/// # Errors
/// What is broken, hostile or too much.
pub fn next<B: Blocks>(blocks: &mut B, globals: &mut Globals) -> Result<Option<Member>, B::Error> {
    let mut extensions = Extensions::default();
    let (mut long_name, mut long_link) = (None, None);
    let mut pending = false;
    let (mut bytes, mut count) = (0, 0);
    loop {
        let mut block = [0; BLOCK];
        let offset = blocks.offset();
        let header = if blocks.fill(&mut block)? { Header::parse(&block, offset)? } else { None };
        let Some(header) = header else {
            return if pending { Err(TarError::Truncated("an extended header").into()) } else { Ok(None) };
        };
        if !matches!(header.flag(), b'x' | b'g' | b'L' | b'K') {
            let extensions = extensions.above(globals);
            let named_twice = long_name.is_some() && extensions.get("path").is_some()
                || long_link.is_some() && extensions.get("linkpath").is_some();
            if named_twice {
                return Err(TarError::Ambiguous.into());
            }
            let name = long_name.unwrap_or_else(|| header.name());
            let link = long_link.unwrap_or_else(|| header.link());
            return member(blocks, header, &extensions, name, link).map(Some);
        }
        count += 1;
        if count > MOST_EXTENSIONS {
            let what = "extended headers before one member";
            return Err(TarError::Limit { what, limit: MOST_EXTENSIONS }.into());
        }
        bytes = header.size()?.saturating_add(bytes);
        let body = extension(blocks, header.size()?, bytes)?;
        match header.flag() {
            b'x' => extensions = Extensions::parse(&body, blocks.offset())?,
            b'g' => globals.extend(&body, blocks.offset())?,
            b'L' => long_name = Some(text(&body).to_vec()),
            _ => long_link = Some(text(&body).to_vec()),
        }
        pending |= header.flag() != b'g';
    }
}

/// Takes the body of an extended header; `sum` is the size of all before this member, this one included.
fn extension<B: Blocks>(blocks: &mut B, size: u64, sum: u64) -> Result<Vec<u8>, B::Error> {
    if sum > MOST_EXTENSION_BYTES {
        let what = "bytes of extended headers before one member";
        return Err(TarError::Limit { what, limit: MOST_EXTENSION_BYTES }.into());
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut body = vec![0; size.next_multiple_of(BLOCK)];
    if !body.is_empty() && !blocks.fill(&mut body)? {
        return Err(TarError::Truncated("an extended header").into());
    }
    body.truncate(size);
    Ok(body)
}

fn member<B: Blocks>(
    blocks: &mut B,
    header: Header<'_>,
    extensions: &Extensions,
    name: Vec<u8>,
    link: Vec<u8>,
) -> Result<Member, B::Error> {
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
        b'2' => EntryKind::Symlink { target: link_target(link, &name)? },
        b'3' | b'4' => device(header, &name)?,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        // Volume labels, multi-volume parts, dumps of directories and what nobody knows: their body is passed over.
        flag => return Ok(Member { entry: None, flag, body: stored, sparse: None }),
    };
    let path = EntryPath::parse(&name)?;
    if path.is_root() && kind != EntryKind::Directory {
        return Err(TarError::Path { path: escape(&name), reason: "only a directory can be the root" }.into());
    }
    let metadata = metadata(header, extensions, &path)?;
    Ok(Member { entry: Some(Entry { path, kind, metadata }), flag: header.flag(), body, sparse })
}

fn link_target(target: Vec<u8>, name: &[u8]) -> Result<Vec<u8>, TarError> {
    let reason = match target.len() {
        0 => "a symbolic link without a target",
        1..=LONGEST_TARGET => return Ok(target),
        _ => "the target of a symbolic link is longer than 4095 bytes",
    };
    Err(TarError::Path { path: escape(name), reason })
}

fn device(header: Header<'_>, name: &[u8]) -> Result<EntryKind, TarError> {
    let (major, minor) = header.device()?;
    if major > MOST_MAJOR || minor > MOST_MINOR {
        return Err(TarError::Device { path: escape(name), major, minor });
    }
    Ok(if header.flag() == b'3' {
        EntryKind::CharDevice { major, minor }
    } else {
        EntryKind::BlockDevice { major, minor }
    })
}

fn metadata(header: Header<'_>, extensions: &Extensions, path: &EntryPath) -> Result<Metadata, TarError> {
    let id = |stated: Option<u64>, field: &'static str, own: Result<u64, TarError>| {
        let id = match stated {
            Some(id) => id,
            None => own?,
        };
        // The largest number means "unchanged" to chown(2).
        let id = u32::try_from(id).ok().filter(|&id| id != u32::MAX);
        id.ok_or_else(|| TarError::Number { path: escape(path.as_bytes()), field })
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
            return Err(TarError::ForgedXattr { path: escape(path.as_bytes()), name: escape(name) });
        }
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(TarError::PaxValue("SCHILY.xattr".to_owned()));
        }
        if value.len() > 64 * 1024 {
            return Err(TarError::Limit { what: "bytes of an extended attribute", limit: 64 * 1024 });
        }
        metadata.xattrs.insert(name.to_vec(), value.to_vec());
    }
    Ok(metadata)
}

/// The sparse map of a member in any of GNU tar's formats; what of the body is map is taken from the stream.
fn sparse_map<B: Blocks>(
    blocks: &mut B,
    header: Header<'_>,
    extensions: &Extensions,
    body: &mut u64,
    name: &[u8],
) -> Result<Option<SparseMap>, B::Error> {
    let bad = || TarError::Sparse { path: escape(name) };
    if header.flag() == b'S' {
        let (mut regions, size, mut more) = header.gnu_sparse()?;
        let mut count = 0;
        while more {
            count += 1;
            if count > MOST_SPARSE_BLOCKS {
                return Err(TarError::Limit { what: "blocks of a sparse map", limit: MOST_SPARSE_BLOCKS as u64 }.into());
            }
            let mut block = [0; BLOCK];
            if !blocks.fill(&mut block)? {
                return Err(TarError::Truncated("a sparse map").into());
            }
            regions.extend(sparse_pairs(&block[..504]).ok_or_else(bad)?);
            more = block[504] != 0;
        }
        regions.retain(|&(_, length)| length > 0);
        return Ok(Some(SparseMap::new(regions, size, *body, name)?));
    }
    if extensions.number("GNU.sparse.major")? == Some(1) {
        let size = extensions.number("GNU.sparse.realsize")?.ok_or_else(bad)?;
        let (numbers, taken) = map_in_body(blocks, *body, name)?;
        *body -= taken;
        return Ok(Some(SparseMap::new(nonempty(pair_up(&numbers, name)?), size, *body, name)?));
    }
    let Some(size) = extensions.number("GNU.sparse.size")? else { return Ok(None) };
    let numbers = match extensions.get("GNU.sparse.map") {
        Some(map) if !map.is_empty() => map
            .split(|&byte| byte == b',')
            .map(|number| decimal(number).ok_or_else(bad))
            .collect::<Result<Vec<_>, _>>()?,
        _ => extensions.sparse_pairs.clone(),
    };
    Ok(Some(SparseMap::new(nonempty(pair_up(&numbers, name)?), size, *body, name)?))
}

fn nonempty(mut regions: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    regions.retain(|&(_, length)| length > 0);
    regions
}

/// Format 1.0: the map stands before the data, decimal lines padded to whole blocks.
fn map_in_body<B: Blocks>(blocks: &mut B, body: u64, name: &[u8]) -> Result<(Vec<u64>, u64), B::Error> {
    let bad = || TarError::Sparse { path: escape(name) };
    let (mut numbers, mut line, mut taken) = (Vec::new(), Vec::new(), 0);
    let mut wanted = None;
    while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
        let mut block = [0; BLOCK];
        if taken + BLOCK as u64 > body.next_multiple_of(BLOCK as u64) || taken >= LONGEST_MAP {
            return Err(bad().into());
        }
        if !blocks.fill(&mut block)? {
            return Err(TarError::Truncated("a sparse map").into());
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
    if taken > body { Err(bad().into()) } else { Ok((numbers, taken)) }
}
