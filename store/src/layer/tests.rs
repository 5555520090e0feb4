//! Whole layers: what other programs write, what nobody should, and that every byte comes back.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::LayerError;
use super::entry::{Entry, EntryKind};
use super::ingest::{Ingested, Limits, ingest};
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
        let index = Index::open(&self.scratch.path().join("index.db"), Durability::Consistent).unwrap();
        let mut sink = Ingest::start(&self.pool, index, rand_number(&self.pool)).unwrap();
        let mut record = Vec::new();
        let ingested = ingest(&mut &*tar, &mut sink, &mut record, &Limits::default())?;
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
