//! PAX extended headers (POSIX.1-2017, `pax`, "pax Extended Header"): records "LENGTH KEY=VALUE\n", walked by length, so that no value
//! can pass for a further record.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::TarError;
use crate::entry::Timestamp;
use crate::error::escape;

/// Key and value.
pub type Record<'a> = (&'a [u8], &'a [u8]);

const NANOSECONDS: usize = 9;
/// Prefix of the keys of extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// Bytes of keys and values that global headers may have in force at once. What they say is looked at for every member.
const MOST_GLOBAL: usize = 64 * 1024;
/// Longest number that is read, leading zeros and fraction included: no work for a member grows with a global value.
const LONGEST_NUMBER: usize = 128;

/// Splits an extended header into its records, in order.
///
/// # Errors
/// [`TarError::Pax`] with `offset`, where any record breaks the rules.
pub fn records(mut body: &[u8], offset: u64) -> Result<Vec<Record<'_>>, TarError> {
    let malformed = || TarError::Pax(offset);
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().take(20).position(|&byte| byte == b' ').ok_or_else(malformed)?;
        let length = decimal(&body[..space]).and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
        if length <= space + 1 || length > body.len() || body[length - 1] != b'\n' {
            return Err(malformed());
        }
        let record = &body[space + 1..length - 1];
        let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(malformed)?;
        if equals == 0 {
            return Err(malformed());
        }
        records.push((&record[..equals], &record[equals + 1..]));
        body = &body[length..];
    }
    Ok(records)
}

/// Keys with their values.
type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// What global headers say of all members that follow. Members share it: it is never copied for one of them.
#[derive(Debug, Default)]
pub struct Globals(Arc<Values>);

impl Globals {
    /// Takes the records of one global header. An empty value takes a key of an earlier one back.
    ///
    /// # Errors
    /// Broken records; extended attributes and sparse maps, which would be copied for each member; more than
    /// 64 KiB that are in force at once.
    pub fn extend(&mut self, body: &[u8], offset: u64) -> Result<(), TarError> {
        let values = Arc::make_mut(&mut self.0);
        for (key, value) in records(body, offset)? {
            if key.starts_with(XATTR) || key.starts_with(b"GNU.sparse.") {
                return Err(TarError::Global(escape(key)));
            }
            if value.is_empty() {
                values.remove(key);
            } else {
                values.insert(key.to_vec(), value.to_vec());
            }
        }
        let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MOST_GLOBAL {
            return Err(TarError::Limit { what: "bytes of global PAX headers", limit: MOST_GLOBAL as u64 });
        }
        Ok(())
    }
}

/// What extended headers say of one member: its own header, and below that the global ones.
#[derive(Debug, Default)]
pub struct Extensions {
    global: Arc<Values>,
    own: Values,
    /// GNU sparse format 0.0 repeats its keys, so their order counts.
    pub sparse_pairs: Vec<u64>,
}

impl Extensions {
    /// Reads the records of the member's own header; later ones win over earlier ones.
    ///
    /// # Errors
    /// Broken records.
    pub fn parse(body: &[u8], offset: u64) -> Result<Self, TarError> {
        let mut extensions = Self::default();
        for (key, value) in records(body, offset)? {
            if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                let number = decimal(value).ok_or_else(|| TarError::PaxValue(escape(key)))?;
                extensions.sparse_pairs.push(number);
            } else {
                extensions.own.insert(key.to_vec(), value.to_vec());
            }
        }
        Ok(extensions)
    }

    /// The same above what is said of all members.
    #[must_use]
    pub fn above(self, globals: &Globals) -> Self {
        Self { global: Arc::clone(&globals.0), ..self }
    }

    /// The value of a key. An empty one of the member's own takes back what a global header says.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let value = self.own.get(key.as_bytes()).or_else(|| self.global.get(key.as_bytes()))?;
        (!value.is_empty()).then_some(value.as_slice())
    }

    /// The value of a key as a number.
    pub fn number(&self, key: &str) -> Result<Option<u64>, TarError> {
        let parse = |value| decimal(value).ok_or_else(|| TarError::PaxValue(key.to_owned()));
        self.get(key).map(parse).transpose()
    }

    /// The value of a key as a path: no NUL may be in it.
    pub fn text(&self, key: &str) -> Result<Option<&[u8]>, TarError> {
        match self.get(key) {
            Some(value) if value.contains(&0) => Err(TarError::PaxValue(key.to_owned())),
            other => Ok(other),
        }
    }

    /// `mtime`, to the nanosecond; further digits are cut off, as GNU tar does.
    pub fn mtime(&self) -> Result<Option<Timestamp>, TarError> {
        let parse = |value| timestamp(value).ok_or_else(|| TarError::PaxValue("mtime".to_owned()));
        self.get("mtime").map(parse).transpose()
    }

    /// Extended attributes: names without the prefix of their key. Their values may be empty.
    pub fn xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.own.iter().filter_map(move |(key, value)| Some((key.strip_prefix(XATTR)?, value.as_slice())))
    }
}

/// Digits and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > LONGEST_NUMBER || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if fraction.len() > LONGEST_NUMBER || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0;
    for place in 0..NANOSECONDS {
        nanoseconds = nanoseconds * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_smuggle_a_record() {
        let body = b"48 comment=innocent\n22 linkpath=/etc/evil\nxxxxx\n";
        let records = records(body, 0).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].0, b"comment");
    }

    #[test]
    fn records_that_break_the_rules_are_refused() {
        for body in ["0 a=b\n", "+7 a=b\n", "6 a=b", "99 a=b\n", "6 =bb\n", "5 ab\n", "a=b\n", "6 a=b\n\n"] {
            assert!(records(body.as_bytes(), 0).is_err(), "{body:?}");
        }
    }

    #[test]
    fn times_keep_their_nanoseconds_and_sign() {
        let time = |text: &str| timestamp(text.as_bytes());
        assert_eq!(time("12.5"), Some(Timestamp { seconds: 12, nanoseconds: 500_000_000 }));
        assert_eq!(time("-1.25"), Some(Timestamp { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(time("1.1234567899999"), Some(Timestamp { seconds: 1, nanoseconds: 123_456_789 }));
        for bad in ["nan", "", "1e5", "9223372036854775808", "1.x", "--1"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_a_members_own_over_the_global_one() {
        let mut globals = Globals::default();
        globals.extend(b"9 path=g\n8 uid=4\n8 gid=4\n", 0).unwrap();
        globals.extend(b"7 gid=\n", 0).unwrap();
        let extensions = Extensions::parse(b"9 path=a\n9 path=b\n7 uid=\n", 0).unwrap().above(&globals);
        assert_eq!(extensions.get("path"), Some(b"b".as_slice()));
        assert_eq!((extensions.get("uid"), extensions.get("gid")), (None, None));
        let other = Extensions::default().above(&globals);
        assert_eq!((other.get("path"), other.get("uid")), (Some(b"g".as_slice()), Some(b"4".as_slice())));
    }

    #[test]
    fn numbers_of_any_length_are_no_work() {
        assert_eq!(decimal(&[b"0".repeat(100).as_slice(), b"7"].concat()), Some(7));
        assert_eq!(decimal(&b"0".repeat(1000)), None);
        assert_eq!(timestamp(&[b"1.".as_slice(), &b"0".repeat(1000)].concat()), None);
    }
}
