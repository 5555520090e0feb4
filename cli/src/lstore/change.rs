//! `lstore import --change`: the instructions that fill in the configuration of an imported image.

use std::str::FromStr;

/// One instruction, as `KEYWORD value` or `KEYWORD=value`. The keyword's case does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Default arguments.
    Cmd(Vec<String>),
    /// What the arguments are given to.
    Entrypoint(Vec<String>),
    /// A variable of the environment: name and value.
    Env(String, String),
    /// Ports that it listens on, each as `80` or `80/tcp`.
    Expose(Vec<String>),
    /// A label: name and value.
    Label(String, String),
    /// Who runs it: `name`, `uid`, with `:group` or `:gid`.
    User(String),
    /// Where it runs.
    WorkingDirectory(String),
    /// Directories that get a volume.
    Volume(Vec<String>),
    /// The signal that ends it.
    StopSignal(String),
}

/// Why an instruction cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no value.
    #[error("no value in {0:?}; write 'KEYWORD value' or 'KEYWORD=value'")]
    NoValue(String),
    /// The keyword is not known.
    #[error(
        "unknown instruction {0:?}; known are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR"
    )]
    Keyword(String),
    /// A variable or label is not of the form name=value.
    #[error("{keyword} {value:?} is not of the form name=value")]
    Pair {
        /// `ENV` or `LABEL`.
        keyword: &'static str,
        /// What was given.
        value: String,
    },
}

impl FromStr for Change {
    type Err = ChangeError;

    /// Reads one instruction. `CMD` and `ENTRYPOINT` take a JSON array of strings, or else a command line that
    /// `/bin/sh -c` will read. As for podman the value of `ENV` and `LABEL` reaches to the end, spaces included, and a
    /// variable without `=` is an empty one.
    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let (keyword, value) = text
            .split_once([' ', '=', '\t'])
            .map(|(keyword, value)| (keyword, value.trim()))
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| ChangeError::NoValue(text.into()))?;
        match keyword.to_ascii_uppercase().as_str() {
            "CMD" => Ok(Self::Cmd(command(value))),
            "ENTRYPOINT" => Ok(Self::Entrypoint(command(value))),
            "ENV" => {
                let (name, value) = pair("ENV", value.split_once('=').unwrap_or((value, "")))?;
                Ok(Self::Env(name, value))
            }
            "EXPOSE" => Ok(Self::Expose(value.split_ascii_whitespace().map(str::to_owned).collect())),
            "LABEL" => {
                let parts = value.split_once('=').unwrap_or_default();
                let (name, value) =
                    pair("LABEL", parts).map_err(|_| ChangeError::Pair { keyword: "LABEL", value: value.into() })?;
                Ok(Self::Label(name, value))
            }
            "USER" => Ok(Self::User(value.into())),
            "WORKDIR" => Ok(Self::WorkingDirectory(value.into())),
            "VOLUME" => Ok(Self::Volume(serde_json::from_str(value).unwrap_or_else(|_| vec![value.into()]))),
            "STOPSIGNAL" => Ok(Self::StopSignal(value.into())),
            _ => Err(ChangeError::Keyword(keyword.into())),
        }
    }
}

fn command(value: &str) -> Vec<String> {
    serde_json::from_str(value).unwrap_or_else(|_| vec!["/bin/sh".into(), "-c".into(), value.into()])
}

fn pair(keyword: &'static str, (name, value): (&str, &str)) -> Result<(String, String), ChangeError> {
    let (name, value) = (unquoted(name), unquoted(value));
    if name.is_empty() || name.contains('\0') {
        return Err(ChangeError::Pair { keyword, value: format!("{name}={value}") });
    }
    Ok((name.into(), value.into()))
}

/// `text` without the quotes around it, as a Dockerfile may have them.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().copied().map(String::from).collect()
    }

    #[test]
    fn commands_are_json_or_a_line_for_the_shell() {
        for (text, expected) in [
            ("CMD [\"/bin/sh\",\"-c\"]", Change::Cmd(strings(&["/bin/sh", "-c"]))),
            ("CMD=[]", Change::Cmd(strings(&[]))),
            ("cmd  two  spaces", Change::Cmd(strings(&["/bin/sh", "-c", "two  spaces"]))),
            ("CMD [\"a\"", Change::Cmd(strings(&["/bin/sh", "-c", "[\"a\""]))),
            ("ENTRYPOINT [\"a\",1]", Change::Entrypoint(strings(&["/bin/sh", "-c", "[\"a\",1]"]))),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
    }

    #[test]
    fn pairs_reach_to_the_end() {
        for (text, expected) in [
            ("ENV A=b c", Change::Env("A".into(), "b c".into())),
            ("ENV=A=b=c", Change::Env("A".into(), "b=c".into())),
            ("ENV Q", Change::Env("Q".into(), String::new())),
            ("EXPOSE 80 53/udp", Change::Expose(strings(&["80", "53/udp"]))),
            ("LABEL=blue=image", Change::Label("blue".into(), "image".into())),
            ("LABEL \"a\"=\"b c\"", Change::Label("a".into(), "b c".into())),
            ("WORKDIR /x y", Change::WorkingDirectory("/x y".into())),
            ("VOLUME /data", Change::Volume(strings(&["/data"]))),
            ("VOLUME [\"/a\", \"/b\"]", Change::Volume(strings(&["/a", "/b"]))),
            ("STOPSIGNAL INT", Change::StopSignal("INT".into())),
            ("USER 1000:100", Change::User("1000:100".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("CMD", "no value in \"CMD\"; write 'KEYWORD value' or 'KEYWORD=value'"),
            ("CMD=", "no value in \"CMD=\"; write 'KEYWORD value' or 'KEYWORD=value'"),
            (
                "FOO x",
                "unknown instruction \"FOO\"; known are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR",
            ),
            ("LABEL x y", "LABEL \"x y\" is not of the form name=value"),
            ("ENV =x", "ENV \"=x\" is not of the form name=value"),
        ] {
            let error = text.parse::<Change>().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
