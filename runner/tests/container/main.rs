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

mod isolation;
mod launcher;
mod lifecycle;
mod support;
mod volumes;

use support::Bench;

type Test = (&'static str, fn(&Bench));

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
        run += 1;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&bench)));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if outcome.is_err() {
            failed.push(name);
        }
    }
    drop(bench);
    println!("\n{run} container tests, {} failed", failed.len());
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
        std::process::exit(1);
    }
}
