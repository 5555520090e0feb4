//! What others see of the processes that stay: a short title, and nothing of the command line and the variables of who started
//! them.

use std::collections::BTreeSet;

use crate::background::eventually;
use crate::containers::debian;
use crate::need;
use crate::support::{Env, said};

/// Processes of the machine with a text in what they show, by number, name and command line.
fn showing(text: &str) -> Vec<(i32, String, String)> {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let found = processes.filter_map(|id: i32| {
        let read = |file: &str| std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
        let (line, variables) = (read("cmdline"), read("environ"));
        let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
        (has(&line) || has(&variables)).then(|| (id, name, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    found.collect()
}

/// What a user who is not the caller sees of processes whose name begins with `lrun-`, and whose user is the caller's.
fn titles(env: &Env) -> BTreeSet<String> {
    let output = env.command("ps").args(["-e", "-o", "uid=,comm=,args="]).uid_of_nobody().output().unwrap();
    let uid = env.user.as_ref().map_or(0, |user| user.uid).to_string();
    let told = said(&output);
    let own = told.lines().filter_map(|line| line.trim().strip_prefix(&uid)?.trim().strip_prefix("lrun-"));
    // What has ended shows nothing, and is there until it is noted.
    let own = own.map(|line| line.split_once(' ').unwrap().1.trim().to_owned());
    own.filter(|line| !line.ends_with("<defunct>")).collect()
}

trait Nobody {
    fn uid_of_nobody(&mut self) -> &mut Self;
}

impl Nobody for std::process::Command {
    fn uid_of_nobody(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::uid(self, 65534)
    }
}

#[test]
fn processes_that_stay_show_a_title_and_nothing_of_the_callers() {
    let (env, image) = need!("processes_that_stay", debian());
    // On command lines, and in the caller's variables: none that another run of this test has left behind.
    let [secret, other, third, variable] =
        [1, 2, 3, 4].map(|number| format!("4f1d9c07b2-{}-{number}", std::process::id()));
    let given = |value: &str| format!("TOKEN={value}");
    let mut command = env.command("lrun");
    command.env("OWN_SECRET", &variable);
    let words =
        ["run", "-d", "--name", "box", "--timeout", "1000", "--health-cmd", "true", "-e", &given(&secret), &image];
    said(&command.args(words).args(["sleep", "1000"]).output().unwrap());
    // The start has ended, and the container's own process has the one and not the other.
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let of_container = |(id, name, line): &(i32, String, String)| {
        let is_inside = std::fs::read_link(format!("/proc/{id}/ns/mnt")).is_ok_and(|mounts| mounts != own);
        is_inside && !name.starts_with("lrun") && !line.contains("TOKEN")
    };
    let others = |text: &str| showing(text).into_iter().filter(|found| !of_container(found)).collect::<Vec<_>>();
    for _ in 0..50 {
        if others(&secret).is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(others(&secret), [], "on the command line");
    assert_eq!(showing(&variable), [], "the variables of the caller");
    let wanted = ["lrun: holder", "lrun: keeper", "lrun: monitor", "lrun: health", "lrun: timeout"];
    eventually("titles", || wanted.iter().all(|title| titles(&env).contains(*title)));

    // What stays for a command in the background, and of one in the foreground.
    said(&env.lrun(&["exec", "-d", "-e", &given(&other), "box", "sleep", "1000"]));
    eventually("that of a command", || titles(&env).contains("lrun: exec"));
    eventually("it shows nothing", || others(&other).is_empty());
    let mut process = env.spawn("lrun", &["run", "--rm", "--init", "-e", &given(&third), &image, "sleep", "1000"]);
    eventually("that of an init", || titles(&env).contains("lrun: init"));
    let others = others(&third);
    assert!(matches!(others.as_slice(), [(id, ..)] if *id == process.id().cast_signed()), "{others:?}");
    process.kill().unwrap();
    process.wait().unwrap();

    // The monitor has its variables still: it can start the container again.
    said(&env.lrun(&["restart", "box"]));
    assert_eq!(said(&env.lrun(&["exec", "box", "printenv", "TOKEN"])), format!("{secret}\n"));
    said(&env.lrun(&["rm", "-f", "-t", "0", "box"]));
}
