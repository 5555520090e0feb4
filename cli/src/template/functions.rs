//! The functions that a template can call.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::evaluate::is_true;
use super::format::{display, printf, type_name};

/// A function by its name in templates; the names are Go's, the last eight podman's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Compare(Comparison),
    Len,
    Index,
    Slice,
    Print,
    Printf,
    Println,
    Json,
    Join,
    Split,
    Lower,
    Upper,
    Title,
    Pad,
    Truncate,
}

/// A comparison of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};

const FUNCTIONS: &[(&str, Function)] = &[
    ("and", Function::And),
    ("or", Function::Or),
    ("not", Function::Not),
    ("eq", Function::Compare(Equal)),
    ("ne", Function::Compare(NotEqual)),
    ("lt", Function::Compare(Less)),
    ("le", Function::Compare(LessOrEqual)),
    ("gt", Function::Compare(Greater)),
    ("ge", Function::Compare(GreaterOrEqual)),
    ("len", Function::Len),
    ("index", Function::Index),
    ("slice", Function::Slice),
    ("print", Function::Print),
    ("printf", Function::Printf),
    ("println", Function::Println),
    ("json", Function::Json),
    ("join", Function::Join),
    ("split", Function::Split),
    ("lower", Function::Lower),
    ("upper", Function::Upper),
    ("title", Function::Title),
    ("pad", Function::Pad),
    ("truncate", Function::Truncate),
];

impl Function {
    /// The function with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// Its name in templates.
    pub(super) fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    /// Calls it. Errors: the arguments are too few, too many or of the wrong kind; the text says so.
    pub(super) fn call(self, arguments: &[Value]) -> Result<Value, String> {
        let (least, most) = self.arity();
        if arguments.len() < least || arguments.len() > most {
            let wanted = if least == most { least.to_string() } else { format!("at least {least}") };
            return Err(format!("wrong number of args for {}: want {wanted} got {}", self.name(), arguments.len()));
        }
        self.evaluate(arguments).map_err(|problem| format!("error calling {}: {problem}", self.name()))
    }

    /// The least and the greatest number of arguments.
    fn arity(self) -> (usize, usize) {
        match self {
            Self::Not | Self::Len | Self::Json | Self::Lower | Self::Upper | Self::Title => (1, 1),
            Self::Compare(NotEqual | Less | LessOrEqual | Greater | GreaterOrEqual)
            | Self::Join
            | Self::Split
            | Self::Truncate => (2, 2),
            Self::Pad => (3, 3),
            Self::Print | Self::Println => (0, usize::MAX),
            Self::And | Self::Or | Self::Compare(Equal) | Self::Index | Self::Slice | Self::Printf => (1, usize::MAX),
        }
    }

    fn evaluate(self, arguments: &[Value]) -> Result<Value, String> {
        let text = |index| string(arguments, index);
        let first = arguments.first().unwrap_or(&Value::Null);
        Ok(match self {
            // The evaluator handles these two, whose arguments must not all be evaluated.
            Self::And | Self::Or => first.clone(),
            Self::Not => Value::Bool(!is_true(first)),
            Self::Compare(comparison) => Value::Bool(compare(comparison, first, &arguments[1..])?),
            Self::Len => Value::from(length(first)?),
            Self::Index => index(first, &arguments[1..])?,
            Self::Slice => slice(first, &arguments[1..])?,
            Self::Print => Value::String(print(arguments)),
            Self::Println => {
                let words: Vec<_> = arguments.iter().map(display).collect();
                Value::String(words.join(" ") + "\n")
            }
            Self::Printf => Value::String(printf(text(0)?, &arguments[1..])?),
            Self::Json => Value::String(first.to_string()),
            Self::Join => {
                let items = first.as_array().ok_or_else(|| mismatch(first, "[]string"))?;
                let words: Vec<_> = (0..items.len()).map(|index| string(items, index)).collect::<Result<_, _>>()?;
                Value::String(words.join(text(1)?))
            }
            Self::Split => match text(1)? {
                "" => text(0)?.chars().map(String::from).collect(),
                separator => text(0)?.split(separator).collect(),
            },
            Self::Lower => Value::String(text(0)?.to_lowercase()),
            Self::Upper => Value::String(text(0)?.to_uppercase()),
            Self::Title => Value::String(title(text(0)?)),
            Self::Pad => match text(0)? {
                "" => Value::from(""),
                padded => {
                    let spaces = |index| Ok::<_, String>(" ".repeat(offset(&arguments[index])?.min(1024)));
                    Value::String(spaces(1)? + padded + &spaces(2)?)
                }
            },
            Self::Truncate => {
                let length = offset(&arguments[1])?;
                Value::String(text(0)?.chars().take(length).collect())
            }
        })
    }
}

fn string(arguments: &[Value], index: usize) -> Result<&str, String> {
    match &arguments[index] {
        Value::String(text) => Ok(text),
        other => Err(mismatch(other, "string")),
    }
}

fn mismatch(value: &Value, wanted: &str) -> String {
    format!("wrong type for value; expected {wanted}; got {}", type_name(value))
}

/// An index or a length.
fn offset(value: &Value) -> Result<usize, String> {
    match value.as_i64() {
        Some(number) => usize::try_from(number).map_err(|_| format!("index out of range: {number}")),
        None => Err(format!("cannot index slice/array with type {}", type_name(value))),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(fields) => Ok(fields.len()),
        // A missing list or map is an empty one in Go.
        Value::Null => Ok(0),
        other => Err(format!("len of type {}", type_name(other))),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value.clone();
    for key in keys {
        value = match &value {
            Value::Array(items) => {
                let at = offset(key)?;
                items.get(at).cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            Value::String(text) => {
                let at = offset(key)?;
                text.as_bytes()
                    .get(at)
                    .map(|byte| Value::from(*byte))
                    .ok_or_else(|| format!("index out of range: {at}"))?
            }
            Value::Object(fields) => {
                let name = key.as_str().ok_or_else(|| mismatch(key, "string"))?;
                // A key that is not there has the zero value of its kind, which for labels is the empty string.
                match fields.get(name) {
                    Some(field) => field.clone(),
                    None if fields.values().all(Value::is_string) => Value::from(""),
                    None => Value::Null,
                }
            }
            // A missing map is an empty one; of what, JSON does not say. It mostly is of labels.
            Value::Null if key.is_string() => Value::from(""),
            Value::Null => return Err(format!("index out of range: {}", display(key))),
            other => return Err(format!("can't index item of type {}", type_name(other))),
        };
    }
    Ok(value)
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = match value {
        Value::String(_) | Value::Array(_) | Value::Null => length(value)?,
        other => return Err(format!("can't slice item of type {}", type_name(other))),
    };
    let (from, to) = match bounds {
        [] => (0, length),
        [from] => (offset(from)?, length),
        [from, to] => (offset(from)?, offset(to)?),
        _ => return Err(format!("too many slice indexes: {}", bounds.len())),
    };
    if from.max(to) > length {
        return Err(format!("index out of range: {}", from.max(to)));
    }
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        // Go slices bytes, also through the middle of a letter; a half letter becomes U+FFFD here.
        Value::String(text) => Value::from(String::from_utf8_lossy(&text.as_bytes()[from..to]).as_ref()),
        Value::Array(items) => Value::from(&items[from..to]),
        _ => Value::Null,
    })
}

fn compare(comparison: Comparison, first: &Value, others: &[Value]) -> Result<bool, String> {
    let Some(second) = others.first() else {
        return Err("missing argument for comparison".into());
    };
    if comparison == Equal {
        for other in others {
            if equal(first, other)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    if comparison == NotEqual {
        return Ok(!equal(first, second)?);
    }
    let order = order(first, second)?;
    Ok(match comparison {
        Less => order == Some(Ordering::Less),
        LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Greater => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

fn equal(one: &Value, two: &Value) -> Result<bool, String> {
    match (one, two) {
        (Value::Array(_) | Value::Object(_), _) => Err(format!("non-comparable type {}", type_name(one))),
        (_, Value::Array(_) | Value::Object(_)) => Err(format!("non-comparable type {}", type_name(two))),
        (Value::Bool(one), Value::Bool(two)) => Ok(one == two),
        (Value::Null, _) | (_, Value::Null) => Ok(one.is_null() && two.is_null()),
        _ => Ok(order(one, two)? == Some(Ordering::Equal)),
    }
}

fn order(one: &Value, two: &Value) -> Result<Option<Ordering>, String> {
    match (one, two) {
        (Value::String(one), Value::String(two)) => Ok(Some(one.cmp(two))),
        (Value::Number(one), Value::Number(two)) if one.is_f64() == two.is_f64() => {
            Ok(match (whole(one), whole(two)) {
                (Some(one), Some(two)) => Some(one.cmp(&two)),
                _ => one.as_f64().partial_cmp(&two.as_f64()),
            })
        }
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".into()),
        _ => Err("incompatible types for comparison".into()),
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// The arguments one after the other, with a space between two of which neither is a string.
fn print(arguments: &[Value]) -> String {
    let mut text = String::new();
    for (index, argument) in arguments.iter().enumerate() {
        let previous = index.checked_sub(1).map(|index| &arguments[index]);
        if previous.is_some_and(|previous| !previous.is_string() && !argument.is_string()) {
            text.push(' ');
        }
        text.push_str(&display(argument));
    }
    text
}

/// `text` with each word's first letter in upper case; letters, digits and underscores make words.
fn title(text: &str) -> String {
    let mut title = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        if in_word {
            title.push(character);
        } else {
            title.extend(character.to_uppercase());
        }
        in_word = character == '_' || character.is_alphanumeric();
    }
    title
}

#[cfg(test)]
mod tests {
    use crate::template::Template;
    use serde_json::json;

    fn rendered(text: &str) -> Result<String, String> {
        let data = json!({
            "Env": ["A=b c", "Q=", "HOME=/root"],
            "Labels": {"blue": "image"},
            "Ports": {"80/tcp": {}},
            "Null": null,
            "Size": 11472,
            "Ratio": 0.5,
        });
        Template::parse(text).and_then(|template| template.render(&data)).map_err(|error| error.to_string())
    }

    fn check(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(rendered(text).as_deref(), Ok(*expected), "{text}");
        }
    }

    #[test]
    fn comparisons_follow_gos_rules() {
        check(&[
            ("{{eq 1 2 1}} {{eq \"a\" \"b\"}} {{ne 1 2}}", "true false true"),
            ("{{lt 1 2}}{{le \"a\" \"b\"}}{{gt 2 1}}{{ge 1 1}}", "truetruetruetrue"),
            ("{{eq nil nil}} {{eq .Null nil}} {{eq true true}}", "true true true"),
            ("{{gt .Size 11471}} {{lt .Ratio 0.6}}", "true true"),
        ]);
        for (text, expected) in [
            ("{{eq \"a\" 1}}", "incompatible types for comparison"),
            ("{{lt 1 2.0}}", "incompatible types for comparison"),
            ("{{lt true false}}", "invalid type for comparison"),
            ("{{eq 1}}", "missing argument for comparison"),
            ("{{eq .Env .Env}}", "non-comparable type []interface {}"),
        ] {
            assert!(rendered(text).unwrap_err().ends_with(expected), "{text}");
        }
    }

    #[test]
    fn parts_of_values_can_be_taken() {
        check(&[
            ("{{slice \"abcdef\" 1 3}} {{slice \"abc\" 3}} {{slice .Env 1 2}}", "bc  [Q=]"),
            ("{{index \"abc\" 1}} {{index .Env 1}}", "98 Q="),
            ("{{index .Labels \"nope\"}}|{{index .Labels \"blue\"}}", "|image"),
            ("{{index .Ports \"80/tcp\"}}", "map[]"),
            ("{{len \"é\"}} {{len .Env}} {{len .Labels}} {{len .Null}}", "2 3 1 0"),
            ("{{slice \"é\" 0 1}}", "\u{fffd}"),
        ]);
        for (text, expected) in [
            ("{{slice \"abc\" 5}}", "error calling slice: index out of range: 5"),
            ("{{slice \"abc\" 2 1}}", "error calling slice: invalid slice index: 2 > 1"),
            ("{{index .Env -1}}", "error calling index: index out of range: -1"),
            ("{{index .Env \"x\"}}", "error calling index: cannot index slice/array with type string"),
            ("{{len 3}}", "error calling len: len of type int"),
            ("{{ge 2 1 1}}", "wrong number of args for ge: want 2 got 3"),
            ("{{printf}}", "wrong number of args for printf: want at least 1 got 0"),
        ] {
            assert!(rendered(text).unwrap_err().ends_with(expected), "{text}: {:?}", rendered(text));
        }
    }

    #[test]
    fn text_can_be_reshaped() {
        check(&[
            ("{{title \"hello world\"}} {{title \"éa b-c d_e\"}}", "Hello World Éa B-C D_e"),
            ("{{pad \"x\" 1 2}}|{{pad \"\" 1 2}}|", " x  ||"),
            ("{{truncate \"hello\" 2}} {{truncate \"a\" 9}}", "he a"),
            ("{{join (split \"a,b\" \",\") \"-\"}} {{join .Env \";\"}}", "a-b A=b c;Q=;HOME=/root"),
            ("{{upper \"é\"}} {{lower \"ABC\"}}", "É abc"),
            ("{{json (split \"a,<b\" \",\")}} {{json .Null}}", "[\"a\",\"<b\"] null"),
            ("{{println \"a\" 1 2 \"b\"}}{{print \"a\" 1 2 \"b\" \"c\"}}", "a 1 2 b\na1 2bc"),
            ("{{print nil}} {{print .Env 1}}", "<nil> [A=b c Q= HOME=/root] 1"),
        ]);
        assert_eq!(
            rendered("{{join \"a\" \"b\"}}").unwrap_err(),
            "template: <join \"a\" \"b\">: error calling join: wrong type for value; expected []string; got string"
        );
    }
}
