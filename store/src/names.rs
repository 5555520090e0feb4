//! The forms of the names that the store gives to its own files. What has another name is not the store's: it is never
//! removed, and `fsck` tells of it.

use std::str::FromStr;

use crate::digest::Digest;

/// The number that a name is, in base 10 or 16: written as the store writes it, without leading zeros or capitals.
pub(crate) fn number(name: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?;
    let number = u64::from_str_radix(text, radix).ok()?;
    let written = if radix == 16 { format!("{number:x}") } else { number.to_string() };
    (written == text).then_some(number)
}

/// Whether all of a name is so many lower-case hexadecimal digits.
fn is_hex(name: &[u8], digits: usize) -> bool {
    name.len() == digits && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A file in `objects/N`: an object, or one that is just being unpacked.
pub(crate) fn is_object(name: &[u8]) -> bool {
    number(name.strip_suffix(b".thaw").unwrap_or(name), 16).is_some()
}

/// A folder in `nodes/`.
pub(crate) fn is_node_folder(name: &[u8]) -> bool {
    is_hex(name, 2)
}

/// A shared inode in a folder of `nodes/`.
pub(crate) fn is_node(name: &[u8]) -> bool {
    is_hex(name, 30)
}

/// A file in `locks/`.
pub(crate) fn is_lock(name: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(name) else { return false };
    let is_tree = |rest: &str| {
        rest.rsplit_once('-').is_some_and(|(chain, _)| chain.is_empty() || Digest::from_str(chain).is_ok())
    };
    matches!(text, "index" | "settle" | "thaw" | "freeze")
        || text
            .strip_prefix("blob-")
            .is_some_and(|digest| is_hex(digest.as_bytes(), 64) || is_hex(digest.as_bytes(), 128))
        || text.strip_prefix("tree-").is_some_and(is_tree)
}

/// A file in `starts/`: an answer, or the draft of one with the number of the process that writes it.
pub(crate) fn is_start(name: &[u8]) -> bool {
    let mut parts = name.splitn(2, |byte| *byte == b'.');
    parts.next().is_some_and(|hash| is_hex(hash, 16))
        && parts.next().is_none_or(|process| number(process, 10).is_some())
}

/// What is in `tmp/`: folders with a number, files that are about to lose their name, and what the runner puts there.
pub(crate) fn is_scratch(name: &[u8]) -> bool {
    let runners = [&b"volume-"[..], b"copy-"];
    number(name, 10).is_some()
        || is_unnamed(name)
        || runners.iter().any(|prefix| name.strip_prefix(*prefix).is_some_and(|id| is_hex(id, 12)))
}

/// A file that was made where there are no nameless ones.
pub(crate) fn is_unnamed(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"unnamed-") else { return false };
    let mut numbers = rest.split(|byte| *byte == b'-');
    numbers.clone().count() == 2 && numbers.all(|text| number(text, 10).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_store_would_write_is_its_own() {
        assert_eq!((number(b"12", 10), number(b"5a3f000001", 16)), (Some(12), Some(0x5a_3f00_0001)));
        for foreign in ["", "+1", "01", "1 ", "-1", "thesis", "99999999999999999999"] {
            assert_eq!(number(foreign.as_bytes(), 10), None, "{foreign}");
        }
        assert_eq!((number(b"AB", 16), number(b"0ab", 16)), (None, None));
        assert!(is_object(b"1f") && is_object(b"1f.thaw") && !is_object(b"notes.txt") && !is_object(b".thaw"));
        assert!(is_node_folder(b"0f") && !is_node_folder(b"0F") && !is_node_folder(b"0f0"));
        assert!(is_node(&[b'a'; 30]) && !is_node(&[b'a'; 31]));
        assert!(is_scratch(b"7") && is_scratch(b"volume-0123456789ab") && is_scratch(b"unnamed-12-0"));
        assert!(!is_scratch(b"thesis") && !is_scratch(b"volume-mine") && !is_scratch(b"unnamed-12"));
        assert!(
            is_start(b"0123456789abcdef") && is_start(b"0123456789abcdef.12") && !is_start(b"0123456789abcdef.txt")
        );
    }

    #[test]
    fn locks_are_those_that_the_store_takes() {
        let digest = Digest::of(b"x");
        for own in [
            "index".to_owned(),
            format!("blob-{}", digest.hex()),
            format!("tree-{digest}-stub"),
            "tree--copy".to_owned(),
        ] {
            assert!(is_lock(own.as_bytes()), "{own}");
        }
        for foreign in ["thesis", "index.db", "blob-", "tree-oak-old"] {
            assert!(!is_lock(foreign.as_bytes()), "{foreign}");
        }
    }
}
