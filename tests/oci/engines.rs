//! Engines over it: podman and containerd.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Checkout, copy_of_debian};
use crate::need;
use crate::support::{Env, all, has, programs, said};

/// What the scripts are told with. They say what `clean` does.
const WORDS: &str = r#"
want() { # CODE COMMAND…
  wanted=$1; shift
  told=$("$@" 2>&1 < /dev/null); code=$?
  [ $code = $wanted ] || { echo "FAILED with $code instead of $wanted: $*: $told"; clean; exit 1; }
}
has() { echo "$told" | grep -q -- "$1" || { echo "NOT SAID: $1: $told"; clean; exit 1; }; }
"#;

/// What podman is told, and what must come of it.
const PODMAN: &str = r#"
set -e
umount -R /sys/fs/cgroup 2> /dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
cat > $S/script <<'END'
set -u
cd $S
p="podman --root $S/podman --runroot $S/podman-run --storage-driver $DRIVER --events-backend file --cgroup-manager cgroupfs --runtime $S/lrun-oci"
o="--network none --pids-limit 0 --ulimit nofile=1024:1024 --ulimit nproc=500:500"
clean() { $p rm -fa > /dev/null; }
. $S/words
$p import -q debian.tar localhost/oci:1 > /dev/null || exit 1
want 0 $p run --rm $o localhost/oci:1 sh -c 'echo hello; grep Seccomp: /proc/self/status'
has hello; has 'Seccomp:.2'
want 7 $p run --rm $o localhost/oci:1 sh -c 'exit 7'
want 137 $p run --rm $o --init localhost/oci:1 sh -c 'kill -9 $$'
want 127 $p run --rm $o localhost/oci:1 nosuch
want 126 $p run --rm $o localhost/oci:1 /etc
want 0 $p run --rm $o -v $S:/there:ro --tmpfs /etc -u 1000:1000 localhost/oci:1 sh -c 'id -u; ls /there /etc; echo out > /dev/stdout'
has 1000; has debian.tar; has passwd; has out
want 5 script -qec "$p run -it --rm $o localhost/oci:1 sh -c 'tty; exit 5'" /dev/null
has /dev/pts/0
want 0 $p run -d --name box $o localhost/oci:1 sh -c 'trap "exit 9" TERM; echo up; while :; do sleep 0.1; done'
want 0 $p exec box sh -c 'echo $0 in $(cat /proc/1/comm)'
has 'sh in sh'
want 3 $p exec box sh -c 'exit 3'
want 127 $p exec box nosuch
want 4 script -qec "$p exec -it box sh -c 'tty; exit 4'" /dev/null
has /dev/pts/
want 0 $p top box
has sleep
want 0 $p logs box
has up
want 0 $p stop box
want 0 $p inspect --format '{{.State.ExitCode}} {{.OCIRuntime}}' box
has '^9 .*lrun-oci'
want 0 $p start box
want 0 $p kill box
want 0 $p wait box
has 137
want 0 $p rm box
want 0 sh -c "ls $STATE"
[ -z "$told" ] || { echo "LEFT: $told"; exit 1; }
echo all of it
END
exec $AS sh $S/script
"#;

fn podman(env: &Env, name: &str) {
    need!(name, has("podman").and(has("conmon")).and(has("crun").or(has("runc"))));
    need!(name, copy_of_debian(env));
    symlink(programs().join("lrun"), env.scratch.join("lrun-oci")).unwrap();
    std::fs::write(env.scratch.join("words"), WORDS).unwrap();
    let state = match &env.user {
        Some(_) => env.scratch.join("run/lrun-oci"),
        None => PathBuf::from("/run/lrun-oci"),
    };
    let who = env
        .user
        .as_ref()
        .map_or_else(String::new, |user| format!("setpriv --reuid {} --regid {} --clear-groups", user.uid, user.gid));
    let home = env.user.as_ref().map_or(Path::new("/root"), |user| &user.home);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", PODMAN]).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home).env("S", &env.scratch).env("AS", who);
    command.env("STATE", state).env("DRIVER", "overlay").env("XDG_RUNTIME_DIR", env.scratch.join("run"));
    let output = command.current_dir(&env.scratch).output().unwrap();
    if env.user.is_some() {
        // Ends the process that holds podman's namespaces.
        let storage = ["--root", "podman", "--runroot", "podman-run", "system", "migrate"];
        let _ = env.command("podman").args(storage).output();
    }
    assert_eq!(said(&output).lines().last(), Some("all of it"), "{}", all(&output));
}

#[test]
fn podman_without_root_runs_over_it() {
    podman(&need!("podman_without_root", Env::new()), "podman_without_root");
}

#[test]
fn podman_of_root_runs_over_it() {
    podman(&need!("podman_of_root", Env::root()), "podman_of_root");
}

/// What containerd is told, and what must come of it.
const CONTAINERD: &str = r#"
umount -R /sys/fs/cgroup 2> /dev/null
mount -t cgroup2 none /sys/fs/cgroup || exit 1
cat > $S/config.toml <<END
version = 2
root = "$S/containerd"
state = "$S/containerd-run"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$S/socket"
[ttrpc]
  address = "$S/socket.ttrpc"
END
containerd --config $S/config.toml > $S/log 2>&1 &
daemon=$!
c="ctr --address $S/socket --namespace $NAME"
clean() {
  for task in $($c tasks ls -q); do $c tasks rm --force $task; done > /dev/null 2>&1
  kill $daemon; wait $daemon; rmdir /sys/fs/cgroup/$NAME 2> /dev/null
}
. $S/words
tries=0
until $c version > /dev/null 2>&1; do
  tries=$((tries + 1)); [ $tries -lt 300 ] && sleep 0.1 || { echo "NO CONTAINERD: $(cat $S/log)"; exit 1; }
done
run="$c run --runc-binary $S/lrun-oci --rootfs"
want 0 $run --rm $ROOTFS one sh -c 'echo hello; grep Seccomp: /proc/self/status'
has hello
want 7 $run --rm $ROOTFS two sh -c 'exit 7'
want 1 $run --rm $ROOTFS three nosuch
has 'nosuch: executable file not found'
want 5 script -qec "$run --rm --tty $ROOTFS four sh -c 'tty; exit 5'" /dev/null
has /dev/pts/0
want 0 $run --rm $ROOTFS five sh -c 'cd /dev; mknod a c 1 5; head -c 3 a | wc -c; mknod b c 10 1; cat b 2>&1 | grep -c "not permitted"'
has '^3$'; has '^1$'
want 0 $run --detach $ROOTFS box sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done'
want 3 $c tasks exec --exec-id a box sh -c 'cat /proc/1/comm; exit 3'
has '^sh$'
want 4 script -qec "$c tasks exec --tty --exec-id b box sh -c 'tty; exit 4'" /dev/null
has /dev/pts/0
want 1 $c tasks exec --exec-id c box nosuch
has 'executable file not found'
# As systemd in a container does: a group that hands controllers down has no processes of its own.
group=/sys/fs/cgroup/$NAME/box
controller=$(cut -d ' ' -f 1 $group/cgroup.controllers)
if [ -n "$controller" ]; then
  mkdir $group/inner
  until for process in $(cat $group/cgroup.procs); do echo $process > $group/inner/cgroup.procs; done
    echo +$controller > $group/cgroup.subtree_control
  do sleep 0.1; done 2> /dev/null
  want 0 $c tasks exec --exec-id d box cat /proc/self/cgroup
  has '^0::.*/inner$'
fi
want 0 $c tasks ps box
has '^[0-9]'
want 0 $c tasks pause box
want 0 $c tasks ls
has 'box .*PAUSED'
want 0 $c tasks resume box
want 0 $c tasks metrics box
has pids.current
own="$S/lrun-oci --root /run/containerd/runc/$NAME"
want 0 sh -c "echo '{\"unified\": {\"cgroup.max.descendants\": \"5\"}}' | $own update -r - box"
want 0 cat /sys/fs/cgroup/$NAME/box/cgroup.max.descendants
has '^5$'
want 0 $own events --stats box
has '"type":"stats"'
want 0 $c tasks kill --signal TERM box
until $c tasks ls | grep -q STOPPED; do sleep 0.1; done
want 0 $c tasks delete box
has 'exit code 9'
want 0 $c containers rm box
want 0 find /sys/fs/cgroup/$NAME -mindepth 1 -type d
[ -z "$told" ] || { echo "LEFT: $told"; clean; exit 1; }
clean
echo all of it
"#;

#[test]
fn containerd_runs_over_it() {
    let name = "containerd_runs_over_it";
    need!(name, has("containerd").and(has("ctr")));
    let env = need!(name, Env::root());
    let checkout = need!(name, Checkout::of(true));
    symlink(programs().join("lrun"), env.scratch.join("lrun-oci")).unwrap();
    std::fs::write(env.scratch.join("words"), WORDS).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", CONTAINERD]).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("S", &env.scratch);
    command.env("NAME", format!("lstest-{}", std::process::id())).env("ROOTFS", checkout.env.scratch.join("rootfs"));
    let output = command.current_dir(&env.scratch).output().unwrap();
    assert_eq!(said(&output).lines().last(), Some("all of it"), "{}", all(&output));
}
