//! End to end: the real programs, a real registry, the real kernel, an unprivileged user.
//!
//! The tests are named by what the project promises. Those that need root (to make that user, to mount, to be the
//! oracle) say `SKIPPED name: reason` on standard error when they cannot run, and are never empty in silence.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says by its end what is wrong")]

mod support;

mod attendance;
mod background;
mod bad_input;
mod checkouts;
mod choices;
mod cold;
mod collection;
mod command_line;
mod concurrency;
mod containers;
mod crashes;
mod dedup;
mod depth;
mod differences;
mod distrobox;
mod exit_codes;
mod families;
mod files;
mod flags;
mod full_disk;
mod health;
mod holder;
mod hostile;
mod image_mounts;
mod layers;
mod leaks;
mod life;
mod lilipod;
mod logins;
mod namespaces;
mod nested;
mod networks;
mod oci;
mod openings;
mod own_copy;
mod power_cuts;
mod reach;
mod root;
mod roots;
mod secrets;
mod streams;
mod titles;
mod virtual_machine;
mod volumes;

#[test]
fn no_test_file_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            assert!(main.contains(&format!("mod {module};")), "{name} is in no mod line");
        }
    }
}
