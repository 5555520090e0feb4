//! `lrun apparmor`: the profile that gives these programs user namespaces where AppArmor withholds them, as on Ubuntu since
//! 24.04. It confines nothing: what a container may is the runner's to say.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::report::Failure;

/// The profile of the programs where they are.
pub(super) fn profile() -> Result<String, Failure> {
    let own = std::env::current_exe()?;
    text(&[own.clone(), own.with_file_name("lstore")])
}

fn text(programs: &[PathBuf]) -> Result<String, Failure> {
    let mut text = "\
# User namespaces for lrun and lstore. Install it as /etc/apparmor.d/lrun and load it with
# `apparmor_parser -r /etc/apparmor.d/lrun`.
abi <abi/4.0>,
include <tunables/global>
"
    .to_owned();
    for program in programs {
        let name = program.file_name().unwrap_or_default().display();
        let path = quoted(program)?;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\nprofile {name} {path} flags=(unconfined) {{\n  userns,\n  include if exists <local/{name}>\n}}\n"
        );
    }
    Ok(text)
}

/// A path in quotes, where what would be a pattern stands for itself (`apparmor.d(5)`).
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    let text = text.ok_or_else(|| format!("{}: a profile cannot name such a path", path.display()))?;
    let escaped = |letter: char| {
        let special = "\\\"*?[]{}^@".contains(letter);
        special.then_some('\\').into_iter().chain([letter]).collect::<String>()
    };
    Ok(format!("\"{}\"", text.chars().map(escaped).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_a_profile_by_its_path() {
        let text = text(&[PathBuf::from("/usr/bin/lrun"), PathBuf::from("/opt/a b/{x}*")]).unwrap();
        assert!(text.contains("profile lrun \"/usr/bin/lrun\" flags=(unconfined) {\n  userns,\n"), "{text}");
        assert!(text.contains("\"/opt/a b/\\{x\\}\\*\""), "{text}");
        assert!(super::text(&[PathBuf::from("/a\nb")]).is_err());
    }
}
