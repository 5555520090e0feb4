//! What the user mounts.

use std::fs;
use std::os::unix::fs::symlink;

use crate::Test;
use crate::support::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("a_directory_is_shared_both_ways", shared),
    ("a_read_only_volume_refuses_writes", read_only),
    ("a_volume_goes_where_a_link_points_inside", links),
    ("a_link_to_proc_is_no_target", link_to_proc),
    ("a_missing_source_is_named", missing),
    ("a_file_can_be_a_volume", file),
    ("a_tmpfs_is_limited_and_inert", tmpfs),
    ("a_plain_directory_does_as_root", directory),
];

fn shared(bench: &Bench) {
    let host = bench.directory(bench.user);
    fs::write(host.path().join("in"), "from host").unwrap();
    let mut run = bench.container();
    let out =
        run.flag("--bind").flag(host.path()).flag("/new/place").sh("cat /new/place/in; echo back > /new/place/out");
    assert_eq!(out, "from host");
    assert_eq!(fs::read_to_string(host.path().join("out")).unwrap(), "back\n");
}

fn read_only(bench: &Bench) {
    let host = bench.directory(bench.user);
    let mut run = bench.container();
    let finished = run.flag("--bind-ro").flag(host.path()).flag("/srv").run(&["/bin/touch", "/srv/x"]);
    assert_eq!(finished.code, 1);
    assert!(finished.err.contains("Read-only"), "{finished:?}");
}

/// Puts a link into the writable layer, as a hostile image or an earlier run could have.
fn with_link<'a>(bench: &'a Bench, name: &str, target: &str) -> crate::support::Run<'a> {
    let run = bench.container();
    symlink(target, run.own().join("upper").join(name)).unwrap();
    run
}

fn links(bench: &Bench) {
    let (host, outside) = (bench.directory(bench.user), bench.directory(bench.user));
    fs::write(host.path().join("in"), "volume").unwrap();
    let mut run = with_link(bench, "link", "../../srv");
    let out = run.flag("--bind").flag(host.path()).flag("/link").sh("cat /srv/in");
    assert_eq!(out, "volume", "the link is one of the container");
    // A place on the host is none inside, and is not made there either.
    let mut run = with_link(bench, "link", outside.path().to_str().unwrap());
    let finished = run.flag("--bind").flag(host.path()).flag("/link/made").run(&["/bin/true"]);
    assert_eq!(finished.code, 125, "{finished:?}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "and made nothing on the host");
}

fn link_to_proc(bench: &Bench) {
    let host = bench.directory(bench.user);
    for target in ["/proc/self", "/proc/sys/kernel"] {
        let mut run = with_link(bench, "link", target);
        let finished = run.flag("--bind").flag(host.path()).flag("/link").run(&["/bin/true"]);
        assert_eq!(finished.code, 125, "{target}: {finished:?}");
        assert!(
            finished.err.contains("cannot mount /link: the image has a symbolic link to /proc there"),
            "{finished:?}"
        );
    }
}

fn missing(bench: &Bench) {
    let mut run = bench.container();
    let finished = run.flags(&["--bind", "/nowhere/at/all", "/srv"]).run(&["/bin/true"]);
    assert_eq!(finished.code, 125);
    assert_eq!(finished.err, "error: cannot mount /srv: /nowhere/at/all: No such file or directory (os error 2)\n");
}

fn file(bench: &Bench) {
    let host = bench.directory(bench.user);
    fs::write(host.path().join("hosts"), "mine").unwrap();
    let mut run = bench.container();
    let out = run.flag("--bind").flag(host.path().join("hosts")).flag("/etc/hosts").sh("cat /etc/hosts");
    assert_eq!(out, "mine");
}

fn tmpfs(bench: &Bench) {
    let mut run = bench.container();
    let out = run.flags(&["--tmpfs", "/srv/deep"]).sh("grep ' /srv/deep ' /proc/self/mountinfo; stat -c %a /srv/deep");
    let mut linked = with_link(bench, "link", "../srv");
    assert_eq!(linked.flags(&["--tmpfs", "/link"]).sh("stat -f -c %T /srv").trim(), "tmpfs");
    for word in ["nosuid", "nodev", "noexec", "size=1024k", "1777"] {
        assert!(out.contains(word), "{word}: {out}");
    }
}

fn directory(bench: &Bench) {
    let host = bench.directory(bench.user);
    let status = bench
        .program(bench.user)
        .args(["--enter", "/bin/cp", "-a"])
        .arg(bench.image_of(bench.user))
        .arg(host.path().join("image"))
        .status()
        .unwrap();
    assert!(status.success());
    let mut run = bench.bare_run(bench.user);
    run.flag("--directory").flag(host.path().join("image")).sh("echo kept > /srv/kept");
    assert_eq!(fs::read_to_string(host.path().join("image/srv/kept")).unwrap(), "kept\n");
}
