//! Which file systems other machines can write to as well.

use std::io;
use std::os::fd::AsFd;

/// Magic numbers of `statfs(2)`, and what their file systems are called.
const SHARED: [(u32, &str); 8] = [
    (0x0000_6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
];

/// The name of the file system that an open file is on, if it is one that several machines can have mounted.
pub fn shared(file: impl AsFd) -> io::Result<Option<&'static str>> {
    Ok(name(rustix::fs::fstatfs(file)?.f_type))
}

/// The type of the field differs between architectures; the magic number is in its lower 32 bits.
fn name<T: TryInto<i128>>(magic: T) -> Option<&'static str> {
    let magic: i128 = magic.try_into().ok()?;
    let magic = u32::try_from(magic & 0xffff_ffff).ok()?;
    SHARED.iter().find(|(shared, _)| *shared == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_several_machines_are_known_by_their_magic() {
        assert_eq!(name(0x6969_i64), Some("NFS"));
        // As an architecture with a field of 32 bits has it.
        assert_eq!(name(0xff53_4d42_u32.cast_signed()), Some("CIFS"));
        assert_eq!(name(0xef53_i64), None);
        assert_eq!(shared(std::fs::File::open("/proc").unwrap()).unwrap(), None);
    }
}
