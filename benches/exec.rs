//! How long a further command in a running container takes: lrun, and util-linux under it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use criterion::Criterion;
use lstore_benches::{Bench, Reason, main as bench_main, run, time};

/// Of the machine, where the other programs are copies of our own.
const NSENTER: &str = "/usr/bin/nsenter";

fn main() -> ExitCode {
    bench_main(|| {
        let mut criterion = Criterion::default().configure_from_args();
        let result = exec(&mut criterion);
        criterion.final_summary();
        result
    })
}

fn exec(criterion: &mut Criterion) -> Result<(), Reason> {
    let bench = Bench::prepare()?;
    let store = bench.store("store");
    bench.lstore(&store, ["pull", "--quiet", "--tls-verify=false", bench.image()])?;
    bench.lrun(&store, ["run", "--detach", "--rm", "--name", "bench", bench.image(), "sleep", "1000"])?;
    let measured = compare(criterion, &bench, &store);
    bench.lrun(&store, ["rm", "--force", "bench"])?;
    measured
}

fn compare(criterion: &mut Criterion, bench: &Bench, store: &Path) -> Result<(), Reason> {
    let id = first_process(store)?;
    let mut failed = None;
    let mut group = criterion.benchmark_group("exec");
    group.bench_function("lrun", |bencher| {
        let step = |&(): &()| bench.lrun(store, ["exec", "bench", "true"]);
        bencher.iter_custom(|times| time(times, &mut failed, || Ok(()), step, Ok));
    });
    let mut command = bench.command(NSENTER);
    command.args(["-t", &id, "-U", "-m", "-u", "-i", "-n", "-p", "-C", "--preserve-credentials", "true"]);
    run(&mut command)?;
    group.bench_function("nsenter", |bencher| {
        bencher.iter_custom(|times| time(times, &mut failed, || Ok(()), |()| run(&mut command), Ok));
    });
    group.finish();
    failed.map_or(Ok(()), Err)
}

/// The id of the container's first process, from the record beside it.
fn first_process(store: &Path) -> Result<String, Reason> {
    let state = fs::read_to_string(store.join("containers/bench/state")).map_err(|error| error.to_string())?;
    let id = state.split_once("\"first\":{\"id\":").map(|(_, rest)| rest);
    let digits = id.and_then(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next());
    digits.filter(|digits| !digits.is_empty()).map(str::to_owned).ok_or_else(|| format!("no process in {state}"))
}
