//! Pulls: cold, and of an image that is all there.

use std::time::{Duration, Instant};

use criterion::Criterion;
use lstore_benches::Bench;

fn main() {
    let bench = match Bench::new() {
        Ok(bench) => bench,
        Err(reason) => {
            use std::io::Write;
            let _ = writeln!(std::io::stdout(), "skipped: {reason}");
            return;
        }
    };
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group("pull");
    group.bench_function("cold", |bencher| {
        bencher.iter_custom(|count| {
            let mut total = Duration::ZERO;
            for _ in 0..count {
                bench.remove("cold");
                let begin = Instant::now();
                assert!(bench.lstore("cold", &["pull", "-q", &bench.image]), "a pull failed");
                total += begin.elapsed();
            }
            total
        });
    });
    group.bench_function("all there", |bencher| {
        bencher.iter(|| assert!(bench.lstore("cold", &["pull", "-q", &bench.image]), "a pull failed"));
    });
    group.finish();
    bench.remove("cold");
    criterion.final_summary();
}
