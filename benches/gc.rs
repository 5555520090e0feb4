//! How long a collection takes: of an image that was removed, and where there is nothing to collect.

use std::process::ExitCode;

use criterion::{Criterion, SamplingMode};
use lstore_benches::{Bench, Reason, main as bench_main, time};

fn main() -> ExitCode {
    bench_main(|| {
        let mut criterion = Criterion::default().configure_from_args();
        let result = gc(&mut criterion);
        criterion.final_summary();
        result
    })
}

fn gc(criterion: &mut Criterion) -> Result<(), Reason> {
    let bench = Bench::prepare()?;
    let store = bench.store("store");
    let pull = || bench.lstore(&store, ["pull", "--quiet", "--tls-verify=false", bench.image()]);
    let mut failed = None;
    let mut group = criterion.benchmark_group("gc");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("image", |bencher| {
        let unwanted = || pull().and_then(|()| bench.lstore(&store, ["rmi", bench.image()]));
        bencher.iter_custom(|times| time(times, &mut failed, unwanted, |()| bench.lstore(&store, ["gc"]), Ok));
    });
    pull()?;
    group.bench_function("nothing", |bencher| {
        bencher.iter_custom(|times| time(times, &mut failed, || Ok(()), |()| bench.lstore(&store, ["gc"]), Ok));
    });
    group.finish();
    failed.map_or(Ok(()), Err)
}
