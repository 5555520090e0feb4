//! Text from strangers made harmless for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `text` with every character that a terminal would act on, instead of show, written as an escape.
///
/// Those are the control characters (C0, DEL and C1: ECMA-48 gives both sets commands), line and paragraph separators,
/// and the marks that reorder text (Unicode UAX #9), with which a name can pose as another. A backslash stays as it
/// is: the result is for people, not for parsing.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if !is_harmful(character) {
            safe.push(character);
            continue;
        }
        // Writing to a string cannot fail.
        let _ = match character {
            '\n' => safe.write_str("\\n"),
            '\t' => safe.write_str("\\t"),
            '\r' => safe.write_str("\\r"),
            _ if u32::from(character) < 0x100 => write!(safe, "\\x{:02x}", u32::from(character)),
            _ => write!(safe, "\\u{{{:x}}}", u32::from(character)),
        };
    }
    Cow::Owned(safe)
}

/// As [`escape`], for a file name of any bytes: what is not UTF-8 becomes `\xNN`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        safe.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// `value` with all its strings, keys too, escaped.
pub fn escape_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(escape(text).into_owned()),
        Value::Array(items) => items.iter().map(escape_value).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (escape(name).into_owned(), escape_value(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Writes `value` as JSON indented by four, harmful characters as `\uNNNN`.
pub(super) fn write_json(value: &Value, writer: &mut impl Write) -> io::Result<()> {
    let formatter = HarmlessFormatter(PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut Serializer::with_formatter(writer, formatter))?;
    Ok(())
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}'
                | '\u{200f}'
                | '\u{061c}'
                | '\u{2028}'
                | '\u{2029}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// Serde's own escapes end at U+001F; DEL, C1 and the reordering marks are added here.
struct HarmlessFormatter(PrettyFormatter<'static>);

impl Formatter for HarmlessFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_harmful) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut characters = from.chars();
            if let Some(character) = characters.next() {
                // All of them are below U+10000: one UTF-16 unit each.
                write!(writer, "\\u{:04x}", u32::from(character))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ordinary_text_is_left_alone_and_not_copied() {
        for text in ["", "debian:12", "naïve 日本 \\n", "a b"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn characters_that_a_terminal_acts_on_are_shown() {
        assert_eq!(escape("\u{1b}[31mred"), "\\x1b[31mred");
        assert_eq!(escape("a\nb\tc\rd\0"), "a\\nb\\tc\\rd\\x00");
        assert_eq!(escape("\u{7f}\u{9b}31m"), "\\x7f\\x9b31m");
        assert_eq!(escape("\u{202e}gpj"), "\\u{202e}gpj");
    }

    #[test]
    fn names_of_any_bytes_can_be_shown() {
        assert_eq!(escape_bytes(b"caf\xe9\x1b\xff"), "caf\\xe9\\x1b\\xff");
        assert_eq!(escape_bytes("é".as_bytes()), "é");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = json!({"a\u{9b}": ["\u{1b}\u{7f}\u{202e}\u{2028}\"é"], "n": 1.5, "e": []});
        let mut text = Vec::new();
        write_json(&value, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(!text.contains(['\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}']));
    }

    #[test]
    fn a_whole_value_can_be_escaped() {
        assert_eq!(escape_value(&json!({"k\n": ["\u{7}", 1, null]})), json!({"k\\n": ["\\x07", 1, null]}));
    }

    proptest::proptest! {
        #[test]
        fn nothing_harmful_is_left(text in "\\PC*|[\u{0}-\u{ff}\u{2028}-\u{202f}]*", bytes: Vec<u8>) {
            for safe in [escape(&text).into_owned(), escape_bytes(&bytes)] {
                assert!(!safe.contains(is_harmful), "{safe:?}");
            }
        }
    }
}
