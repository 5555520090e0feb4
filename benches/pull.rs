//! How long pulls take: into an empty store, of the next version of an image, and of what is there already.

use std::path::Path;
use std::process::ExitCode;

use criterion::{Criterion, SamplingMode};
use lstore_benches::{Bench, Reason, main as bench_main, time};

fn main() -> ExitCode {
    bench_main(|| {
        let mut criterion = Criterion::default().configure_from_args();
        let result = pulls(&mut criterion);
        criterion.final_summary();
        result
    })
}

fn pulls(criterion: &mut Criterion) -> Result<(), Reason> {
    let bench = Bench::prepare()?;
    let pull = |store: &Path, image: &str| bench.lstore(store, ["pull", "--quiet", "--tls-verify=false", image]);
    let store = bench.store("store");
    let clean = |()| bench.remove(&store);
    let mut failed = None;
    let mut group = criterion.benchmark_group("pull");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);

    group.bench_function("cold", |bencher| {
        bencher.iter_custom(|times| time(times, &mut failed, || Ok(()), |()| pull(&store, bench.image()), clean));
    });

    let (old, new) = (bench.other_image("app-py:1"), bench.other_image("app-py:2"));
    let has_update = pull(&store, &old).and_then(|()| pull(&store, &new));
    if store.exists() {
        bench.remove(&store)?;
    }
    match has_update {
        Ok(()) => {
            group.bench_function("update", |bencher| {
                bencher.iter_custom(|times| {
                    time(times, &mut failed, || pull(&store, &old), |()| pull(&store, &new), clean)
                });
            });
        }
        Err(reason) => drop(bench_main(|| Err(format!("update: {reason}")))),
    }

    pull(&store, bench.image())?;
    group.bench_function("no-op", |bencher| {
        bencher.iter_custom(|times| time(times, &mut failed, || Ok(()), |()| pull(&store, bench.image()), Ok));
    });
    group.finish();
    failed.map_or(Ok(()), Err)
}
