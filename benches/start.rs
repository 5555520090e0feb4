//! How long a container takes from its start to the end of `true`: lrun, and the floor under it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use criterion::Criterion;
use lstore_benches::{Bench, Reason, compile_floor, main as bench_main, run, time};

fn main() -> ExitCode {
    bench_main(|| {
        let mut criterion = Criterion::default().configure_from_args();
        let result = start(&mut criterion);
        criterion.final_summary();
        result
    })
}

fn start(criterion: &mut Criterion) -> Result<(), Reason> {
    let bench = Bench::prepare()?;
    let store = bench.store("store");
    bench.lstore(&store, ["pull", "--quiet", "--tls-verify=false", bench.image()])?;
    let mut failed = None;
    let mut group = criterion.benchmark_group("start");
    for network in ["none", "host"] {
        let words = ["run", "--rm", "--network", network, bench.image(), "true"];
        // The first makes the tree.
        bench.lrun(&store, words)?;
        group.bench_function(format!("lrun/{network}"), |bencher| {
            bencher.iter_custom(|times| time(times, &mut failed, || Ok(()), |()| bench.lrun(&store, words), Ok));
        });
    }
    let floor = bench.install(&compile_floor()?)?;
    bench.folder("floor-containers")?;
    for network in ["none", "host"] {
        let mut command = floor_command(&bench, &floor, &store, network == "host")?;
        group.bench_function(format!("floor/{network}"), |bencher| {
            bencher.iter_custom(|times| time(times, &mut failed, || Ok(()), |()| run(&mut command), Ok));
        });
    }
    group.finish();
    failed.map_or(Ok(()), Err)
}

/// The floor over the tree that lrun made; tried once, with the objects of the store below for a tree of stubs.
fn floor_command(bench: &Bench, floor: &Path, store: &Path, has_host_network: bool) -> Result<Command, Reason> {
    let program = floor.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut tried = Ok(());
    for data in [store.join("objects"), PathBuf::from("-")] {
        let mut command = bench.command(&program);
        match (bench.range(), bench.holder()) {
            (Some(range), Some(holder)) => command.args(["--range", &range, "--holder", &holder]),
            _ => command.arg("--single"),
        };
        if has_host_network {
            command.arg("--host-net");
        }
        command.arg(tree(store)?).arg(data).arg(bench.store("floor-containers"));
        tried = run(&mut command);
        if tried.is_ok() {
            return Ok(command);
        }
    }
    Err(tried.err().unwrap_or_default())
}

fn tree(store: &Path) -> Result<PathBuf, Reason> {
    let trees = fs::read_dir(store.join("trees")).map_err(|error| error.to_string())?;
    let roots = trees.flatten().map(|tree| tree.path().join("root"));
    roots.into_iter().find(|root| root.is_dir()).ok_or_else(|| "the store has no tree".to_owned())
}
