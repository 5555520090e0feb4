//! A file system without a free block: what is there can be used and removed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::need;
use crate::support::image::{Member, file, layer};
use crate::support::loop_device::LoopDevice;
use crate::support::{Env, all, run, said};

/// A program that needs nothing of its image.
fn program(folder: &Path) -> Result<Vec<u8>, String> {
    let (source, program) = (folder.join("hello.c"), folder.join("hello"));
    std::fs::write(&source, "#include <unistd.h>\nint main(void) { return write(1, \"started\\n\", 8) != 8; }\n")
        .map_err(|error| error.to_string())?;
    run(Command::new("cc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source))?;
    std::fs::read(&program).map_err(|error| error.to_string())
}

/// Takes every block that the user can have.
fn fill(env: &Env, device: &LoopDevice) {
    let path = device.mountpoint().join("fill");
    let script =
        format!("for size in 65536 4096 512 1; do dd if=/dev/zero bs=$size >> {} 2> /dev/null; done", path.display());
    let _ = env.command("sh").args(["-c", &script]).output().unwrap();
    let free = rustix::fs::statvfs(device.mountpoint()).unwrap().f_bavail;
    assert_eq!(free, 0, "blocks are left");
}

/// Bytes that neither compress nor repeat.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let step = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56).to_le_bytes()[0]
    };
    (0..length).map(|_| step(&mut state)).collect()
}

#[test]
fn a_full_disk_is_no_prison() {
    let device = need!("a_full_disk_is_no_prison", LoopDevice::new("ext4", 64));
    let env = need!("a_full_disk_is_no_prison", Env::at(&device.store()));
    let hello = need!("a_full_disk_is_no_prison", program(&env.scratch));
    let tar = |name: &str, members: &[Member<'_>]| std::fs::write(env.scratch.join(name), layer(members)).unwrap();
    tar("hello.tar", &[Member { mode: 0o755, ..file("hello", &hello) }]);
    let bodies: Vec<Vec<u8>> = (0..2000_u64).map(|seed| noise(3000, seed)).collect();
    let paths: Vec<String> = (0..2000).map(|number| format!("f{number}")).collect();
    let members: Vec<_> = paths.iter().zip(&bodies).map(|(path, body)| file(path, body)).collect();
    tar("many.tar", &members);
    env.ok(&["import", "-q", "hello.tar", "localhost/hello:1"]);
    env.ok(&["import", "-q", "many.tar", "localhost/many:1"]);
    env.ok(&["prepare", "localhost/hello:1"]);
    // So that the processes that start containers share no descriptors with a command that has failed.
    std::fs::set_permissions(env.scratch.join("run"), PermissionsExt::from_mode(0o700)).unwrap();
    let start = ["run", "--rm", "--pull", "never", "localhost/hello:1", "/hello"];

    for first in ["images", "run", "rmi", "gc"] {
        fill(&env, &device);
        // Each of them is the first that meets the full disk.
        match first {
            "run" => assert_eq!(said(&env.lrun(&start)), "started\n"),
            "rmi" => assert!(env.ok(&["rmi", "localhost/many:1"]).contains("Deleted")),
            first => drop(env.ok(&[first])),
        }
        assert!(env.ok(&["images"]).contains("localhost/hello"));
        std::fs::remove_file(device.mountpoint().join("fill")).unwrap();
        // With room again there is something to give up the next time.
        env.ok(&["gc"]);
        assert!(env.store.join("ballast").exists());
    }
    let freed = std::fs::read_dir(env.store.join("objects")).unwrap().count();
    assert_eq!(freed, 1, "the objects of the image that was removed are gone");
    env.ok(&["fsck"]);
}

#[test]
fn a_pull_stops_before_the_disk_is_full() {
    let device = need!("a_pull_stops_before", LoopDevice::new("ext4", 64));
    let env = need!("a_pull_stops_before", Env::at(&device.store()));
    let mut large = std::fs::File::create(env.scratch.join("large.tar")).unwrap();
    large.write_all(&layer(&[file("large", &noise(70 << 20, 1))])).unwrap();
    drop(large);
    let many: Vec<Vec<u8>> = (0..9000_u64).map(|seed| noise(8000, seed)).collect();
    let paths: Vec<String> = (0..9000).map(|number| format!("f{number}")).collect();
    let members: Vec<_> = paths.iter().zip(&many).map(|(path, body)| file(path, body)).collect();
    std::fs::write(env.scratch.join("many.tar"), layer(&members)).unwrap();
    for tar in ["large.tar", "many.tar"] {
        let mut import = env.spawn("lstore", &["import", "-q", tar, "localhost/x:1"]);
        let mut least = u64::MAX;
        while import.try_wait().unwrap().is_none() {
            let told = rustix::fs::statvfs(device.mountpoint()).unwrap();
            least = least.min(told.f_bavail * told.f_frsize);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let output = import.wait_with_output().unwrap();
        assert!(!output.status.success() && all(&output).contains("No space left"), "{tar}: {}", all(&output));
        assert!(all(&output).contains("lstore gc"), "{tar}: {}", all(&output));
        assert!(least > 1 << 20, "{tar}: {least} bytes were left");
        env.assert_no_trace();
    }
}
