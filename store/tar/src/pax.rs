//! PAX extended headers (POSIX.1-2017, `pax`, "pax Extended Header"): records "LENGTH KEY=VALUE\n", walked by length, so that no value
//! can pass for a further record.

use std::collections::BTreeMap;

use crate::LayerError;
use crate::entry::Timestamp;
use crate::error::escape;

/// Key and value.
pub type Record<'a> = (&'a [u8], &'a [u8]);

const NANOSECONDS: usize = 9;

/// Splits an extended header into its records, in order.
///
/// # Errors
/// [`LayerError::Pax`] with `offset`, where any record breaks the rules.
pub fn records(mut body: &[u8], offset: u64) -> Result<Vec<Record<'_>>, LayerError> {
    let malformed = || LayerError::Pax(offset);
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

/// What extended headers say of the next member; later records win over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Extensions {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// GNU sparse format 0.0 repeats its keys, so their order counts.
    pub sparse_pairs: Vec<u64>,
}

impl Extensions {
    /// Takes the records of one extended header.
    pub fn extend(&mut self, body: &[u8], offset: u64) -> Result<(), LayerError> {
        for (key, value) in records(body, offset)? {
            if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                let number = decimal(value).ok_or_else(|| LayerError::PaxValue(escape(key)))?;
                self.sparse_pairs.push(number);
            } else if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
                // An empty value takes a key of an earlier header back.
                self.values.remove(key);
            } else {
                self.values.insert(key.to_vec(), value.to_vec());
            }
        }
        Ok(())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// The value of a key as a number.
    pub fn number(&self, key: &str) -> Result<Option<u64>, LayerError> {
        let parse = |value| decimal(value).ok_or_else(|| LayerError::PaxValue(key.to_owned()));
        self.get(key).map(parse).transpose()
    }

    /// The value of a key as a path: no NUL may be in it.
    pub fn text(&self, key: &str) -> Result<Option<&[u8]>, LayerError> {
        match self.get(key) {
            Some(value) if value.contains(&0) => Err(LayerError::PaxValue(key.to_owned())),
            other => Ok(other),
        }
    }

    /// `mtime`, to the nanosecond; further digits are cut off, as GNU tar does.
    pub fn mtime(&self) -> Result<Option<Timestamp>, LayerError> {
        let parse = |value| timestamp(value).ok_or_else(|| LayerError::PaxValue("mtime".to_owned()));
        self.get("mtime").map(parse).transpose()
    }

    /// Extended attributes: names without the prefix of their key.
    pub fn xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let prefix = b"SCHILY.xattr.".as_slice();
        self.values.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_slice())))
    }
}

/// Digits and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
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
    if !fraction.iter().all(u8::is_ascii_digit) {
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
    fn the_last_of_equal_keys_wins() {
        let mut extensions = Extensions::default();
        extensions.extend(b"9 path=a\n9 path=b\n", 0).unwrap();
        assert_eq!(extensions.get("path"), Some(b"b".as_slice()));
    }
}
