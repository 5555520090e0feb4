//! Template text -> pieces: plain text, and actions as tokens.

use super::TemplateError;

/// A stretch of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Printed as it is; never empty.
    Text(String),
    /// What stands between `{{` and `}}`.
    Action(Action),
}

/// The tokens of one action.
#[derive(Debug, PartialEq)]
pub(super) struct Action {
    /// The text between the braces, for error messages.
    pub(super) text: String,
    /// Its column, in characters from 1.
    pub(super) column: usize,
    /// Its tokens in order.
    pub(super) tokens: Vec<Token>,
}

/// A word of the language.
#[derive(Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    /// Whether white space stands before it: `.A .B` are two fields, `.A.B` is one.
    pub(super) spaced: bool,
    /// Its column, in characters from 1.
    pub(super) column: usize,
    /// The byte range within [`Action::text`].
    pub(super) range: std::ops::Range<usize>,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// A keyword, a function, or one of `true`, `false`, `nil`.
    Word(String),
    /// `.` alone.
    Dot,
    /// `.Name`.
    Field(String),
    /// `$` or `$name`; the name is without the sign.
    Variable(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Pipe,
    Comma,
    Declare,
    Assign,
    Open,
    Close,
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

/// Splits `text` into pieces. Comments are dropped and trim markers applied.
pub(super) fn split(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    loop {
        let rest = &text[at..];
        let (plain, action_follows) = match rest.find(LEFT) {
            Some(left) => (&rest[..left], true),
            None => (rest, false),
        };
        let inside_at = at + plain.len() + LEFT.len();
        let trim_before = action_follows && is_left_marker(&text[inside_at..]);
        let mut kept = plain;
        if trim_next {
            kept = kept.trim_start_matches(is_space);
        }
        if trim_before {
            kept = kept.trim_end_matches(is_space);
        }
        if !kept.is_empty() {
            pieces.push(Piece::Text(kept.to_owned()));
        }
        if !action_follows {
            return Ok(pieces);
        }
        let start = inside_at + usize::from(trim_before);
        let (action, end, trim_after) = read_action(text, start)?;
        trim_next = trim_after;
        at = end;
        pieces.extend(action.map(Piece::Action));
    }
}

/// `{{-` trims only when white space follows: `{{-3}}` is a number.
fn is_left_marker(inside: &str) -> bool {
    let mut characters = inside.chars();
    characters.next() == Some('-') && characters.next().is_some_and(is_space)
}

/// Reads an action whose inside starts at byte `start`: the action unless it is a comment, the offset behind its
/// closing braces, and whether the text after it is trimmed.
fn read_action(text: &str, start: usize) -> Result<(Option<Action>, usize, bool), TemplateError> {
    let inside = text[start..].trim_start_matches(is_space);
    if inside.starts_with("/*") {
        let offset = text.len() - inside.len();
        let Some(length) = inside.find("*/") else {
            return Err(syntax(text, offset, "unclosed comment"));
        };
        let after = &inside[length + 2..];
        let trimmed = after.trim_start_matches(is_space);
        let (marker, close) = match trimmed.strip_prefix('-') {
            Some(close) if trimmed.len() < after.len() => (true, close),
            _ => (false, after),
        };
        let Some(rest) = close.strip_prefix(RIGHT) else {
            return Err(syntax(text, offset, "comment ends before closing delimiter"));
        };
        return Ok((None, text.len() - rest.len(), marker));
    }
    let mut tokens = Vec::new();
    let mut at = start;
    loop {
        let rest = &text[at..];
        let skipped = rest.trim_start_matches(is_space);
        let spaced = skipped.len() < rest.len();
        at = text.len() - skipped.len();
        let marker = spaced && skipped.starts_with("-}}");
        if marker || skipped.starts_with(RIGHT) {
            let action = Action { text: text[start..at].trim().to_owned(), column: column(text, start), tokens };
            return Ok((Some(action), at + RIGHT.len() + usize::from(marker), marker));
        }
        if skipped.is_empty() {
            return Err(syntax(text, start - LEFT.len(), "unclosed action"));
        }
        let (kind, length) = token(skipped).map_err(|problem| syntax(text, at, problem))?;
        let leading = text[start..].len() - text[start..].trim_start().len();
        let offset = at - start - leading;
        tokens.push(Token { kind, spaced, column: column(text, at), range: offset..offset + length });
        at += length;
    }
}

/// The token at the start of `text`, which is neither empty nor begins with white space, and its length in bytes.
fn token(text: &str) -> Result<(TokenKind, usize), String> {
    for (sign, kind) in [
        (":=", TokenKind::Declare),
        ("=", TokenKind::Assign),
        ("|", TokenKind::Pipe),
        (",", TokenKind::Comma),
        ("(", TokenKind::Open),
        (")", TokenKind::Close),
    ] {
        if text.starts_with(sign) {
            return Ok((kind, sign.len()));
        }
    }
    let mut characters = text.chars();
    let first = characters.next().unwrap_or_default();
    let rest = characters.as_str();
    let name = word(rest);
    match first {
        '"' => quoted(text),
        '`' => match rest.find('`') {
            Some(length) => Ok((TokenKind::Text(rest[..length].into()), length + 2)),
            None => Err("unterminated raw quoted string".into()),
        },
        '\'' => character(text),
        '$' => Ok((TokenKind::Variable(name.into()), 1 + name.len())),
        '.' if !rest.starts_with(|next: char| next.is_ascii_digit()) => {
            Ok(if name.is_empty() { (TokenKind::Dot, 1) } else { (TokenKind::Field(name.into()), 1 + name.len()) })
        }
        '.' | '+' | '-' | '0'..='9' => number(text),
        _ if is_word(first) => {
            let name = word(text);
            Ok((TokenKind::Word(name.into()), name.len()))
        }
        _ => Err(format!("unexpected {first:?} in an action")),
    }
}

fn quoted(text: &str) -> Result<(TokenKind, usize), String> {
    let mut value = String::new();
    let mut rest = &text[1..];
    loop {
        let mut characters = rest.chars();
        match characters.next() {
            None | Some('\n') => return Err("unterminated quoted string".into()),
            Some('"') => {
                let length = text.len() - characters.as_str().len();
                return Ok((TokenKind::Text(value), length));
            }
            Some('\\') => {
                let (character, after) = escape(characters.as_str())?;
                value.push(character);
                rest = after;
            }
            Some(other) => {
                value.push(other);
                rest = characters.as_str();
            }
        }
    }
}

fn character(text: &str) -> Result<(TokenKind, usize), String> {
    let mut characters = text[1..].chars();
    let (value, rest) = match characters.next() {
        Some('\\') => escape(characters.as_str())?,
        Some(value) if value != '\'' => (value, characters.as_str()),
        _ => return Err("malformed character constant".into()),
    };
    let rest = rest.strip_prefix('\'').ok_or("unterminated character constant")?;
    Ok((TokenKind::Integer(i64::from(u32::from(value))), text.len() - rest.len()))
}

/// The character that the escape whose text after the backslash is `text` stands for, and what follows it.
fn escape(text: &str) -> Result<(char, &str), String> {
    let mut characters = text.chars();
    let kind = characters.next().unwrap_or_default();
    let rest = characters.as_str();
    let digits = match kind {
        'a' => return Ok(('\u{7}', rest)),
        'b' => return Ok(('\u{8}', rest)),
        'f' => return Ok(('\u{c}', rest)),
        'n' => return Ok(('\n', rest)),
        'r' => return Ok(('\r', rest)),
        't' => return Ok(('\t', rest)),
        'v' => return Ok(('\u{b}', rest)),
        '\\' | '\'' | '"' => return Ok((kind, rest)),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return Err(format!("unknown escape \\{kind} in a string")),
    };
    rest.get(..digits)
        .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?))
        .map(|value| (value, &rest[digits..]))
        .ok_or_else(|| format!("invalid escape \\{kind} in a string"))
}

fn number(text: &str) -> Result<(TokenKind, usize), String> {
    let mut length = 0;
    let mut previous = ' ';
    for character in text.chars() {
        let is_hex = text.trim_start_matches(['+', '-']).starts_with("0x");
        let sign_allowed = length == 0 || (!is_hex && matches!(previous, 'e' | 'E'));
        let taken = character.is_ascii_alphanumeric()
            || matches!(character, '.' | '_')
            || (sign_allowed && matches!(character, '+' | '-'));
        if !taken {
            break;
        }
        length += character.len_utf8();
        previous = character;
    }
    let literal = &text[..length];
    let digits = literal.replace('_', "");
    let (sign, magnitude) = match digits.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", digits.strip_prefix('+').unwrap_or(&digits)),
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = magnitude.strip_prefix(prefix) {
            return i64::from_str_radix(&format!("{sign}{digits}"), radix)
                .map(|value| (TokenKind::Integer(value), length))
                .map_err(|_| format!("bad number {literal:?}"));
        }
    }
    if !magnitude.is_empty() && magnitude.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits
            .trim_start_matches('+')
            .parse()
            .map(|value| (TokenKind::Integer(value), length))
            .map_err(|_| format!("integer overflow: {literal:?}"));
    }
    let is_decimal = magnitude.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    match digits.parse::<f64>() {
        Ok(value) if is_decimal && value.is_finite() => Ok((TokenKind::Float(value), length)),
        _ => Err(format!("bad number {literal:?}")),
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|next| !is_word(next)).unwrap_or(text.len());
    &text[..end]
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// The column of a byte offset, in characters from 1.
fn column(text: &str, offset: usize) -> usize {
    text[..offset].chars().count() + 1
}

fn syntax(text: &str, offset: usize, problem: impl Into<String>) -> TemplateError {
    TemplateError::Syntax { column: column(text, offset), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(action: &str) -> Vec<TokenKind> {
        match split(&format!("{{{{{action}}}}}")).unwrap().pop() {
            Some(Piece::Action(action)) => action.tokens.into_iter().map(|token| token.kind).collect(),
            other => panic!("no action: {other:?}"),
        }
    }

    fn problem(text: &str) -> String {
        split(text).unwrap_err().to_string()
    }

    #[test]
    fn text_and_actions_alternate() {
        let pieces = split("a{{.B}}c").unwrap();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0], Piece::Text("a".into()));
        assert_eq!(pieces[2], Piece::Text("c".into()));
    }

    #[test]
    fn trim_markers_eat_white_space_and_comments_vanish() {
        let text = |template| -> String {
            let pieces = split(template).unwrap();
            let texts = pieces.iter().map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Action(_) => "#",
            });
            texts.collect()
        };
        assert_eq!(text("a \n{{- .B -}}\t c"), "a#c");
        assert_eq!(text("a {{/* {{.X}} */}} b"), "a  b");
        assert_eq!(text("a {{- /* x */ -}} b"), "ab");
        assert_eq!(text("a {{-3}} b"), "a # b");
    }

    #[test]
    fn literals_have_gos_syntax() {
        assert_eq!(
            kinds(r#""\x41\u00e9\n}}" `a\n` 'a' '\n' 0x1F 1_000 -3 +4 1e3 .5"#),
            [
                TokenKind::Text("Aé\n}}".into()),
                TokenKind::Text("a\\n".into()),
                TokenKind::Integer(97),
                TokenKind::Integer(10),
                TokenKind::Integer(31),
                TokenKind::Integer(1000),
                TokenKind::Integer(-3),
                TokenKind::Integer(4),
                TokenKind::Float(1000.0),
                TokenKind::Float(0.5),
            ]
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, expected) in [
            ("{{", "template: unclosed action at column 1"),
            ("é{{.A", "template: unclosed action at column 2"),
            ("{{.}", "template: unexpected '}' in an action at column 4"),
            ("{{\"x}}", "template: unterminated quoted string at column 3"),
            ("{{\"\\q\"}}", "template: unknown escape \\q in a string at column 3"),
            ("{{/* x }}", "template: unclosed comment at column 3"),
            ("{{1x}}", "template: bad number \"1x\" at column 3"),
            ("{{-}}", "template: bad number \"-\" at column 3"),
            ("{{99999999999999999999}}", "template: integer overflow: \"99999999999999999999\" at column 3"),
        ] {
            assert_eq!(problem(text), expected);
        }
    }
}
