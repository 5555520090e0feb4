//! Starts: `lrun run --rm IMAGE true` against the floor, the least kernel work that a start is.

use std::path::{Path, PathBuf};
use std::process::Command;

use criterion::Criterion;
use lstore_benches::Bench;

fn main() {
    let bench = match Bench::new() {
        Ok(bench) => bench,
        Err(reason) => return skip(&reason),
    };
    if !bench.lstore("store", &["pull", "-q", &bench.image]) {
        return skip("the image cannot be pulled");
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("start");
    group.bench_function("lrun run --rm IMAGE true", |bencher| {
        bencher.iter(|| assert!(bench.lrun("store", &["run", "--rm", &bench.image, "true"]), "a start failed"));
    });
    group.bench_function("lrun run --rm --network host IMAGE true", |bencher| {
        let words = ["run", "--rm", "--network", "host", bench.image.as_str(), "true"];
        bencher.iter(|| assert!(bench.lrun("store", &words), "a start failed"));
    });
    match floor(&bench) {
        Ok((program, folders)) => {
            group.bench_function("floor", |bencher| {
                bencher.iter(|| {
                    // As for a container of its own: fresh folders, removed by nobody within the time.
                    let upper = fresh(&bench, "upper");
                    let work = fresh(&bench, "work");
                    let mut command = bench.command(&program, "store");
                    command.args([&folders[0], &folders[1], &upper, &work, &folders[2]]);
                    assert!(command.status().is_ok_and(|status| status.success()), "the floor failed");
                });
            });
        }
        Err(reason) => skip(&format!("floor: {reason}")),
    }
    group.finish();
    bench.remove("store");
    criterion.final_summary();
}

fn skip(reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "skipped: {reason}");
}

/// Compiles the floor; tree, pool and mountpoint for it.
fn floor(bench: &Bench) -> Result<(PathBuf, [PathBuf; 3]), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("floor.c");
    let program = bench.programs.join("floor");
    let built = Command::new("cc").args(["-O2", "-static", "-w", "-o"]).arg(&program).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("cc cannot compile it".to_owned());
    }
    let store = bench.scratch.join("store");
    let trees = std::fs::read_dir(store.join("trees")).map_err(|error| error.to_string())?;
    let tree = trees.flatten().next().ok_or("no checkout")?.path().join("root");
    Ok((program, [tree, store.join("objects"), fresh(bench, "mountpoint")]))
}

/// A folder of the user's that nobody has used.
fn fresh(bench: &Bench, name: &str) -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = bench.scratch.join(format!("{name}-{number}"));
    let made = bench.command(Path::new("mkdir"), "store").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkdir failed");
    path
}
