//! What a container without a terminal of its own has of the caller's: pipes, through which goes what it writes, and what it
//! is given; never the terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::containers::debian;
use crate::need;
use crate::support::Env;

/// Longer than anything here takes on a machine with much else to do.
const PATIENCE: Duration = Duration::from_mins(1);

/// A terminal, as a person has one: an end to type at and to read, and the end that programs have.
pub struct Terminal {
    outer: File,
    inner: OwnedFd,
    seen: Vec<u8>,
}

/// Which standard streams of a command are the terminal; the others are as the command says.
#[derive(Clone, Copy)]
pub struct At {
    output: bool,
    errors: bool,
}

pub const ALL: At = At { output: true, errors: true };

impl Terminal {
    pub fn new(env: &Env) -> Self {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&outer).unwrap();
        unlockpt(&outer).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let inner = ioctl_tiocgptpeer(&outer, flags).unwrap();
        if let Some(user) = &env.user {
            // As login leaves it.
            rustix::fs::fchown(&inner, Some(rustix::fs::Uid::from_raw(user.uid)), None).unwrap();
        }
        Self { outer: outer.into(), inner, seen: Vec::new() }
    }

    /// Starts a command, whose standard input is always this terminal, and that of its session.
    fn start(&self, mut command: Command, at: At) -> Child {
        let stream = || Stdio::from(self.inner.try_clone().unwrap());
        command.stdin(stream());
        if at.output {
            command.stdout(stream());
        }
        if at.errors {
            command.stderr(stream());
        }
        command.spawn().unwrap()
    }

    /// Reads for a while what programs write, at most until `done`.
    fn read(&mut self, wait: Duration, done: impl Fn(&[u8]) -> bool) -> bool {
        let deadline = Instant::now() + wait;
        while !done(&self.seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let is_ready = poll(&mut [PollFd::new(&self.outer, PollFlags::IN)], Some(&left)).unwrap() > 0;
            let mut buffer = [0; 8192];
            match if is_ready { self.outer.read(&mut buffer) } else { Ok(0) } {
                Ok(count @ 1..) => self.seen.extend_from_slice(&buffer[..count]),
                _ => return done(&self.seen),
            }
        }
        true
    }

    fn shows(&mut self, text: &str) {
        let is_there = self.read(PATIENCE, |seen| String::from_utf8_lossy(seen).contains(text));
        assert!(is_there, "{text:?} in {:?}", self.text());
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).replace('\r', "")
    }

    pub fn kind(&mut self, text: &str) {
        self.outer.write_all(text.as_bytes()).unwrap();
    }

    /// Runs a command to its end; how it ended, and all that it wrote.
    pub fn run(&mut self, command: Command, at: At) -> (Option<i32>, String) {
        let mut process = self.start(command, at);
        let status = self.end(&mut process);
        (status.code(), self.text())
    }

    fn end(&mut self, process: &mut Child) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read(Duration::from_millis(20), |_| false);
            if let Some(status) = process.try_wait().unwrap() {
                // All that was written is in the terminal by now.
                self.read(Duration::from_millis(50), |_| false);
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.text());
        }
    }
}

fn lrun(env: &Env, words: &[&str]) -> Command {
    let mut command = env.command("setsid");
    command.args(["--ctty", "lrun"]).args(words);
    command
}

fn lines(numbers: std::ops::RangeInclusive<u32>, line: impl Fn(u32) -> String) -> String {
    numbers.map(line).collect::<Vec<_>>().concat()
}

/// Whether each standard stream is a terminal, by a program of the image.
pub const WHICH: &str = "for n in 0 1 2; do test -t $n && echo $n is a terminal; done; true";
/// Tries to read from and to change what standard output is.
const GREEDY: &str = "echo ready; stty -echo <&1 2>/dev/null && echo changed; stty -echo </proc/self/fd/1 2>/dev/null && echo changed; \
    timeout 2 head -n 1 <&1 >/f 2>/dev/null; timeout 2 head -n 1 </proc/self/fd/2 >>/f 2>/dev/null; test -s /f && echo stolen; echo over";

#[test]
fn without_a_terminal_of_its_own_no_stream_of_a_container_is_one() {
    let (env, image) = need!("no_stream_of_a_container", debian());
    let started = env.lrun(&["run", "-d", "--name", "box", &image, "sleep", "1000"]);
    assert!(started.status.success());
    let ways: [&[&str]; 6] = [
        &["run", "--rm", &image],
        &["run", "--rm", "-i", &image],
        &["run", "--rm", "-i", "--no-holder", "--init", &image],
        &["run", "--rm", "--pid", "container:box", &image],
        &["exec", "box"],
        &["exec", "-i", "box"],
    ];
    for way in ways {
        let mut terminal = Terminal::new(&env);
        let told = terminal.run(lrun(&env, &[way, &["sh", "-c", &format!("{WHICH}; exit 7")]].concat()), ALL);
        assert_eq!(told, (Some(7), String::new()), "{way:?}");
    }
    let mut terminal = Terminal::new(&env);
    let (code, told) = terminal.run(lrun(&env, &["run", "--rm", "-it", &image, "sh", "-c", WHICH]), ALL);
    assert_eq!((code, told.lines().count()), (Some(0), 3), "{told}");
    // Started with a monitor, whose streams are pipes.
    assert!(env.lrun(&["create", "--name", "later", &image, "sh", "-c", WHICH]).status.success());
    let mut terminal = Terminal::new(&env);
    assert_eq!(terminal.run(lrun(&env, &["start", "-a", "later"]), ALL), (Some(0), String::new()));
    assert!(env.lrun(&["rm", "-f", "box", "later"]).status.success());
}

#[test]
fn what_is_typed_beside_a_container_is_not_its_own_and_the_modes_stay() {
    let (env, image) = need!("what_is_typed", debian());
    assert!(env.lrun(&["run", "-d", "--name", "box", &image, "sleep", "1000"]).status.success());
    for way in [&["run", "--rm", &image][..], &["run", "--rm", "--init", "-u", "0", &image], &["exec", "box"]] {
        let mut terminal = Terminal::new(&env);
        let mut process = terminal.start(lrun(&env, &[way, &["sh", "-c", GREEDY]].concat()), ALL);
        terminal.shows("ready");
        terminal.kind("secret\n");
        assert!(terminal.end(&mut process).success());
        let told = terminal.text();
        assert!(!told.contains("stolen") && !told.contains("changed") && told.contains("over"), "{way:?}: {told}");
        assert!(tcgetattr(&terminal.inner).unwrap().local_modes.contains(LocalModes::ECHO), "{way:?}");
        // What was typed is for who reads the terminal next.
        let mut line = [0; 64];
        let count = rustix::io::read(&terminal.inner, &mut line).unwrap();
        assert_eq!(&line[..count], b"secret\n", "{way:?}");
    }
    assert!(env.lrun(&["rm", "-f", "box"]).status.success());
}

#[test]
fn much_output_arrives_whole_and_in_order_also_at_a_slow_terminal() {
    let (env, image) = need!("much_output", debian());
    assert!(env.lrun(&["run", "-d", "--name", "box", &image, "sleep", "1000"]).status.success());
    // Ten megabytes of lines that differ.
    let script = "seq 1000000 2142857; exit 5";
    let wanted = lines(1_000_000..=2_142_857, |number| format!("{number}\n"));
    for way in [&["run", "--rm", &image][..], &["exec", "box"]] {
        let mut terminal = Terminal::new(&env);
        let mut process = terminal.start(lrun(&env, &[way, &["sh", "-c", script]].concat()), ALL);
        // Nobody reads at first: the container waits for the terminal.
        std::thread::sleep(Duration::from_millis(300));
        let status = terminal.end(&mut process);
        assert_eq!(status.code(), Some(5));
        assert_eq!(wanted.len(), terminal.text().len(), "{way:?}");
        assert!(terminal.text() == wanted, "{way:?}: out of order");
    }
    // Both streams at one terminal keep their order.
    let mut terminal = Terminal::new(&env);
    let script = "for i in $(seq 300); do echo out $i; echo err $i >&2; done";
    let (_, told) = terminal.run(lrun(&env, &["run", "--rm", &image, "sh", "-c", script]), ALL);
    let wanted = lines(1..=300, |number| format!("out {number}\nerr {number}\n"));
    assert_eq!(told, wanted);
    assert!(env.lrun(&["rm", "-f", "box"]).status.success());
}

#[test]
fn each_stream_is_passed_on_for_itself_and_files_and_pipes_stay_what_they_are() {
    let (env, image) = need!("each_stream_for_itself", debian());
    let script = format!("{WHICH}; stat -Lc %F /proc/self/fd/1 /proc/self/fd/2; echo out; echo err >&2");
    let words = ["run", "--rm", &image, "sh", "-c", &script];
    let errors = env.scratch.join("errors");
    let mut terminal = Terminal::new(&env);
    let mut command = lrun(&env, &words);
    command.stderr(File::create(&errors).unwrap());
    let told = terminal.run(command, At { errors: false, ..ALL });
    assert_eq!(told, (Some(0), "fifo\nregular empty file\nout\n".to_owned()));
    assert_eq!(std::fs::read_to_string(&errors).unwrap(), "err\n");

    let mut terminal = Terminal::new(&env);
    let mut command = lrun(&env, &words);
    command.stdout(Stdio::piped());
    let process = terminal.start(command, At { output: false, ..ALL });
    assert_eq!(process.wait_with_output().unwrap().stdout, b"fifo\nfifo\nout\n");
    terminal.read(Duration::from_millis(50), |_| false);
    assert_eq!(terminal.text(), "err\n");
}

#[test]
fn input_goes_in_until_it_ends() {
    let (env, image) = need!("input_goes_in", debian());
    assert!(env.lrun(&["run", "-d", "--name", "box", &image, "sleep", "1000"]).status.success());
    for way in [&["run", "--rm", "-i", &image][..], &["exec", "-i", "box"]] {
        let mut terminal = Terminal::new(&env);
        let script = "echo ready; while read -r line; do echo got $line; done; echo end of input; exit 3";
        let mut process = terminal.start(lrun(&env, &[way, &["sh", "-c", script]].concat()), ALL);
        terminal.shows("ready");
        terminal.kind("one\n");
        terminal.shows("got one");
        // Without a line's end it is on its way with the key for the end.
        terminal.kind("two\n\x04");
        let status = terminal.end(&mut process);
        assert!(terminal.text().ends_with("got two\nend of input\n"), "{way:?}: {}", terminal.text());
        assert_eq!(status.code(), Some(3));
    }
    // A command that has closed its input, and one that never reads, end as ever.
    for script in ["exec <&-; echo ready; sleep 1", "echo ready; sleep 1"] {
        let mut terminal = Terminal::new(&env);
        let mut process = terminal.start(lrun(&env, &["run", "--rm", "-i", &image, "sh", "-c", script]), ALL);
        terminal.shows("ready");
        terminal.kind("nobody reads this\nnor this\n");
        assert!(terminal.end(&mut process).success());
    }
    assert!(env.lrun(&["rm", "-f", "box"]).status.success());
}

#[test]
fn keys_and_signals_reach_the_command_also_while_the_terminal_is_stopped() {
    let (env, image) = need!("keys_and_signals", debian());
    let script = "trap 'exit 9' INT TERM; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::new(&env);
    let mut process = terminal.start(lrun(&env, &["run", "--rm", &image, "sh", "-c", script]), ALL);
    terminal.shows("ready");
    terminal.kind("\x03");
    assert_eq!(terminal.end(&mut process).code(), Some(9));

    // Nobody reads the terminal, and the pipes are full.
    let script = "trap 'exit 9' TERM; yes & while :; do sleep 0.05; done";
    let terminal = Terminal::new(&env);
    let mut process = terminal.start(lrun(&env, &["run", "--rm", &image, "sh", "-c", script]), ALL);
    std::thread::sleep(Duration::from_secs(2));
    let own = nix::unistd::Pid::from_raw(process.id().cast_signed());
    nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGTERM).unwrap();
    // The container ends at the word. What it has written waits for the terminal; a second word ends that too.
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(300));
        let _ = nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGTERM);
    };
    assert_eq!(status.code(), Some(9));
}

#[test]
fn a_terminal_that_goes_ends_what_goes_through_it_without_a_busy_wait() {
    let (env, image) = need!("a_terminal_that_goes", debian());
    let script = "trap '' HUP; echo ready; cat; sleep 2; while echo more; do sleep 0.1; done; exit 4";
    let mut terminal = Terminal::new(&env);
    let mut process = terminal.start(lrun(&env, &["run", "--rm", "-i", &image, "sh", "-c", script]), ALL);
    terminal.shows("ready");
    drop(terminal);
    // Its input ends, and so does its output once it writes: as for a pipe whose reader has gone.
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(4), "{status}");
    let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap().user_time();
    assert!(used.tv_sec() < 60, "{used:?}");
}

#[test]
fn what_stays_behind_with_the_streams_is_not_waited_for() {
    let (env, image) = need!("what_stays_behind", debian());
    assert!(env.lrun(&["run", "-d", "--name", "box", &image, "sleep", "1000"]).status.success());
    // A quiet one, and one that writes without end.
    for behind in ["sleep 1000 &", "yes more >&1 &"] {
        let mut terminal = Terminal::new(&env);
        let script = format!("{behind} echo last words; exit 6");
        let begin = Instant::now();
        let (code, told) = terminal.run(lrun(&env, &["exec", "box", "sh", "-c", &script]), ALL);
        assert!(begin.elapsed() < Duration::from_secs(30), "{behind}");
        assert_eq!(code, Some(6), "{behind}");
        assert!(told.contains("last words\n"), "{behind}: {} bytes", told.len());
    }
    assert!(env.lrun(&["rm", "-f", "box"]).status.success());
}

#[test]
fn a_terminal_that_cannot_be_opened_again_is_passed_on_all_the_same() {
    let (env, image) = need!("a_terminal_of_others", debian());
    let mut terminal = Terminal::new(&env);
    // As after `su`: the descriptors are there, the terminal is another's.
    rustix::fs::fchown(&terminal.inner, Some(rustix::fs::Uid::ROOT), None).unwrap();
    let script = format!("{WHICH}; seq 1 20000; exit 8");
    let (code, told) = terminal.run(lrun(&env, &["run", "--rm", &image, "sh", "-c", &script]), ALL);
    let wanted = lines(1..=20000, |number| format!("{number}\n"));
    assert_eq!(code, Some(8));
    assert!(told == wanted, "{} bytes for {}", told.len(), wanted.len());
}

#[test]
fn roots_containers_have_pipes_too_and_may_open_them_anew() {
    let env = need!("roots_streams", Env::root());
    let tar = need!("roots_streams", crate::support::image::debian());
    let name = "localhost/debian:root";
    assert!(env.lstore(&["import", "-q", "-c", "CMD [\"/bin/bash\"]", tar.to_str().unwrap(), name]).status.success());
    for flags in [&[][..], &["--userns", "host"]] {
        let mut terminal = Terminal::new(&env);
        let script = format!("{WHICH}; echo through > /dev/stdout; echo errors > /dev/stderr; exit 2");
        let told = terminal.run(lrun(&env, &[&["run", "--rm"], flags, &[name, "sh", "-c", &script]].concat()), ALL);
        assert_eq!(told, (Some(2), "through\nerrors\n".to_owned()), "{flags:?}");
    }
}
