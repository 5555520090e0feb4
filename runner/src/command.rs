//! A program with its arguments and environment, and where it is looked for (`execve(2)`, `environ(7)`).

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A program with its arguments and environment, ready for exec.
pub(crate) struct Command {
    paths: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Command {
    pub(crate) fn new(args: &[OsString], env: &[OsString], home: Option<&str>) -> Self {
        let mut environment = env.to_vec();
        let has = |name: &str| env.iter().any(|variable| variable.as_bytes().starts_with(name.as_bytes()));
        if !has("HOME=") {
            environment.push(format!("HOME={}", home.unwrap_or("/")).into());
        }
        let path = env.iter().rev().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
        let program = args.first().map(|word| word.as_bytes()).unwrap_or_default();
        let paths = if program.contains(&b'/') {
            vec![program.to_vec()]
        } else {
            let folders = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
            folders.split(|&byte| byte == b':').map(|folder| [folder, b"/", program].concat()).collect()
        };
        let strings = |words: Vec<OsString>| {
            // A NUL within a word ends it: nothing behind it could reach the program anyway.
            let cut = |word: OsString| word.into_vec().into_iter().take_while(|&byte| byte != 0).collect::<Vec<u8>>();
            words.into_iter().filter_map(|word| CString::new(cut(word)).ok()).collect::<Vec<_>>()
        };
        Self {
            paths: strings(paths.into_iter().map(OsString::from_vec).collect()),
            arguments: strings(args.to_vec()),
            environment: strings(environment),
        }
    }

    pub(crate) fn name(&self) -> String {
        self.arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether there is such a program that this user may execute; else the error that exec would meet.
    pub(crate) fn look(&self) -> io::Result<()> {
        let mut told = io::Error::from_raw_os_error(nix::libc::ENOENT);
        for path in &self.paths {
            match rustix::fs::access(path.as_c_str(), rustix::fs::Access::EXEC_OK) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => told = error.into(),
            }
        }
        Err(told)
    }

    /// Tries each place of PATH; tells the error that matters most, one that is not "not found".
    pub(crate) fn execute(&self) -> io::Error {
        let mut told = io::Error::from_raw_os_error(nix::libc::ENOENT);
        for path in &self.paths {
            let Err(errno) = nix::unistd::execve(path, &self.arguments, &self.environment);
            match errno {
                nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR => {}
                nix::errno::Errno::EACCES => told = errno.into(),
                _ => return errno.into(),
            }
        }
        told
    }
}
