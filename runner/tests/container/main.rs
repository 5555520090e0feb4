//! What a container is and is not allowed, tried on the running kernel.
//!
//! Run as root: the tests make an unprivileged user with subordinate ids and start containers as that user. Where that is
//! impossible they say SKIPPED and why. A start wants a process with one thread, so each container is started by this same
//! program, called again with `--launch`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit
)]

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

mod isolation;
mod launcher;
mod lifecycle;
mod support;
mod volumes;

use support::Bench;

type Test = (&'static str, fn(&Bench));

/// How long one test may take. A container that hangs must not hang those who wait for the result.
const LONGEST: Duration = Duration::from_mins(2);

/// Ends everything when it is not dropped in time.
struct TimeLimit(Option<(Sender<()>, JoinHandle<()>)>);

impl TimeLimit {
    fn of(name: &'static str) -> Self {
        let (done, waits) = channel();
        let thread = std::thread::spawn(move || {
            if waits.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                println!("test {name} ... FAILED: still runs after {} s", LONGEST.as_secs());
                std::process::exit(1);
            }
        });
        Self(Some((done, thread)))
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.0.take() {
            drop(done);
            thread.join().unwrap();
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(first) = args.first()
        && let Some(code) = launcher::main(first, args.get(1..).unwrap_or_default())
    {
        std::process::exit(code);
    }
    let filters: Vec<&String> = args.iter().filter(|argument| !argument.starts_with('-')).collect();
    let bench = match support::bench() {
        Ok(bench) => bench,
        Err(why) => {
            println!("SKIPPED container tests: {why}");
            return;
        }
    };
    let tests: Vec<Test> = [isolation::TESTS, lifecycle::TESTS, volumes::TESTS].concat();
    let mut failed = Vec::new();
    let mut run = 0;
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        // Both ways to start must keep every promise.
        for by_holder in [false, true] {
            run += 1;
            bench.by_holder.set(by_holder);
            let limit = TimeLimit::of(name);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&bench)));
            drop(limit);
            let way = if by_holder { "by a holder" } else { "plain" };
            println!("test {name} ({way}) ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
            if outcome.is_err() {
                failed.push(name);
            }
        }
    }
    drop(bench);
    println!("\n{run} container tests, {} failed", failed.len());
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
        std::process::exit(1);
    }
}
