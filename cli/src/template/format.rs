//! Values as text, as Go's package fmt prints them.

use std::fmt::Write as _;

use serde_json::{Number, Value};

use super::evaluate::sorted;

/// The greatest width or precision, so that no template asks for gigabytes of spaces.
const MAX_WIDTH: usize = 10_000;

/// A value as `%v` prints it: lists as `[a b]`, objects as `map[k:v]`, nothing as `<nil>`.
pub(super) fn display(value: &Value) -> String {
    Directive::plain('v').format(value)
}

/// The Go type of a value, for error messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Fills `arguments` into `format`.
///
/// As in Go a verb that does not fit its argument is no failure but shows as `%!d(string=x)`. Errors: argument indexes
/// (`%[1]d`) and widths from arguments (`%*d`), which are not supported, and widths beyond reason.
pub(super) fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut output = String::new();
    let mut arguments_left = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        output.push_str(&rest[..at]);
        let (directive, after) = Directive::read(&rest[at + 1..])?;
        rest = after;
        match directive {
            None => output.push_str("%!(NOVERB)"),
            Some(Directive { verb: '%', .. }) => output.push('%'),
            Some(directive) => match arguments_left.next() {
                Some(argument) => output.push_str(&directive.format(argument)),
                None => {
                    let _ = write!(output, "%!{}(MISSING)", directive.verb);
                }
            },
        }
    }
    output.push_str(rest);
    let extra: Vec<_> = arguments_left
        .map(|value| match value {
            Value::Null => display(value),
            _ => format!("{}={}", type_name(value), display(value)),
        })
        .collect();
    if !extra.is_empty() {
        let _ = write!(output, "%!(EXTRA {})", extra.join(", "));
    }
    Ok(output)
}

/// What stands between `%` and its verb, and the verb.
#[derive(Clone, Debug)]
struct Directive {
    verb: char,
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

impl Directive {
    fn plain(verb: char) -> Self {
        Self { verb, left: false, plus: false, space: false, zero: false, sharp: false, width: 0, precision: None }
    }

    /// The directive whose text after the percent sign is `text`, `None` without a verb, and what follows it.
    fn read(text: &str) -> Result<(Option<Self>, &str), String> {
        let mut directive = Self::plain('v');
        let mut rest = text;
        while let Some(flag) = rest.chars().next() {
            match flag {
                '-' => directive.left = true,
                '+' => directive.plus = true,
                ' ' => directive.space = true,
                '0' => directive.zero = true,
                '#' => directive.sharp = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        (directive.width, rest) = digits(rest)?;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = digits(after)?;
            directive.precision = Some(precision);
            rest = after;
        }
        let mut characters = rest.chars();
        match characters.next() {
            None => Ok((None, rest)),
            Some('[' | '*') => Err("argument indexes and '*' are not supported".into()),
            Some(verb) => {
                directive.verb = verb;
                Ok((Some(directive), characters.as_str()))
            }
        }
    }

    fn format(&self, value: &Value) -> String {
        match value {
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| self.format(item)).collect();
                format!("[{}]", items.join(" "))
            }
            Value::Object(fields) => {
                let fields: Vec<_> = sorted(fields)
                    .into_iter()
                    .map(|(name, value)| format!("{}:{}", self.format(&Value::from(name)), self.format(value)))
                    .collect();
                format!("map[{}]", fields.join(" "))
            }
            _ => match self.scalar(value) {
                Some(text) => self.padded(text, value.is_number()),
                None => self.misfit(value),
            },
        }
    }

    /// A scalar by this verb; `None` if the verb is not for it.
    fn scalar(&self, value: &Value) -> Option<String> {
        if self.verb == 'T' {
            return Some(type_name(value).into());
        }
        match value {
            Value::Null if self.verb == 'v' => Some("<nil>".into()),
            Value::Bool(value) if matches!(self.verb, 'v' | 't') => Some(value.to_string()),
            Value::String(text) => self.string(text),
            Value::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() => self.float(float),
                _ => self.integer(number),
            },
            _ => None,
        }
    }

    fn string(&self, text: &str) -> Option<String> {
        let cut: String = match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        };
        match self.verb {
            'v' if self.sharp => Some(quote(&cut)),
            'v' | 's' => Some(cut),
            'q' => Some(quote(&cut)),
            'x' => Some(hexadecimal(&cut)),
            'X' => Some(hexadecimal(&cut).to_ascii_uppercase()),
            _ => None,
        }
    }

    fn integer(&self, number: &Number) -> Option<String> {
        let value = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))?;
        let magnitude = value.unsigned_abs();
        let character = || char::from_u32(u32::try_from(value).ok()?);
        let digits = match self.verb {
            'v' | 'd' => magnitude.to_string(),
            'b' => format!("{magnitude:b}"),
            'o' => format!("{}{magnitude:o}", if self.sharp { "0" } else { "" }),
            'x' => format!("{}{magnitude:x}", if self.sharp { "0x" } else { "" }),
            'X' => format!("{}{magnitude:X}", if self.sharp { "0X" } else { "" }),
            'c' => return Some(character().unwrap_or('\u{fffd}').into()),
            'q' => {
                let quoted = quote(&String::from(character().unwrap_or('\u{fffd}')));
                let inner = quoted[1..quoted.len() - 1].replace("\\\"", "\"");
                return Some(match inner.as_str() {
                    "'" => "'\\''".into(),
                    _ => format!("'{inner}'"),
                });
            }
            'U' => return Some(format!("U+{magnitude:04X}")),
            _ => return None,
        };
        Some(format!("{}{digits}", self.sign(value < 0)))
    }

    fn float(&self, value: f64) -> Option<String> {
        let magnitude = value.abs();
        let digits = match self.verb {
            'v' | 'g' if self.precision.is_none() => shortest(magnitude),
            'f' | 'F' => format!("{magnitude:.*}", self.precision.unwrap_or(6)),
            'e' => scientific(&format!("{magnitude:.*e}", self.precision.unwrap_or(6))),
            _ => return None,
        };
        Some(format!("{}{digits}", self.sign(value.is_sign_negative())))
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        }
    }

    /// `text` filled up to the width, with zeros behind the sign if that was asked for.
    fn padded(&self, text: String, is_number: bool) -> String {
        let Some(missing) = self.width.checked_sub(text.chars().count()) else {
            return text;
        };
        if self.left {
            return text + &" ".repeat(missing);
        }
        if !self.zero || !is_number {
            return " ".repeat(missing) + &text;
        }
        let signed = text.starts_with(['-', '+', ' ']);
        let (sign, digits) = text.split_at(usize::from(signed));
        format!("{sign}{}{digits}", "0".repeat(missing))
    }

    fn misfit(&self, value: &Value) -> String {
        match value {
            Value::Null => format!("%!{}(<nil>)", self.verb),
            _ => format!("%!{}({}={})", self.verb, type_name(value), display(value)),
        }
    }
}

fn hexadecimal(text: &str) -> String {
    let mut digits = String::with_capacity(2 * text.len());
    for byte in text.bytes() {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn digits(text: &str) -> Result<(usize, &str), String> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Ok((0, rest));
    }
    match digits.parse() {
        Ok(width) if width <= MAX_WIDTH => Ok((width, rest)),
        _ => Err(format!("width {digits} is too large")),
    }
}

/// The fewest digits that read back as `value`, which is not negative; with an exponent if that is below -4 or above
/// 5 (Go's `%g`).
fn shortest(value: f64) -> String {
    let text = format!("{value:e}");
    let exponent: i32 = text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if (-4..6).contains(&exponent) { format!("{value}") } else { scientific(&text) }
}

/// Rust's `1e7` as C and Go write it: `1e+07`.
fn scientific(text: &str) -> String {
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text.to_owned(),
    }
}

/// `text` as a Go string literal. Letters of all scripts stay, what cannot be seen is escaped.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            _ if is_printable(character) => quoted.push(character),
            _ => {
                let code = u32::from(character);
                let _ = match code {
                    0..0x80 => write!(quoted, "\\x{code:02x}"),
                    0x80..0x1_0000 => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a character leaves a mark. The standard library tells by what its debug escapes keep; a letter goes before
/// because an accent is kept only behind one.
fn is_printable(character: char) -> bool {
    let pair = format!("x{character}");
    character == '\'' || pair.escape_debug().eq(pair.chars())
}

#[cfg(test)]
mod tests {
    use crate::template::Template;
    use serde_json::json;

    fn rendered(text: &str) -> String {
        let data = json!({"Env": ["A=b c", "Q="], "Labels": {"blue": "image"}, "Mac": "/Users/e\u{301}"});
        Template::parse(text).unwrap().render(&data).unwrap()
    }

    fn check(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(rendered(text), *expected, "{text}");
        }
    }

    #[test]
    fn verbs_print_as_in_go() {
        check(&[
            (r#"{{printf "%5.2f|%-5s|%05d|%x" 3.14159 "ab" 42 "hi"}}"#, " 3.14|ab   |00042|6869"),
            (r#"{{printf "%+d % d %x %X %o %b %c %U" 5 5 255 255 8 5 65 65}}"#, "+5  5 ff FF 10 101 A U+0041"),
            (r#"{{printf "%6.2f|%g|%e|%v" 1.5 1e7 1e7 1e7}}"#, "  1.50|1e+07|1.000000e+07|1e+07"),
            (r#"{{printf "%t %v %5t|" true false true}}"#, "true false  true|"),
            (r#"{{printf "%-8q|%8s|%.2s|" "a" "bc" "def"}}"#, "\"a\"     |      bc|de|"),
            (r#"{{printf "%#v %#x %T" "a" 255 "s"}}"#, "\"a\" 0xff string"),
            (r#"{{printf "%q %s %v" .Env .Labels .Labels}}"#, "[\"A=b c\" \"Q=\"] map[blue:image] map[blue:image]"),
            (r#"{{printf "100%% %06d" -42}}"#, "100% -00042"),
        ]);
    }

    #[test]
    fn quoted_text_is_a_literal() {
        check(&[
            (r#"{{printf "%q %q" "é\u202e\n" 65}}"#, "\"é\\u202e\\n\" 'A'"),
            (r#"{{printf "%q" "a\x1b\"'\\"}}"#, r#""a\x1b\"'\\""#),
            (r#"{{.Mac | printf "%q"}}"#, "\"/Users/e\u{301}\""),
            (r#"{{printf "%q %q %q" '\'' '"' '\n'}}"#, r#"'\'' '"' '\n'"#),
        ]);
    }

    #[test]
    fn what_does_not_fit_is_shown_not_hidden() {
        check(&[
            (r#"{{printf "%d" "x"}} {{printf "%s" 3}}"#, "%!d(string=x) %!s(int=3)"),
            (r#"{{printf "%s %d" true 1.5}}"#, "%!s(bool=true) %!d(float64=1.5)"),
            (r#"{{printf "%d"}} {{printf "%d" 1 2}}"#, "%!d(MISSING) 1%!(EXTRA int=2)"),
            (r#"{{printf "%z" 1}} {{printf "%s" nil}}"#, "%!z(int=1) %!s(<nil>)"),
            (r#"{{printf "%!" 1}} {{printf "%"}}"#, "%!!(int=1) %!(NOVERB)"),
        ]);
    }

    #[test]
    fn widths_are_limited() {
        for text in [r#"{{printf "%99999999s" "x"}}"#, r#"{{printf "%*d" 5 3}}"#] {
            let template = Template::parse(text).unwrap();
            assert!(template.render(&json!(null)).is_err());
        }
    }
}
