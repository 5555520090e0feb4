//! Hooks: programs of the caller's that run at points of a container's life, with its state on their standard input.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::config::Hook;

/// Between two looks at a hook that has a time limit.
const PATIENCE: Duration = Duration::from_millis(2);

/// Runs hooks one after another.
///
/// # Errors
/// Of the first that cannot be run, fails, or takes longer than it may; the text names it.
pub(super) fn run(hooks: &[Hook], state: &str, folder: Option<&Path>) -> io::Result<()> {
    for hook in hooks {
        one(hook, state, folder)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", hook.path.display())))?;
    }
    Ok(())
}

/// Runs hooks of which none can stop what has happened already; `warn` hears of those that fail.
pub(super) fn run_all(hooks: &[Hook], state: &str, folder: &Path, when: &str, warn: &mut dyn FnMut(&str)) {
    for hook in hooks {
        if let Err(error) = one(hook, state, Some(folder)) {
            warn(&format!("{when} hook {} failed: {error}", hook.path.display()));
        }
    }
}

fn one(hook: &Hook, state: &str, folder: Option<&Path>) -> io::Result<()> {
    let mut command = Command::new(&hook.path);
    if let [name, arguments @ ..] = hook.args.as_slice() {
        command.arg0(name).args(arguments);
    }
    if let Some(variables) = &hook.env {
        command.env_clear().envs(variables.iter().filter_map(|variable| variable.split_once('=')));
    }
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not care to read it may close its end.
        let _ = input.write_all(state.as_bytes());
    }
    let status = match hook.timeout {
        None => child.wait()?,
        Some(seconds) => {
            let end = Instant::now() + Duration::from_secs(seconds);
            loop {
                match child.try_wait()? {
                    Some(status) => break status,
                    None if Instant::now() < end => std::thread::sleep(PATIENCE),
                    None => {
                        child.kill()?;
                        child.wait()?;
                        return Err(io::Error::other(format!("it took longer than {seconds} s")));
                    }
                }
            }
        }
    };
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: ["sh", "-c", script, "zero", "one"].map(str::to_owned).to_vec(),
            env: Some(vec!["SAID=x=y".to_owned()]),
            timeout: Some(10),
        }
    }

    #[test]
    fn a_hook_has_its_arguments_its_environment_and_the_state() {
        let script = r#"[ "$(cat)" = state ] && [ "$1 $SAID" = "one x=y" ] && [ -z "$HOME" ] && [ "$PWD" = / ]"#;
        run(&[shell(script)], "state", Some(Path::new("/"))).unwrap();
    }

    #[test]
    fn one_that_fails_or_is_slow_ends_them() {
        let error = run(&[shell("exit 3"), shell("touch /nonexistent/x")], "", None).unwrap_err().to_string();
        assert!(error.contains("/bin/sh") && error.contains('3'), "{error}");
        let slow = Hook { timeout: Some(0), ..shell("exec sleep 60") };
        assert!(run(&[slow], "", None).unwrap_err().to_string().contains("longer"));
    }
}
