//! Distrobox, the scripts themselves, over `lrun` by the names of the programs that they know.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::need;
use crate::support::{Env, all, image, mirror, programs, run, said};

/// The scripts of Debian's package, unpacked once from the mirror: its release is another than the machine's own.
fn scripts() -> Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("distrobox");
        if !folder.join("tree/usr/bin/distrobox-enter").exists() {
            fetch(&folder).map_err(|error| format!("the package mirror gives no distrobox: {error}"))?;
        }
        Ok(folder.join("tree/usr/bin"))
    })
    .clone()
}

fn fetch(folder: &Path) -> Result<(), String> {
    for part in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(folder.join(part)).map_err(|error| error.to_string())?;
    }
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={keyring}] {} trixie main\n", mirror()?);
    std::fs::write(folder.join("sources.list"), source).map_err(|error| error.to_string())?;
    let place = |name: &str, file: &str| format!("{name}={}", folder.join(file).display());
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for option in [
            place("Dir::Etc::SourceList", "sources.list"),
            place("Dir::State::Lists", "lists"),
            place("Dir::Cache", "cache"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        run(command.args(words).current_dir(folder)).map(|_| ())
    };
    apt(&["-q", "update"])?;
    apt(&["-q", "download", "distrobox"])?;
    run(Command::new("sh").args(["-c", "dpkg-deb -x distrobox_*.deb tree"]).current_dir(folder)).map(|_| ())
}

/// A home with Distrobox in it, over one of the names.
struct Desk<'a> {
    env: &'a Env,
    face: &'static str,
    home: PathBuf,
}

/// The image, and all names beside the scripts.
fn prepared() -> Result<Env, String> {
    let env = Env::new()?;
    let bin = env.scratch.join("bin");
    run(Command::new("cp").arg("-r").arg(scripts()?).arg(&bin))?;
    run(Command::new("chmod").arg("-R").arg("a+rX").arg(&bin))?;
    for face in ["podman", "lilipod"] {
        symlink(programs().join("lrun"), bin.join(face)).map_err(|error| error.to_string())?;
    }
    let tar = image::distrobox()?;
    let copy = env.scratch.join("box.tar");
    std::fs::hard_link(&tar, &copy).or_else(|_| std::fs::copy(&tar, &copy).map(|_| ())).map_err(|e| e.to_string())?;
    run(Command::new("chmod").arg("644").arg(&copy))?;
    env.ok(&["import", "-q", "-c", "CMD [\"/bin/bash\"]", &copy.display().to_string(), "localhost/box:1"]);
    said(&env.command("mkdir").arg("home").output().map_err(|error| error.to_string())?);
    Ok(env)
}

impl<'a> Desk<'a> {
    fn new(env: &'a Env, face: &'static str) -> Self {
        Self { env, face, home: env.scratch.join("home") }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.env.command(program);
        let bin = self.env.scratch.join("bin");
        command
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()))
            .env("HOME", &self.home)
            .env("USER", "lstest")
            .env("SHELL", "/bin/bash")
            .env("TERM", "xterm")
            .env("DBX_CONTAINER_MANAGER", self.face);
        command
    }

    fn distrobox(&self, words: &[&str]) -> Output {
        self.command("distrobox").args(words).output().unwrap()
    }

    fn manager(&self, words: &[&str]) -> Output {
        self.command(self.face).args(words).output().unwrap()
    }

    /// The line of `distrobox list` about a container.
    fn listed(&self, name: &str) -> Option<String> {
        let list = said(&self.distrobox(&["list", "--no-color"]));
        list.lines().find(|line| line.contains(&format!("| {name} "))).map(str::to_owned)
    }

    fn assert_no_trace(&self) {
        for folder in ["containers", "volumes"] {
            let left = std::fs::read_dir(self.env.store.join(folder)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{folder}");
        }
    }
}

/// Made, entered, listed, stopped and removed, as its user sees it.
fn lives(desk: &Desk<'_>) {
    let create =
        ["create", "--yes", "--no-entry", "--name", "box", "--hostname", "inside", "--image", "localhost/box:1"];
    let made = desk.distrobox(&create);
    assert!(made.status.success(), "{}", all(&made));
    assert!(desk.listed("box").unwrap().contains("Created"));
    // As distrobox-generate-entry asks, of one that never ran.
    let copied = desk.manager(&["cp", "--log-level", "debug", "box:/etc/os-release", "release"]);
    assert!(copied.status.success(), "{}", all(&copied));
    assert!(std::fs::read_to_string(desk.env.scratch.join("release")).unwrap().contains("ID=debian"));

    std::fs::write(desk.home.join("note"), "from home\n").unwrap();
    let script = "id -un; id -u; cat ~/note; touch ~/made; sudo id -u; uname -n; grep -c ' - overlay' /proc/self/mountinfo; exit 7";
    let entered = desk.distrobox(&["enter", "box", "--", "sh", "-c", script]);
    let uid = desk.env.user.as_ref().unwrap().uid;
    assert_eq!(
        (entered.status.code(), String::from_utf8_lossy(&entered.stdout).as_ref()),
        (Some(7), format!("lstest\n{uid}\nfrom home\n0\ninside\n1\n").as_str()),
        "{}\n{}",
        all(&entered),
        all(&desk.manager(&["logs", "box"]))
    );
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(desk.home.join("made")).unwrap());
    assert_eq!(owner, uid, "what is made in the home is the user's");
    assert!(desk.listed("box").unwrap().contains("Up "));
    // What init mounted, and whom it told the container's programs about.
    let root = "id -u; stat -f -c %T /dev/pts; findmnt -n -o PROPAGATION /; echo kept > /etc/kept; . /run/.containerenv; echo $name $rootless";
    let output = desk.manager(&["--log-level", "debug", "exec", "--user=root", "box", "sh", "-c", root]);
    assert_eq!(said(&output), "0\ndevpts\nshared\nbox 1\n");
    let mut terminal = desk.command("script");
    terminal.args(["-qec", "distrobox enter box -- sh -c 'tty; exit 5'", "/dev/null"]);
    let output = terminal.output().unwrap();
    assert!(output.status.code() == Some(5) && all(&output).contains("/dev/pts/"), "{}", all(&output));

    let stopped = desk.distrobox(&["stop", "--yes", "box"]);
    assert!(stopped.status.success(), "{}", all(&stopped));
    assert!(desk.listed("box").unwrap().contains("Exited"));
    // Distrobox clones with podman alone.
    if desk.face == "podman" {
        let clone = desk.distrobox(&["create", "--yes", "--no-entry", "--clone", "box", "--name", "copy"]);
        assert!(clone.status.success(), "{}", all(&clone));
        let kept = desk.distrobox(&["enter", "copy", "--", "cat", "/etc/kept"]);
        assert_eq!(String::from_utf8_lossy(&kept.stdout), "kept\n", "{}", all(&kept));
        said(&desk.distrobox(&["rm", "--force", "copy"]));
    }
    // A second start finds all that the first one installed.
    let again = desk.distrobox(&["enter", "box", "--", "true"]);
    assert!(again.status.success(), "{}", all(&again));
    let removed = desk.distrobox(&["rm", "--force", "box"]);
    assert!(removed.status.success(), "{}", all(&removed));
    assert_eq!(desk.listed("box"), None);
    desk.assert_no_trace();

    let words = ["ephemeral", "--yes", "--no-entry", "--image", "localhost/box:1", "--", "id", "-un"];
    let ephemeral = desk.distrobox(&words);
    assert!(String::from_utf8_lossy(&ephemeral.stdout).lines().any(|line| line == "lstest"), "{}", all(&ephemeral));
    desk.assert_no_trace();
}

#[test]
fn distrobox_works_over_the_names_of_podman_and_lilipod() {
    let env = need!("distrobox_works", prepared());
    let podman = Desk::new(&env, "podman");
    lives(&podman);
    assert!(said(&podman.manager(&["--version"])).starts_with("podman version "));
    assert!(!said(&podman.manager(&["info"])).contains("runc"), "for which Distrobox would bind each folder apart");
    assert!(said(&podman.manager(&["--log-level", "error", "image", "ls"])).contains("localhost/box"));
    for (words, code) in [
        (&["run", "--rm", "--userns=keep-id:size=65536", "localhost/box:1", "sh", "-c", "exit 9"][..], 9),
        (&["inspect", "--type", "container", "nobody"], 125),
        (&["image", "inspect", "localhost/no:1"], 125),
        (&["debian"], 125),
        (&["create", "--no-such-flag"], 125),
    ] {
        assert_eq!(podman.manager(words).status.code(), Some(code), "{words:?}");
    }

    let lilipod = Desk::new(&env, "lilipod");
    lives(&lilipod);
    assert!(said(&lilipod.manager(&["version"])).starts_with("lilipod version: "));
    let uid = said(&lilipod.manager(&["run", "--rm", "localhost/box:1", "id", "-u"]));
    assert_eq!(uid, format!("{}\n", env.user.as_ref().unwrap().uid), "its default is keep-id");
    for (words, code) in [
        (&["run", "--rm", "localhost/box:1", "sh", "-c", "exit 125"][..], 125),
        (&["inspect", "--type", "container", "nobody"], 1),
        (&["rmi", "localhost/no:1"], 1),
        (&["debian"], 1),
        (&["create", "--no-such-flag"], 1),
    ] {
        assert_eq!(lilipod.manager(words).status.code(), Some(code), "{words:?}");
    }
}
