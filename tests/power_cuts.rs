//! Power cuts at random moments of random work, on file systems that keep back all that nobody asked them to write.
//!
//! `LSTORE_TEST_CUTS` says how many cuts each placement gets on each file system (5 without it), `LSTORE_TEST_SEED` the
//! seed of the random numbers; a failure tells the seed.

mod model;

use std::time::Duration;

use crate::need;
use crate::power_cuts::model::{Machine, Random};
use crate::support::loop_device::LoopDevice;
use crate::support::skip;

/// Nothing is written before it must be: a cut takes all that was not synced.
const LAZY_EXT4: &str = "commit=300,noauto_da_alloc";
/// A copy may be mounted beside the dead file system.
const XFS: &str = "nouuid";

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn cuts(kind: &str, options: &'static str, placements: &[&str]) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = setting("LSTORE_TEST_SEED", u64::from(now.subsec_nanos()));
    let count = setting("LSTORE_TEST_CUTS", 5);
    for placement in placements {
        let test = format!("power cuts on {kind}, {placement}");
        let device = need!(&test, LoopDevice::with_options(kind, 512, options));
        let mut machine = need!(&test, Machine::new(&device, placement));
        if let Some(reason) = machine.refusal() {
            skip(&test, &reason);
            continue;
        }
        let mut random = Random(seed);
        for cut in 0..count {
            machine.context = format!("{kind}, {placement}, cut {cut}, seed {seed}");
            // Some work that ends, then some that does not.
            for _ in 0..random.below(4) {
                machine.work(&mut random);
            }
            let moment = Duration::from_millis(random.below(400));
            machine.work_until(moment, &mut random);
            machine.boot_again();
            machine.check(&mut random);
        }
    }
}

#[test]
fn power_cuts_on_ext4_leave_a_store_that_is_whole() {
    cuts("ext4", LAZY_EXT4, &["stub", "hardlink", "copy"]);
}

#[test]
fn power_cuts_on_xfs_leave_a_store_that_is_whole() {
    cuts("xfs", XFS, &["stub", "hardlink", "reflink", "copy"]);
}

/// A checkout of an image that is on the disk, which is not on the disk itself.
fn torn_checkout(kind: &str, options: &'static str, placement: &str) {
    let test = format!("a torn checkout on {kind}, {placement}");
    let device = need!(&test, LoopDevice::with_options(kind, 512, options));
    let mut machine = need!(&test, Machine::new(&device, placement));
    if let Some(reason) = machine.refusal() {
        return skip(&test, &reason);
    }
    machine.context = format!("{kind}, {placement}");
    machine.import_and_check_out_later();
    device.cut().unwrap();
    machine.boot_again();
    // In use again, before anybody looked for damage, and beside another whose inodes it shares.
    machine.prepare_all();
    machine.check(&mut Random(1));
}

#[test]
fn a_checkout_that_was_not_written_is_made_again() {
    for placement in ["hardlink", "copy", "stub"] {
        torn_checkout("ext4", LAZY_EXT4, placement);
    }
    for placement in ["hardlink", "copy", "stub", "reflink"] {
        torn_checkout("xfs", XFS, placement);
    }
}

#[test]
fn nothing_that_is_on_disk_is_made_again_after_a_boot() {
    for placement in ["hardlink", "copy"] {
        let test = format!("nothing is made again, {placement}");
        let device = need!(&test, LoopDevice::with_options("ext4", 512, LAZY_EXT4));
        let mut machine = need!(&test, Machine::new(&device, placement));
        machine.context.clone_from(&test);
        machine.import_and_check_out_later();
        // It reads everything, and has it written.
        machine.ok(&["fsck"]);
        let before = machine.trees();
        assert_eq!(before.len(), 2);
        crate::support::run(&mut std::process::Command::new("sync")).unwrap();
        device.cut().unwrap();
        machine.boot_again();
        machine.prepare_all();
        assert_eq!(machine.trees(), before, "{test}");
        machine.check(&mut Random(1));
        assert_eq!(machine.trees(), before, "{test}");
    }
}
