//! Whole layers: what other programs write, what nobody should, and that every byte comes back.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::LayerError;
use super::entry::{Entry, EntryKind};
use super::ingest::{Ingested, ingest};
use super::limits::Limits;
use super::record::{RecordReader, write_tar};
use super::whiteout::Change;
use crate::digest::Digest;
use crate::index::{Durability, Index};
use crate::pool::{Ingest, Packs, Pool};
use crate::sys::dir::Dir;

struct Fixture {
    scratch: tempfile::TempDir,
    pool: Pool,
}

impl Fixture {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = Dir::open(scratch.path()).unwrap();
        let packs = Packs::new(root.ensure_dir(b"packs", 0o700).unwrap(), scratch.path().join("index.db"));
        let pool = Pool::new(root.ensure_dir(b"objects", 0o700).unwrap(), packs);
        Self { scratch, pool }
    }

    fn ingest(&self, tar: &[u8]) -> Result<(Ingested, Vec<u8>, Ingest), LayerError> {
        self.ingest_within(tar, &Limits::default())
    }

    fn ingest_within(&self, tar: &[u8], limits: &Limits) -> Result<(Ingested, Vec<u8>, Ingest), LayerError> {
        let index = Index::open(&self.scratch.path().join("index.db"), Durability::Consistent).unwrap();
        let mut sink = Ingest::start(&self.pool, index, rand_number(&self.pool)).unwrap();
        let mut record = Vec::new();
        let ingested = ingest(&mut &*tar, &mut sink, &mut record, limits)?;
        Ok((ingested, record, sink))
    }

    /// Reads a tar, writes it again, demands equality, and gives its changes.
    fn round_trip(&self, tar: &[u8]) -> Vec<Change> {
        let (ingested, record, sink) = self.ingest(tar).unwrap();
        sink.keep().unwrap();
        assert_eq!(ingested.diff_id, Digest::of(tar));
        let mut again = Vec::new();
        let written = write_tar(RecordReader::new(&*record).unwrap(), &self.pool, &mut again).unwrap();
        assert_eq!(written, tar.len() as u64);
        assert!(again == tar, "the tar that was written again differs");
        RecordReader::new(&*record).unwrap().changes().map(Result::unwrap).collect()
    }

    fn refuses(&self, tar: &[u8]) -> String {
        self.ingest(tar).map(|_| ()).expect_err("the layer must be refused").to_string()
    }
}

fn rand_number(pool: &Pool) -> u64 {
    pool.dir().entries().unwrap().len() as u64 + 1
}

/// One member: header fields by hand, body padded.
fn member(name: &str, flag: u8, link: &str, body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.as_old_mut().linkflag = [flag];
    header.set_mode(0o644);
    header.set_size(body.len() as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    member("PaxHeader", b'x', "", &body)
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

fn added(changes: &[Change]) -> Vec<&Entry> {
    changes.iter().filter_map(|change| if let Change::Add(entry, _) = change { Some(entry) } else { None }).collect()
}

fn gnu_tar(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(arguments).args(["-cf", "-", "-C"]).arg(folder).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sample_files(folder: &Path) {
    std::fs::create_dir_all(folder.join("d/e")).unwrap();
    std::fs::write(folder.join("d/small"), b"small").unwrap();
    std::fs::write(folder.join("d/empty"), b"").unwrap();
    std::fs::write(folder.join("large"), vec![7; 700_001]).unwrap();
    std::fs::write(folder.join("d/e").join("long".repeat(40)), b"long name").unwrap();
    std::fs::hard_link(folder.join("d/small"), folder.join("d/second")).unwrap();
    std::os::unix::fs::symlink("../large", folder.join("d/link")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), folder.join("d/longlink")).unwrap();
    let mut sparse = std::fs::File::create(folder.join("sparse")).unwrap();
    for offset in [0_u64, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000] {
        std::io::Seek::seek(&mut sparse, std::io::SeekFrom::Start(offset)).unwrap();
        sparse.write_all(b"data").unwrap();
    }
    sparse.set_len(8_000_000).unwrap();
    std::fs::File::create(folder.join("hole")).unwrap().set_len(1_000_000).unwrap();
}

#[test]
fn every_format_of_gnu_tar_is_read_and_comes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    sample_files(folder.path());
    let formats: [&[&str]; 6] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=pax"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ];
    for format in formats {
        let fixture = Fixture::new();
        let changes = fixture.round_trip(&gnu_tar(folder.path(), format));
        let mut contents = 0;
        for change in &changes {
            let Change::Add(entry, Some(object)) = change else { continue };
            let original =
                std::fs::read(folder.path().join(std::str::from_utf8(entry.path.as_bytes()).unwrap())).unwrap();
            let hash = fixture.pool.rehash(*object).unwrap();
            assert_eq!(hash, (blake3::hash(&original).into(), original.len() as u64), "{format:?} {}", entry.path);
            contents += 1;
        }
        assert_eq!(contents, 5, "{format:?}");
        assert_eq!(added(&changes).len(), 12, "{format:?}");
    }
}

#[test]
fn a_value_of_a_pax_record_cannot_rename_the_member() {
    let record = pax(&[("comment", b"x\n22 linkpath=/etc/evil\n22 path=/etc/smuggled1\n")]);
    let tar = [record, member("honest", b'0', "", b"x"), end()].concat();
    let changes = Fixture::new().round_trip(&tar);
    assert_eq!(added(&changes)[0].path.as_bytes(), b"honest");
}

#[test]
fn the_size_of_a_pax_header_wins_and_is_not_for_the_long_name() {
    let mut file = member("f", b'0', "", b"0123456789");
    // The ustar field claims nothing, the PAX header ten bytes.
    let mut header = tar::Header::from_byte_slice(&file[..512]).clone();
    header.set_size(0);
    header.set_cksum();
    file[..512].copy_from_slice(header.as_bytes());
    let tar = [pax(&[("size", b"10")]), member("././@LongLink", b'L', "", b"longer\0"), file, end()].concat();
    let changes = Fixture::new().round_trip(&tar);
    assert_eq!(added(&changes)[0].path.as_bytes(), b"longer");
    assert_eq!(added(&changes)[0].kind, EntryKind::Regular { size: 10 });
}

#[test]
fn hostile_layers_are_refused_with_the_reason() {
    let forged = pax(&[("SCHILY.xattr.user.overlay.redirect", b"/1/0")]);
    let nul = pax(&[("path", b"a\0b")]);
    let twice = [pax(&[("path", b"a")]), member("././@LongLink", b'L', "", b"b\0")].concat();
    let file = || member("f", b'0', "", b"x");
    let mut truncated = member("f", b'0', "", &[1; 2000]);
    truncated.truncate(1500);
    let mut checksum = file();
    checksum[0] ^= 1;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("upwards", [member("a/../../x", b'0', "", b"x"), end()].concat()),
        ("upwards", [member("h", b'1', "../../etc/passwd", b""), end()].concat()),
        ("overlay", [forged, file(), end()].concat()),
        ("path", [nul, file(), end()].concat()),
        ("ambiguous", [twice, file(), end()].concat()),
        ("cut short", truncated),
        ("checksum", checksum),
        ("PAX", [member("p", b'x', "", b"99 a=b\n"), file(), end()].concat()),
        ("extended header", [pax(&[("comment", b"x")]), end()].concat()),
        ("whiteout", [member("d/.wh..", b'0', "", b""), end()].concat()),
        ("root", [member("./", b'2', "/etc", b""), end()].concat()),
        ("mtime", [pax(&[("mtime", b"nan")]), file(), end()].concat()),
        ("uid", [pax(&[("uid", b"4294967295")]), file(), end()].concat()),
        (
            "sparse",
            [pax(&[("GNU.sparse.size", b"4611686018427387904"), ("GNU.sparse.map", b"")]), file(), end()].concat(),
        ),
    ];
    for (reason, tar) in cases {
        let fixture = Fixture::new();
        let said = fixture.refuses(&tar);
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(!said.contains('\n') && fixture.pool.dir().entries().unwrap().is_empty(), "{reason} left something");
    }
}

/// A member of an extended header with a flag of choice.
fn header(flag: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = pax(records);
    let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
    header.as_old_mut().linkflag = [flag];
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    bytes
}

#[test]
fn headers_before_one_member_are_bounded_in_number_and_in_sum() {
    let file = || member("f", b'0', "", b"x");
    let large = vec![b'v'; 600_000];
    let sum = [pax(&[("comment", &large)]), pax(&[("comment", &large)]), file(), end()].concat();
    let said = Fixture::new().refuses(&sum);
    assert!(said.contains("1048576") && said.contains("headers"), "{said}");
    let many = [pax(&[("comment", b"x")]).repeat(17), file(), end()].concat();
    let said = Fixture::new().refuses(&many);
    assert!(said.contains("16") && said.contains("headers"), "{said}");
    let names = [member("././@LongLink", b'L', "", b"long\0").repeat(17), file(), end()].concat();
    assert!(Fixture::new().refuses(&names).contains("headers"));
    // For each member anew, and what is for all of them once.
    let fair = [pax(&[("comment", &large)]), file(), pax(&[("comment", &large)]), member("g", b'0', "", b"x"), end()];
    assert_eq!(Fixture::new().round_trip(&fair.concat()).len(), 2);
    let global = [header(b'g', &[("comment", &large)]), file(), end()].concat();
    let said = Fixture::new().refuses(&global);
    assert!(said.contains("global") && said.contains("65536"), "{said}");
    let attribute = [header(b'g', &[("SCHILY.xattr.user.a", b"v")]), file(), end()].concat();
    assert!(Fixture::new().refuses(&attribute).contains("SCHILY.xattr.user.a"));
}

#[test]
fn the_last_of_two_extended_headers_is_the_one_that_counts() {
    let tar = [
        header(b'g', &[("mtime", b"7")]),
        pax(&[("path", b"first"), ("uid", b"5")]),
        pax(&[("gid", b"6")]),
        member("own", b'0', "", b"x"),
        end(),
    ];
    let changes = Fixture::new().round_trip(&tar.concat());
    let entry = added(&changes)[0];
    let (uid, gid, seconds) = (entry.metadata.uid, entry.metadata.gid, entry.metadata.mtime.seconds);
    assert_eq!((entry.path.as_bytes(), uid, gid, seconds), (b"own".as_slice(), 0, 6, 7));
    // A key without a value takes back what the global header says.
    let tar = [header(b'g', &[("mtime", b"7")]), pax(&[("mtime", b"")]), member("own", b'0', "", b"x"), end()];
    assert_eq!(added(&Fixture::new().round_trip(&tar.concat()))[0].metadata.mtime.seconds, 0);
}

#[test]
fn a_link_is_no_longer_than_the_kernel_takes() {
    let link = |length: usize| [pax(&[("linkpath", &vec![b'x'; length])]), member("l", b'2', "", b""), end()].concat();
    assert_eq!(Fixture::new().round_trip(&link(4095)).len(), 1);
    let said = Fixture::new().refuses(&link(4096));
    assert!(said.contains("l: ") && said.contains("4095"), "{said}");
}

/// A device with its numbers, which may be too large for their fields and are base-256 then.
fn device(name: &str, flag: u8, major: u32, minor: u32) -> Vec<u8> {
    let mut bytes = member(name, flag, "", b"");
    for (field, number) in [(329, major), (337, minor)] {
        bytes[field..field + 8].fill(0);
        bytes[field] = 0x80;
        bytes[field + 4..field + 8].copy_from_slice(&number.to_be_bytes());
    }
    let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn devices_beyond_the_kernels_numbers_are_refused() {
    let kinds = [EntryKind::CharDevice { major: 4095, minor: 0xf_ffff }];
    let changes = Fixture::new().round_trip(&[device("d", b'3', 4095, 0xf_ffff), end()].concat());
    assert_eq!(added(&changes)[0].kind, kinds[0]);
    for (major, minor) in [(4104, 0), (4096, 0), (0, 1 << 20), (u32::MAX, 0), (8, u32::MAX)] {
        for flag in [b'3', b'4'] {
            let said = Fixture::new().refuses(&[device("dev/odd", flag, major, minor), end()].concat());
            assert!(said.contains("dev/odd") && said.contains(&format!("{major}:{minor}")), "{said}");
        }
    }
}

/// A sparse file of GNU's format 1.0 that is all hole.
fn hole(name: &str, size: u64) -> Vec<u8> {
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    let size = size.to_string();
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", name.as_bytes()),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    [pax(&records), member("made-up", b'0', "", &map)].concat()
}

#[test]
fn holes_are_bounded_for_all_members_together() {
    let said = Fixture::new().refuses(&[hole("a", 5 << 30), end()].concat());
    assert!(said.contains("a: ") && said.contains("holes") && said.contains("5368709120"), "{said}");
    let limits = Limits { logical: 1 << 20, ..Limits::default() };
    // Each for itself is accepted.
    let tar = [hole("a", 700_000), hole("b", 700_000), end()].concat();
    let said = Fixture::new().ingest_within(&tar, &limits).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("b: ") && said.contains("1400000"), "{said}");
    // Data that a header promises behind a hole makes no room for the hole.
    let promise: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"67108864"), ("GNU.sparse.map", b"62914560,4194304")];
    let mut promised = [pax(&promise), member("p", b'0', "", &vec![1; 4 << 20])].concat();
    promised.truncate(4096);
    let said = Fixture::new().ingest_within(&promised, &limits).map(|_| ()).unwrap_err().to_string();
    assert!(said.starts_with("p: ") && said.contains("holes"), "{said}");
    // What the tar itself holds makes more room.
    let data = member("data", b'0', "", &vec![1; 200_000]);
    let tar = [data, hole("a", 2 << 20), end()].concat();
    assert!(Fixture::new().ingest_within(&tar, &limits).is_ok());
}

#[test]
fn names_and_attributes_are_bounded_for_all_members_together() {
    let attribute = pax(&[("SCHILY.xattr.user.a", &[b'v'; 4000])]);
    let tar = [attribute, member("f", b'0', "", b"")].concat().repeat(10);
    let limits = Limits { metadata: 30_000, ..Limits::default() };
    let said = Fixture::new().ingest_within(&tar, &limits).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("30000 bytes of names and metadata"), "{said}");
    Fixture::new().ingest_within(&tar, &Limits { metadata: 60_000, ..limits }).unwrap();
}

#[test]
fn whiteouts_are_changes_and_other_marks_are_passed_over() {
    let tar = [
        member("d/.wh.gone", b'0', "", b""),
        member("d/.wh..wh..opq", b'0', "", b""),
        member(".wh..wh.plnk/1.2", b'0', "", b"left over"),
        member("volume", b'V', "", b""),
        member("kept", b'0', "", b"x"),
        end(),
        b"what follows the end mark".to_vec(),
    ]
    .concat();
    let changes = Fixture::new().round_trip(&tar);
    assert_eq!(changes.len(), 3);
    assert!(matches!(&changes[0], Change::Whiteout(path) if path.as_bytes() == b"d/gone"));
    assert!(matches!(&changes[1], Change::Opaque(path) if path.as_bytes() == b"d"));
}

#[test]
fn a_missing_end_mark_is_accepted() {
    assert_eq!(Fixture::new().round_trip(&member("f", b'0', "", b"x")).len(), 1);
    assert_eq!(Fixture::new().round_trip(b"").len(), 0);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever is done to an archive: it is read back bit for bit, or refused; nothing panics.
    #[test]
    fn mutations_never_panic(at in 0_usize..6144, byte: u8, cut in 0_usize..8192) {
        let mut tar = [
            pax(&[("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"v")]),
            member("f", b'0', "", b"content"),
            member("l", b'2', "target", b""),
            member("h", b'1', "f", b""),
            end(),
        ].concat();
        let at = at % tar.len();
        tar[at] = byte;
        tar.truncate(tar.len().min(cut.max(512)));
        let fixture = Fixture::new();
        if let Ok((ingested, record, _sink)) = fixture.ingest(&tar) {
            let mut again = Vec::new();
            write_tar(RecordReader::new(&*record).unwrap(), &fixture.pool, &mut again).unwrap();
            proptest::prop_assert_eq!(Digest::of(&again), ingested.diff_id);
            proptest::prop_assert!(RecordReader::new(&*record).unwrap().changes().all(|change| change.is_ok()));
        }
    }
}
