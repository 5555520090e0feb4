//! How long a checkout takes, by placement, of an image whose files are all in the pool.

use std::process::ExitCode;

use criterion::{Criterion, SamplingMode};
use lstore_benches::{Bench, Reason, main as bench_main, time};

fn main() -> ExitCode {
    bench_main(|| {
        let mut criterion = Criterion::default().configure_from_args();
        let result = materialise(&mut criterion);
        criterion.final_summary();
        result
    })
}

fn materialise(criterion: &mut Criterion) -> Result<(), Reason> {
    let bench = Bench::prepare()?;
    let store = bench.store("store");
    bench.lstore(&store, ["pull", "--quiet", "--tls-verify=false", bench.image()])?;
    let mut failed = None;
    let mut group = criterion.benchmark_group("materialise");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for placement in ["stub", "hardlink"] {
        let words = ["--quiet", "--placement", placement, "prepare", bench.image()];
        if let Err(reason) = bench.lstore(&store, words) {
            let _ = bench_main(|| Err(format!("{placement}: {reason}")));
            continue;
        }
        group.bench_function(placement, |bencher| {
            let remove = || bench.lstore(&store, ["gc", "--checkouts"]);
            bencher.iter_custom(|times| time(times, &mut failed, remove, |()| bench.lstore(&store, words), Ok));
        });
    }
    group.finish();
    failed.map_or(Ok(()), Err)
}
