//! Nothing stays behind: not after hundreds of containers at once, and not after those who answer for them were killed.
//!
//! Each test has process ids, mounts and control groups of its own, in which there is nothing but what it started. So all
//! that is left can be counted, whatever else the machine does.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::need;
use crate::networks::connected;
use crate::support::{Env, all, programs};

/// What every script begins with. Its process is number 1, and takes in orphans.
const BEGIN: &str = r#"
set -u
mount --make-rshared /
[[ -z $GROUPS_AT ]] || { umount -R "$GROUPS_AT" && mount -t cgroup2 none "$GROUPS_AT"; } || exit 1
user() { setpriv --reuid="$TEST_UID" --regid="$TEST_GID" --clear-groups "$@"; }
# The others that are there, but for zombies, in `others`. Without a process of its own.
look() {
  local folder name state
  others=""
  for folder in /proc/[0-9]*; do
    [[ $folder != /proc/1 ]] || continue
    { read -r _ name state _ < "$folder/stat"; } 2> /dev/null || continue
    [[ $state == Z ]] || others+="${folder#/proc/} $name "
  done
}
# Waits until nobody is there but the holder that starts share.
settle() {
  for _ in {1..300}; do
    look
    [[ $others =~ ^([0-9]+ \(lrun-holder\) )?$ ]] && return
    sleep 0.05
  done
  echo "still there: $others" >&2
}
# Namespaces, mounts, control groups, files: one line for each. The holder is told to end before.
world() {
  settle
  user lstore gc > /dev/null
  rm -f "$XDG_RUNTIME_DIR/lrun/holder"
  for _ in {1..100}; do look; [[ -n $others ]] || break; sleep 0.05; done
  echo "processes: $others"
  readlink /proc/[0-9]*/ns/* | sort -u
  cat /proc/1/mountinfo
  [[ -z $GROUPS_AT ]] || find "$GROUPS_AT" -mindepth 1 -type d
  (cd "$LSTORE_ROOT" && find . ! -path ./starts | sort)
  (cd "$XDG_RUNTIME_DIR" && find . | sort)
}
user lrun run --rm -v /own "$IMAGE" true || exit 1
world > before
"#;

/// The control group of a test, which ends with it.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl Group {
    /// Where this machine has groups of version 2.
    fn mount() -> Option<&'static str> {
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .into_iter()
            .find(|mount| Path::new(mount).join("cgroup.procs").exists())
    }

    fn make(mount: &str, env: &Env) -> Self {
        let path = Path::new(mount).join(env.scratch.file_name().unwrap());
        std::fs::create_dir(&path).unwrap();
        if let Some(user) = &env.user {
            for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
                std::os::unix::fs::chown(path.join(file), Some(user.uid), Some(user.gid)).unwrap();
            }
        }
        Self(path)
    }
}

/// Runs a script where nobody else is; it leaves `before` and `after`, which must be alike.
fn alone(env: &Env, image: &str, job: &str, script: &str) {
    let user = env.user.as_ref().unwrap();
    let group = Group::mount().map(|mount| (mount, Group::make(mount, env)));
    let enter = match &group {
        Some((_, group)) => format!("echo $$ > {}/cgroup.procs && ", group.0.display()),
        None => String::new(),
    };
    let flags = "--mount --pid --fork --mount-proc --cgroup --kill-child";
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{enter}exec unshare {flags} bash -c \"$0\""))
        .arg(format!("{BEGIN}\n{script}"))
        .env_clear()
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs().display()))
        .env("HOME", &user.home)
        .env("LSTORE_ROOT", &env.store)
        .env("XDG_RUNTIME_DIR", env.scratch.join("run"))
        .env("TEST_UID", user.uid.to_string())
        .env("TEST_GID", user.gid.to_string())
        .env("GROUPS_AT", group.as_ref().map_or("", |(mount, _)| mount))
        .env("IMAGE", image)
        .env("JOB", job)
        .current_dir(&env.scratch)
        .stdin(std::process::Stdio::null())
        .process_group(0);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", all(&output));
    let [before, after] = ["before", "after"].map(|file| std::fs::read_to_string(env.scratch.join(file)).unwrap());
    assert!(before.starts_with("processes: \n") && before.contains("mnt:["), "{before}");
    let mut differences = String::new();
    for (sign, some, others) in [("+", &after, &before), ("-", &before, &after)] {
        let others: std::collections::HashSet<&str> = others.lines().collect();
        for line in some.lines().filter(|line| !others.contains(line)) {
            writeln!(differences, "{sign} {line}").unwrap();
        }
    }
    assert_eq!(differences, "", "left behind (+) or gone (-):\n{differences}{}", all(&output));
    assert!(all(&output).is_empty(), "{}", all(&output));
    if let Some((_, group)) = group {
        std::fs::remove_dir(&group.0).unwrap();
    }
    env.assert_no_trace();
    // No lease: with its image a checkout goes too.
    env.ok(&["rmi", image]);
    env.ok(&["gc"]);
    assert_eq!(env.pool_files(), 0);
    assert_eq!(std::fs::read_dir(env.store.join("trees")).unwrap().count(), 0);
}

#[test]
fn two_hundred_containers_by_sixteen_at_once_leave_nothing() {
    let (env, image) = need!("two_hundred_containers", connected("pasta"));
    let job = r#"
        set -e
        name=job-$1 wait="trap 'exit 3' TERM; echo x > /own/file; chown -R 33:33 /own; sleep infinity & wait"
        volumes="-v shared:/data -v /own"
        case $(($1 % 4)) in
        0) lrun run --rm $volumes "$IMAGE" sh -c "echo x > /own/file; echo $1 > /data/$1" ;;
        1) lrun run -d --name $name $volumes "$IMAGE" sh -c "$wait"
           lrun exec $name true
           lrun stop $name
           lrun rm -v $name ;;
        2) lrun create --name $name $volumes "$IMAGE" sh -c "$wait"
           lrun start $name
           lrun rm -fv $name ;;
        3) lrun run -d --rm --name $name $volumes --network private "$IMAGE" sh -c "$wait"
           lrun stop $name ;;
        esac > /dev/null
    "#;
    let script = r#"
        user sh -c 'seq 0 199 | xargs -P 16 -n 1 sh -c "$JOB" job' || exit 1
        settle
        kept=$(user lrun volume inspect -f '{{.Mountpoint}}' shared)
        [[ $(user lstore unshare ls "$kept" | wc -l) == 50 ]] || echo "not every container ran" >&2
        user lrun volume rm shared > /dev/null
        world > after
    "#;
    alone(&env, &image, job, script);
}

#[test]
fn what_killed_callers_and_monitors_leave_is_cleared_up() {
    let (env, image) = need!("what_killed_callers", connected("pasta"));
    // Each command is killed at some moment of its life, alone or with its process group; a container's own too.
    let job = r#"
        die() { local foreground=; ((RANDOM % 2)) && foreground=--foreground
          timeout $foreground -s KILL "$(printf '0.%03d' $((RANDOM % (RANDOM % 500 + 1) + 5)))" lrun "$@"; }
        name=job-$1 wait='echo x > /own/file; chown -R 33:33 /own; sleep infinity & wait'
        volumes="-v shared:/data -v /own"
        case $(($1 % 4)) in
        0) die run --rm $volumes "$IMAGE" sh -c "$wait" ;;
        1) die run -d --name $name $volumes "$IMAGE" sh -c "$wait"
           die exec $name sleep 1
           die stop -t 0 $name
           die rm -v $name ;;
        2) die create --name $name $volumes "$IMAGE" sh -c "$wait"
           die start $name
           die rm -fv $name ;;
        3) die run -d --rm --name $name --restart no $volumes "$IMAGE" setpriv --reuid=33 sleep infinity
           die kill $name ;;
        esac > /dev/null 2>&1
        true
    "#;
    let script = r#"
        # Now and then, one who answers for a container: the parent of its first process.
        while [[ ! -e done ]]; do
          sleep 0.1
          for parent in $(awk '/^PPid/ { parent = $2 } /^NSpid/ && NF == 3 && $3 == 1 && parent > 1 { print parent }' \
              /proc/[0-9]*/status 2> /dev/null); do
            ((RANDOM % 4)) || kill -9 "$parent" 2> /dev/null
          done
        done &
        user bash -c 'seq 0 199 | xargs -P 16 -n 1 bash -c "$JOB" job' || exit 1
        touch done; wait $!
        ls "$LSTORE_ROOT/containers" | wc -l > left
        user lrun rm -fav > /dev/null
        user lrun run --rm "$IMAGE" true
        settle
        user lrun volume prune -f > /dev/null
        world > after
    "#;
    alone(&env, &image, job, script);
    let left: u32 = std::fs::read_to_string(env.scratch.join("left")).unwrap().trim().parse().unwrap();
    assert!(left > 0, "the kills came to no effect");
}
