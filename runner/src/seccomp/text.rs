//! The text format of the default profile; `profile.txt` describes its grammar.

use super::capability;
use super::errno;
use super::error::SeccompError;
use super::profile::{Action, Comparison, Condition, Profile, Rule};

/// Parses a profile in the text format.
pub(super) fn parse(text: &str) -> Result<Profile, SeccompError> {
    let mut default = None;
    let mut rules: Vec<Rule> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let syntax = |problem: String| SeccompError::Syntax { line: index + 1, problem };
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match (words.as_slice(), rules.last_mut()) {
            ([], _) => {}
            ([first, ..], _) if first.starts_with('#') => {}
            (names, Some(rule)) if line.starts_with(' ') => {
                rule.syscalls.extend(names.iter().map(|name| (*name).to_owned()))
            }
            (_, None) if line.starts_with(' ') => return Err(syntax("system calls before the first rule".to_owned())),
            (["default", rest @ ..], _) => match action(rest) {
                Ok((action, [])) if default.is_none() => default = Some(action),
                Ok(_) => return Err(syntax("expected one `default ACTION` and nothing after it".to_owned())),
                Err(problem) => return Err(syntax(problem)),
            },
            (words, _) => rules.push(rule(words).map_err(syntax)?),
        }
    }
    let default = default.ok_or_else(|| SeccompError::Syntax {
        line: text.lines().count(),
        problem: "the profile ends without a `default ACTION` line".to_owned(),
    })?;
    Ok(Profile { default, newer: None, rules })
}

/// Reads `ACTION [with CAP] [when COND]`.
fn rule(words: &[&str]) -> Result<Rule, String> {
    let (action, mut rest) = action(words)?;
    let mut rule = Rule { syscalls: Vec::new(), action, conditions: Vec::new(), with: 0, without: 0 };
    if let ["with", name, after @ ..] = rest {
        rule.with = capability::bit(name).ok_or_else(|| format!("unknown capability {name}"))?;
        rest = after;
    }
    if let ["when", argument, "&", mask, "==", value] = rest {
        rule.conditions.push(condition(argument, mask, value)?);
        rest = &[];
    }
    match rest {
        [] => Ok(rule),
        [word, ..] => Err(format!("unexpected `{word}`: a rule is `ACTION [with CAP] [when argN & MASK == V]`")),
    }
}

/// Reads an action off the front and returns what follows it.
fn action<'a, 'b>(words: &'a [&'b str]) -> Result<(Action, &'a [&'b str]), String> {
    match words {
        ["allow", rest @ ..] => Ok((Action::Allow, rest)),
        ["errno", name, rest @ ..] => errno::number(name)
            .map(|number| (Action::Errno(number), rest))
            .ok_or_else(|| format!("unknown error {name}")),
        _ => Err("an action is `allow` or `errno NAME`".to_owned()),
    }
}

fn condition(argument: &str, mask: &str, value: &str) -> Result<Condition, String> {
    let argument = argument
        .strip_prefix("arg")
        .and_then(|index| index.parse().ok())
        .filter(|index| *index < 6)
        .ok_or_else(|| format!("`{argument}` is none of arg0 to arg5"))?;
    let (mask, value) = (number(mask)?, number(value)?);
    if value & !mask != 0 {
        return Err(format!("{value:#x} has bits outside {mask:#x}: the rule could never hold"));
    }
    Ok(Condition { argument, comparison: Comparison::MaskedEqual(mask), value })
}

fn number(word: &str) -> Result<u64, String> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    }
    .map_err(|_| format!("`{word}` is not a 64-bit number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_carries_its_capability_condition_and_calls() {
        let profile = parse(
            "# head\ndefault errno ENOSYS\n\nallow with CAP_SYS_ADMIN when arg1 & 0xff == 7\n    mount  umount2\n    # inside\n    setns\n",
        )
        .unwrap();
        assert_eq!(profile.default, Action::Errno(38));
        assert_eq!(
            profile.rules,
            [Rule {
                syscalls: ["mount", "umount2", "setns"].map(str::to_owned).into(),
                action: Action::Allow,
                conditions: vec![Condition { argument: 1, comparison: Comparison::MaskedEqual(0xff), value: 7 }],
                with: 1 << 21,
                without: 0,
            }]
        );
    }

    #[test]
    fn mistakes_are_refused_with_their_line() {
        for (text, line) in [
            ("", 0),
            ("allow\n    read", 2),
            ("default allow\n    read", 2),
            ("default allow\ndefault allow", 2),
            ("default allow now", 1),
            ("default errno EWHAT", 1),
            ("default allow\n\npermit", 3),
            ("default allow\nerrno", 2),
            ("default allow\nallow with CAP_ROOT", 2),
            ("default allow\nallow when arg6 & 1 == 1", 2),
            ("default allow\nallow when arg0 & 1 == 2", 2),
            ("default allow\nallow when arg0 & 0x1ffffffffffffffff == 1", 2),
            ("default allow\nallow when arg0 == 1", 2),
        ] {
            match parse(text) {
                Err(SeccompError::Syntax { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
