//! The command lines of `lrun secret`, and values of `--secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::container_name;

/// What `lrun secret` can do.
#[derive(Subcommand, Debug)]
pub enum SecretCommand {
    /// Keep a secret, and print its id
    #[command(after_help = "\
Examples:
  lrun secret create key ./key.pem
  printf %s \"$TOKEN\" | lrun secret create token -
  lrun secret create --env token TOKEN       the value of a variable

It is kept in the store, readable for you alone, and not encrypted.")]
    Create(SecretCreateArguments),

    /// List secrets
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  lrun secret ls
  lrun secret ls -q
  lrun secret ls --format '{{.ID}} {{.Name}}'"
    )]
    Ls(SecretListArguments),

    /// Show what is known of secrets, but not what they are, as JSON
    #[command(after_help = "\
Examples:
  lrun secret inspect key
  lrun secret inspect --showsecret --format '{{.SecretData}}' key")]
    Inspect(SecretInspectArguments),

    /// Remove secrets; containers that were given them cannot be started any more
    #[command(after_help = "\
Examples:
  lrun secret rm key token
  lrun secret rm --all")]
    Rm(SecretRemoveArguments),

    /// Tell by the exit status whether a secret is there: 0 or 1
    #[command(after_help = "\
Examples:
  lrun secret exists key || lrun secret create key ./key.pem")]
    Exists(SecretExistsArguments),
}

/// `lrun secret create`.
#[derive(Args, Debug)]
pub struct SecretCreateArguments {
    /// SOURCE is the name of a variable
    #[arg(long)]
    pub env: bool,

    /// How it is kept; only file
    #[arg(short, long, value_name = "DRIVER", value_parser = ["file"])]
    pub driver: Option<String>,

    /// Attach a label
    #[arg(short, long = "label", value_name = "KEY[=VALUE]")]
    pub labels: Vec<String>,

    /// Name of the secret
    #[arg(value_name = "NAME", value_parser = container_name)]
    pub name: String,

    /// File with the secret; - for standard input
    #[arg(value_name = "SOURCE")]
    pub source: PathBuf,
}

/// `lrun secret ls`.
#[derive(Args, Debug)]
pub struct SecretListArguments {
    /// Only those for which NAME is VALUE: id, name
    #[arg(short, long = "filter", value_name = "NAME=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,

    /// Print with a template of Go's, or as json
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Leave the headings out
    #[arg(short, long)]
    pub noheading: bool,
}

/// `lrun secret inspect`.
#[derive(Args, Debug)]
pub struct SecretInspectArguments {
    /// Print with a template of Go's, or as json
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Also show what they are, as SecretData
    #[arg(long)]
    pub showsecret: bool,

    /// Names or ids of secrets
    #[arg(required = true, value_name = "SECRET")]
    pub secrets: Vec<String>,
}

/// `lrun secret rm`.
#[derive(Args, Debug)]
pub struct SecretRemoveArguments {
    /// All of them
    #[arg(short, long, conflicts_with = "secrets")]
    pub all: bool,

    /// What is not there is no error
    #[arg(short, long)]
    pub ignore: bool,

    /// Names or ids of secrets
    #[arg(required_unless_present = "all", value_name = "SECRET")]
    pub secrets: Vec<String>,
}

/// `lrun secret exists`.
#[derive(Args, Debug)]
pub struct SecretExistsArguments {
    /// Name or id of the secret
    #[arg(value_name = "SECRET")]
    pub secret: String,
}

/// A secret for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretArgument {
    /// Its name or id.
    pub name: String,
    /// Whether it becomes a variable; else a file.
    pub is_variable: bool,
    /// Name of the variable or file, or its path; the secret's own name where it is not said.
    pub target: Option<String>,
    /// Whose the file is.
    pub uid: u32,
    /// And of which group.
    pub gid: u32,
    /// Its mode.
    pub mode: u32,
}

fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name @ ("id" | "name"), value)) => Ok((name.into(), value.into())),
        _ => Err("write it as id=VALUE or name=VALUE".into()),
    }
}

/// `NAME[,type=mount|env][,target=…][,uid=N][,gid=N][,mode=MODE]`, as podman has it.
pub(super) fn secret(text: &str) -> Result<SecretArgument, String> {
    let mut fields = text.split(',');
    let first = fields.next().unwrap_or_default();
    let name = first.strip_prefix("source=").unwrap_or(first);
    if name.is_empty() || name.contains('=') {
        return Err("name the secret first, as NAME,type=env".into());
    }
    let mut secret =
        SecretArgument { name: name.into(), is_variable: false, target: None, uid: 0, gid: 0, mode: 0o444 };
    let mut of_files = None;
    for field in fields {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("{field:?} is no option; write NAME=VALUE"))?;
        let id = || value.parse::<i32>().ok().and_then(|id| u32::try_from(id).ok()).ok_or(format!("{field}: no id"));
        match key {
            "type" if value == "mount" => secret.is_variable = false,
            "type" if value == "env" => secret.is_variable = true,
            "type" => return Err(format!("{value}: there are mount and env")),
            "target" if value.is_empty() => return Err("a target has a name".into()),
            "target" => secret.target = Some(value.into()),
            "uid" => secret.uid = id()?,
            "gid" => secret.gid = id()?,
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777);
                secret.mode = mode.ok_or_else(|| format!("{value}: write a mode in octal, as 0400"))?;
            }
            _ => return Err(format!("unknown option {key:?}; known are type, target, uid, gid and mode")),
        }
        if matches!(key, "uid" | "gid" | "mode") {
            of_files = Some(key);
        }
    }
    match (of_files, &secret.target) {
        (Some(key), _) if secret.is_variable => Err(format!("{key} is for files; leave it out with type=env")),
        (_, Some(target)) if secret.is_variable && target.contains('=') => Err("no name of a variable".into()),
        (_, Some(target)) if !secret.is_variable && !target.starts_with('/') && target.contains('/') => {
            Err("a target is a name in /run/secrets, or a whole path".into())
        }
        (_, Some(target)) if !secret.is_variable && (target == "." || target == "..") => {
            Err("no name of a file".into())
        }
        _ => Ok(secret),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_given_as_podman_has_it() {
        let plain = SecretArgument { name: "k".into(), is_variable: false, target: None, uid: 0, gid: 0, mode: 0o444 };
        assert_eq!(secret("k"), Ok(plain.clone()));
        let target = Some("/etc/k".to_owned());
        assert_eq!(
            secret("k,target=/etc/k,uid=1,gid=2,mode=0400"),
            Ok(SecretArgument { target, uid: 1, gid: 2, mode: 0o400, ..plain.clone() })
        );
        let target = Some("K".to_owned());
        assert_eq!(secret("source=k,type=env,target=K"), Ok(SecretArgument { target, is_variable: true, ..plain }));
        for wrong in [
            "",
            "type=env",
            "k,type=x",
            "k,mode=9",
            "k,mode=4755",
            "k,uid=-1",
            "k,x=y",
            "k,type=env,uid=1",
            "k,target=a/b",
            "k,target=..",
        ] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }
}
