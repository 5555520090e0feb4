use std::ffi::OsString;

use super::*;
use crate::exit::Exit;
use clap::CommandFactory as _;

fn parse(words: &[&str]) -> Result<Lrun, clap::Error> {
    let words = std::iter::once("lrun").chain(words.iter().copied());
    Lrun::try_parse_from(with_command(words.map(OsString::from)))
}

fn run(words: &[&str]) -> RunArguments {
    match parse(words).unwrap().command {
        LrunCommand::Run(run) => *run,
        other => panic!("not a run: {other:?}"),
    }
}

/// The one line that is told about a command line.
fn refused(words: &[&str]) -> String {
    let words = std::iter::once("lrun").chain(words.iter().copied());
    let words = with_command(words.map(OsString::from));
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let parsed = crate::report::parse::<Lrun>(&words, Exit::RUNNER, false, &mut stdout, &mut stderr);
    assert_eq!(parsed.err(), Some(Exit::RUNNER));
    assert_eq!(stdout, b"");
    String::from_utf8(stderr).unwrap().trim_end().to_owned()
}

#[test]
fn the_definition_is_consistent() {
    Lrun::command().debug_assert();
}

#[test]
fn every_command_teaches_by_example() {
    let mut lrun = Lrun::command();
    lrun.build();
    for command in lrun.get_subcommands() {
        let help = command.clone().render_help().to_string();
        let name = command.get_name();
        assert!(help.contains(&format!("Examples:\n  lrun {name}")), "{name}");
    }
    let help = Lrun::command().render_help().to_string();
    assert!(help.contains("short for 'lrun run IMAGE'"));
}

#[test]
fn flags_end_at_the_image() {
    let run = run(&["run", "--rm", "debian:12", "ls", "--rm", "-it", "--", "-x"]);
    assert!(run.rm && !run.tty);
    assert_eq!(run.image(), "debian:12");
    assert_eq!(run.command(), ["ls", "--rm", "-it", "--", "-x"]);
}

#[test]
fn a_command_may_begin_with_a_flag_or_be_empty() {
    assert_eq!(run(&["run", "i", "-c", "x"]).command(), ["-c", "x"]);
    assert_eq!(run(&["run", "i", "--help"]).command(), ["--help"]);
    assert_eq!(run(&["run", "i", "--root", "x"]).command(), ["--root", "x"]);
    assert_eq!(run(&["run", "i", ""]).command(), [""]);
    assert_eq!(run(&["run", "i"]).command(), [""; 0]);
    assert_eq!(run(&["run", "--", "i", "--", "x"]).command(), ["--", "x"]);
}

#[test]
fn the_short_form_is_the_long_one() {
    for words in [
        &["debian", "ls", "-l"][..],
        &["run", "debian", "ls", "-l"],
        &["--root", "/s", "debian", "ls", "-l"],
        &["--root=/s", "-q", "run", "debian", "ls", "-l"],
        &["--", "debian", "ls", "-l"],
    ] {
        let run = run(words);
        assert_eq!(run.image(), "debian", "{words:?}");
        assert_eq!(run.command(), ["ls", "-l"]);
    }
    let short = run(&["--rm", "-it", "-h", "box", "debian"]);
    assert!(short.rm && short.interactive && short.tty);
    assert_eq!(short.hostname.as_deref(), Some("box"));
}

#[test]
fn an_image_named_like_a_command_needs_the_long_form() {
    assert_eq!(run(&["run", "run"]).image(), "run");
    assert_eq!(run(&["run", "info"]).image(), "info");
    assert_eq!(run(&["--rm", "info"]).image(), "info");
    assert!(matches!(parse(&["info"]).unwrap().command, LrunCommand::Info(_)));
}

#[test]
fn help_can_be_asked_for_in_every_way() {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    for (words, kind) in [
        (&[][..], DisplayHelpOnMissingArgumentOrSubcommand),
        (&["-h"], DisplayHelp),
        (&["--help"], DisplayHelp),
        (&["run", "--help"], DisplayHelp),
        (&["--rm", "--help"], DisplayHelp),
        (&["--version"], DisplayVersion),
    ] {
        assert_eq!(parse(words).unwrap_err().kind(), kind, "{words:?}");
    }
}

#[test]
fn help_goes_to_standard_output_and_is_no_failure() {
    let words = ["lrun", "run", "--help"].map(OsString::from);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let parsed = crate::report::parse::<Lrun>(&words, Exit::RUNNER, false, &mut stdout, &mut stderr);
    assert_eq!(parsed.err(), Some(Exit::SUCCESS));
    assert_eq!(stderr, b"");
    let help = String::from_utf8(stdout).unwrap();
    assert!(help.contains("--network <MODE>") && !help.contains('\u{1b}'));
}

#[test]
fn every_flag_of_podman_that_is_there_has_podmans_form() {
    let run = run(&[
        "run",
        "-e",
        "A=1",
        "--env=B",
        "--env-file",
        "f",
        "-v",
        "/a:/b:ro",
        "--mount",
        "type=tmpfs,dst=/x",
        "--tmpfs",
        "/t",
        "-w",
        "/w",
        "-u",
        "1:2",
        "--name",
        "n",
        "--hostname",
        "h",
        "--entrypoint",
        "[\"a\",\"b\"]",
        "--read-only",
        "--net",
        "host",
        "--cap-add",
        "CHOWN,KILL",
        "--cap-drop=ALL",
        "--security-opt",
        "label=disable",
        "--init",
        "--userns",
        "keep-id",
        "--pids-limit=-1",
        "--pull",
        "never",
        "--platform",
        "linux/amd64",
        "--tls-verify=false",
        "--placement",
        "copy",
        "i",
    ]);
    assert_eq!(run.env, ["A=1", "B"]);
    assert_eq!(run.network, NetworkArgument::Host);
    assert_eq!(run.cap_add, ["CHOWN", "KILL"]);
    assert_eq!(run.userns, UserNamespaceArgument::KeepId { uid: None, gid: None, size: None });
    assert_eq!(run.pull, PullPolicy::Never);
    assert_eq!(run.entrypoint(), Some(vec!["a".into(), "b".into()]));
    assert_eq!(run.user.as_deref(), Some("1:2"));
}

#[test]
fn nothing_said_is_a_private_container() {
    let run = run(&["i"]);
    assert_eq!(run.network, NetworkArgument::None);
    assert_eq!(run.userns, UserNamespaceArgument::Usual);
    assert_eq!(run.pull, PullPolicy::Missing);
    assert_eq!(run.entrypoint(), None);
    assert!(run.registry.tls_verify && !run.read_only && !run.rootfs);
}

#[test]
fn an_entrypoint_is_a_program_an_array_or_nothing() {
    let entrypoint = |text: &str| run(&["--entrypoint", text, "i"]).entrypoint().unwrap();
    assert_eq!(entrypoint("/bin/sh"), ["/bin/sh"]);
    assert_eq!(entrypoint("a b"), ["a b"]);
    assert_eq!(entrypoint("[a"), ["[a"]);
    assert_eq!(entrypoint("[\"a\"]"), ["a"]);
    assert_eq!(entrypoint(""), [""; 0]);
}

#[test]
fn a_directory_takes_the_place_of_an_image() {
    let run = run(&["run", "--rootfs", "./rootfs", "/bin/sh", "-c", "x"]);
    assert!(run.rootfs);
    assert_eq!(run.image(), "./rootfs");
    assert_eq!(run.command(), ["/bin/sh", "-c", "x"]);
}

#[test]
fn what_cannot_be_honoured_is_refused_with_a_remedy() {
    for (words, expected) in [
        (&["--network", "bridge", "i"][..], "there are no bridges; give 'pasta'"),
        (&["--userns", "keep-id:bogus=1", "i"], "unknown option specified: \"bogus=1\""),
        (&["--userns", "keep-id:uid=x", "i"], "uid=x: not a number"),
        (&["--userns", "bogus", "i"], "give host or keep-id"),
        (&["--userns", "auto:gid=1", "i"], "known is size"),
        (&["--userns", "auto:size=0", "i"], "not a number of ids"),
        (&["--userns", "nomap", "i"], "the caller does not exist"),
        (&["--pids-limit", "-2", "i"], "-2"),
        (&["--cpus", "x", "i"], "a number of processors"),
        (&["--cpus", "1", "--cpu-quota", "5000", "i"], "cannot be used with"),
        (&["--cgroups", "split", "i"], "give enabled, disabled or no-conmon"),
        (&["--cgroup-parent", "../x", "i"], "a path in the hierarchy"),
        (&["--name", "a/b", "i"], "a name has up to 128"),
        (&["--hostname", "a b", "i"], "1 to 64 visible ASCII"),
        (&["--pull", "bogus", "i"], "[possible values: missing, always, never]"),
        (&["-d", "--rootfs", "i"], "cannot be used with"),
        (&["--kernel-memory", "1g", "i"], "unexpected argument '--kernel-memory' found"),
        (&["--pid", "pod:x", "i"], "give private, host, container:NAME or ns:PATH"),
        (&["--landlock", "/usr", "i"], "write ro:PATH or rw:PATH"),
        (&["--ulimit", "bogus=1", "i"], "no such limit"),
        (&["--stop-signal", "BOGUS", "i"], "no such signal"),
        (&["run"], "required arguments were not provided"),
    ] {
        let line = refused(words);
        assert!(line.contains(expected), "{line}");
        assert!(line.starts_with("lrun: ") && line.ends_with("; see 'lrun run --help'"));
        assert!(!line.contains('\n') && !line.contains("-- -"), "{line}");
    }
}

#[test]
fn a_range_of_its_own_has_a_size() {
    assert_eq!(run(&["--userns", "auto", "i"]).userns, UserNamespaceArgument::Auto(65_536));
    assert_eq!(run(&["--userns", "auto:size=1000", "i"]).userns, UserNamespaceArgument::Auto(1000));
}

#[test]
fn the_last_user_namespace_counts() {
    // The face of lilipod says one before the caller does.
    let RunArguments { userns, .. } = run(&["run", "--userns=keep-id", "--userns", "host", "i"]);
    assert_eq!(userns, UserNamespaceArgument::Host);
}
