//! The network of a container: a way out by pasta or slirp4netns, ports of the host that lead in, and the end of both.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::background::eventually;
use crate::containers::debian;
use crate::need;
use crate::support::{Env, all, has, run, said};

/// A store with a Debian, where a program for the network can be used.
pub fn connected(program: &str) -> Result<(Env, String), String> {
    let (env, image) = debian()?;
    let_connect(&env, program)?;
    Ok((env, image))
}

/// Lets every user open `/dev/net/tun`: for this test alone, since some machines let root only.
pub fn let_connect(env: &Env, program: &str) -> Result<(), String> {
    has(program)?;
    if std::fs::metadata("/dev/net/tun").is_ok_and(|node| node.permissions().mode() & 0o006 != 0o006) {
        let node = env.scratch.join("tun");
        run(std::process::Command::new("mknod").args(["-m", "666"]).arg(&node).args(["c", "10", "200"]))?;
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| error.to_string())?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|error| error.to_string())?;
        mount(Some(&node), "/dev/net/tun", none, MsFlags::MS_BIND, none).map_err(|error| error.to_string())?;
    }
    std::fs::File::open("/dev/net/tun").map_err(|error| format!("/dev/net/tun: {error}"))?;
    Ok(())
}

/// A port of the host that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// What the server at this port says.
fn asked(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

/// Whether a pasta for a port still runs: its command line names the port.
fn serves(port: u16) -> bool {
    let of = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
    let word = format!("{port}:80");
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = of(entry);
        line.split(|&byte| byte == 0).any(|found| found.ends_with(word.as_bytes())) && line.starts_with(b"/usr/bin/pas")
    })
}

const SERVER: &str = "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 80, Listen => 5, \
    ReuseAddr => 1) or die; while ($c = $s->accept) { print $c \"hello\\n\"; close $c }'";

#[test]
fn a_published_port_leads_into_the_container_and_ends_with_it() {
    let (env, image) = need!("a_published_port", connected("pasta"));
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let web = ["run", "-d", "--name", "web", "--network", "pasta", "-p", &publish, &image, "sh", "-c", SERVER];
    said(&env.lrun(&web));
    eventually("an answer", || asked(port).as_deref() == Some("hello\n"));
    let shown = said(&env.lrun(&["ps", "--format", "{{.Ports}}"]));
    assert_eq!(shown, format!("127.0.0.1:{port}->80/tcp\n"));
    let bindings = said(&env.lrun(&["inspect", "--format", "{{json .HostConfig}}", "web"]));
    assert!(
        bindings.contains(&format!("\"80/tcp\":[{{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"{port}\"}}]")),
        "{bindings}"
    );
    assert_eq!(
        said(&env.lrun(&[
            "exec",
            "web",
            "perl",
            "-MIO::Socket::INET",
            "-e",
            "print IO::Socket::INET->new('127.0.0.1:80')->getline"
        ])),
        "hello\n",
        "exec is in the same network"
    );

    let second = env.lrun(&["run", "--rm", "--network", "pasta", "-p", &publish, &image, "true"]);
    assert_eq!((second.status.code(), all(&second).contains("with pasta: ")), (Some(125), true), "{}", all(&second));
    // Told of the end, another may have the port at once.
    said(&env.lrun(&["stop", "-t", "0", "web"]));
    assert!(!serves(port), "pasta has gone with it");
    said(&env.lrun(&["start", "web"]));
    eventually("an answer again", || asked(port).is_some());
    let monitor = said(&env.lrun(&["inspect", "--format", "{{.State.Pid}}", "web"]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", monitor.trim())).unwrap();
    let monitor = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    run(std::process::Command::new("kill").args(["-9", &monitor])).unwrap();
    eventually("the end of pasta with its runner", || !serves(port));
}

#[test]
fn ports_of_the_host_are_chosen_and_told() {
    let (env, _) = need!("ports_of_the_host_are_chosen", connected("pasta"));
    let exposing = "localhost/exposing:1";
    let tar = env.scratch.join("debian.tar");
    said(&env.lstore(&["import", "-q", "-c", "EXPOSE 80/tcp", tar.to_str().unwrap(), exposing]));
    let flags = ["-P", "--expose", "90-91/udp", "-p", "127.0.0.1::70", "--name", "web"];
    said(&env.lrun(&[&["run", "-d", "--network", "pasta"], &flags[..], &[exposing, "sh", "-c", SERVER]].concat()));
    let told = said(&env.lrun(&["port", "web"]));
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("70/tcp -> 127.0.0.1:"), "{told}");
    let line = said(&env.lrun(&["port", "web", "80"]));
    assert!(told.contains(&format!("80/tcp -> {line}")) && line.starts_with("0.0.0.0:"), "{told}");
    let port: u16 = line.trim().rsplit_once(':').unwrap().1.parse().unwrap();
    eventually("an answer", || asked(port).as_deref() == Some("hello\n"));
    assert!(said(&env.lrun(&["port", "-l", "91/udp"])).starts_with("0.0.0.0:"));
    let short = said(&env.lrun(&["ps", "-q"]));
    assert!(said(&env.lrun(&["port", "--all"])).lines().all(|line| line.starts_with(&format!("{}\t", short.trim()))));
    let missing = env.lrun(&["port", "web", "81"]);
    assert_eq!(missing.status.code(), Some(125));
    assert!(all(&missing).contains("failed to find published port \"81/tcp\""), "{}", all(&missing));

    // The same ports are its own until it is removed.
    said(&env.lrun(&["restart", "-t", "0", "web"]));
    assert_eq!(said(&env.lrun(&["port", "web"])), told);
    said(&env.lrun(&["stop", "-t", "0", "web"]));
    assert_eq!(said(&env.lrun(&["port", "web"])), "", "nothing leads into what does not run");

    said(&env.lrun(&["create", "--name", "quiet", "--expose", "443", exposing, "true"]));
    let ports = said(&env.lrun(&["inspect", "--format", "{{json .NetworkSettings.Ports}}", "quiet"]));
    assert_eq!(ports, "{\"443/tcp\":null,\"80/tcp\":null}\n");
    assert_eq!(said(&env.lrun(&["ps", "-l", "--format", "{{.Ports}}"])), "80/tcp, 443/tcp\n");
    let refused = env.lrun(&["run", "--rm", "-P", exposing, "true"]);
    assert!(refused.status.code() == Some(125) && all(&refused).contains("add --network pasta"), "{}", all(&refused));
    said(&env.lrun(&["rm", "-f", "web", "quiet"]));
}

#[test]
fn a_container_reaches_the_host_by_name_and_udp_comes_in() {
    let (env, image) = need!("a_container_reaches_the_host", connected("pasta"));
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"from outside\n").unwrap());
    let script = format!("cat /etc/hosts /etc/resolv.conf; cat < /dev/tcp/host.containers.internal/{port}");
    let told = said(&env.lrun(&["run", "--rm", "--network", "pasta", "-h", "box", &image, "bash", "-c", &script]));
    assert!(told.contains("10.0.2.100\tbox\n") && told.contains("nameserver 10.0.2.3\n"), "{told}");
    assert!(told.ends_with("from outside\n"), "{told}");
    answering.join().unwrap();

    let port = free_port();
    let server =
        &"exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => PORT, Proto => \"udp\") or die; \
        while ($s->recv($m, 99)) { $s->send(\"echo $m\") }'"
            .replace("PORT", &port.to_string());
    let publish = format!("{port}:{port}/udp");
    said(&env.lrun(&[
        "run",
        "-d",
        "--name",
        "dns",
        "--network",
        "private",
        "-p",
        &publish,
        &image,
        "sh",
        "-c",
        server,
    ]));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    eventually("an echo", || {
        let mut answer = [0; 99];
        let _ = client.send_to(b"hi", ("127.0.0.1", port));
        client.recv(&mut answer).is_ok_and(|count| &answer[..count] == b"echo hi")
    });
    said(&env.lrun(&["rm", "-f", "dns"]));
}

#[test]
fn what_cannot_be_published_or_connected_is_refused() {
    let (env, image) = need!("what_cannot_be_published", connected("pasta"));
    for (flags, way_out) in [
        (&["-p", "8080:80"][..], "add --network pasta"),
        (&["--network", "host", "-p", "8080:80"], "add --network pasta"),
        (&["--network", "pasta:--pid,x"], "leave it out"),
        (&["--network", "pasta:--bogus"], "with pasta: "),
    ] {
        let refused = env.lrun(&[&["run", "--rm"], flags, &[&image, "true"]].concat());
        assert_eq!(refused.status.code(), Some(125), "{flags:?}");
        assert!(all(&refused).contains(way_out) && all(&refused).lines().count() == 1, "{}", all(&refused));
    }
    assert_eq!(std::fs::read_dir(Path::new(&env.store).join("containers")).unwrap().count(), 0);
}

#[test]
fn without_a_holder_and_after_a_restart_the_network_is_there_again() {
    let (env, image) = need!("without_a_holder_and_after_a_restart", connected("pasta"));
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let flags =
        ["run", "-d", "--name", "web", "--no-holder", "--restart", "always", "--network", "pasta", "-p", &publish];
    said(&env.lrun(&[&flags[..], &[&image, "sh", "-c", SERVER]].concat()));
    eventually("an answer", || asked(port).is_some());
    said(&env.lrun(&["kill", "web"]));
    let restarts = || said(&env.lrun(&["inspect", "--format", "{{.RestartCount}}", "web"]));
    eventually("an answer of the next start", || restarts() == "1\n" && asked(port).is_some());
    said(&env.lrun(&["rm", "-f", "web"]));
    assert!(!serves(port), "pasta has gone with it");
}

/// Whether a slirp4netns of a user still runs.
fn slirp_runs(uid: u32) -> bool {
    let is_it = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let owner = std::fs::metadata(entry.path()).map(|found| std::os::unix::fs::MetadataExt::uid(&found));
        line.starts_with(b"/usr/bin/slirp4netns") && owner.is_ok_and(|owner| owner == uid || owner == 0)
    };
    std::fs::read_dir("/proc").unwrap().flatten().any(is_it)
}

#[test]
fn slirp4netns_connects_lets_ports_in_and_ends_with_the_container() {
    let (env, image) = need!("slirp4netns_connects", connected("slirp4netns"));
    let uid = env.user.as_ref().unwrap().uid;
    assert!(said(&env.lrun(&["info", "--format", "{{.Uplinks}}"])).contains("slirp4netns"));
    let (port, udp) = (free_port(), free_port());
    // Only on the loopback device, and on all of them.
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("0.0.0.0:0").unwrap()];
    let [near, far] = [0, 1].map(|at: usize| listeners[at].local_addr().unwrap().port());
    for listener in listeners {
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(b"from outside\n"));
            }
        });
    }
    let web = format!("{port}:80");
    let echo = format!("127.0.0.1:{udp}:{udp}/udp");
    let server =
        "(exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => PORT, Proto => \"udp\") or die; \
        while ($s->recv($m, 99)) { $s->send(\"echo $m\") }') & "
            .replace("PORT", &udp.to_string())
            + SERVER;
    let network = ["--network", "slirp4netns:allow_host_loopback=true,cidr=10.7.0.0/16", "-p", &web, "-p", &echo];
    said(&env.lrun(&[&["run", "-d", "--name", "web"], &network[..], &[&image, "sh", "-c", &server]].concat()));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let answers = || {
        let mut answer = [0; 99];
        let _ = client.send_to(b"hi", ("127.0.0.1", udp));
        asked(port).as_deref() == Some("hello\n")
            && client.recv(&mut answer).is_ok_and(|count| &answer[..count] == b"echo hi")
    };
    eventually("an answer and an echo", answers);
    let told = format!("{udp}/udp -> 127.0.0.1:{udp}\n");
    assert!(said(&env.lrun(&["port", "web"])).contains(&told), "{told}");
    assert_eq!(said(&env.lrun(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", "web"])), "slirp4netns\n");
    let reach = |port: u16| format!("cat /etc/hosts /etc/resolv.conf; cat < /dev/tcp/host.containers.internal/{port}");
    let told = said(&env.lrun(&["exec", "web", "bash", "-c", &reach(near)]));
    assert!(told.contains("10.7.0.2\thost.containers.internal") && told.contains("nameserver 10.7.0.3\n"), "{told}");
    assert!(told.ends_with("from outside\n"), "the host's loopback device was asked for: {told}");
    let left = std::fs::read_dir(env.scratch.join("run/lrun")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().starts_with("ports-")),
        "nobody else lets ports in: {left:?}"
    );

    let second = env.lrun(&["run", "--rm", "--network", "slirp4netns", "-p", &web, &image, "true"]);
    assert_eq!(second.status.code(), Some(125), "{}", all(&second));
    let why = format!("with slirp4netns: the host's port {port}/tcp cannot be had: it is in use");
    assert!(all(&second).contains(&why), "{}", all(&second));
    // Its ports are free at once, and its own again at the next start.
    said(&env.lrun(&["stop", "-t", "0", "web"]));
    drop(TcpListener::bind(("0.0.0.0", port)).unwrap());
    said(&env.lrun(&["start", "web"]));
    eventually("an answer and an echo again", answers);
    let first = said(&env.lrun(&["inspect", "--format", "{{.State.Pid}}", "web"]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", first.trim())).unwrap();
    let monitor = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    run(std::process::Command::new("kill").args(["-9", &monitor])).unwrap();
    eventually("the end of slirp4netns with its runner", || !slirp_runs(uid));

    // Where the caller is not root inside, the program changes its ids; and the loopback device is nobody's unasked.
    let script = format!("{}; ! cat < /dev/tcp/10.0.2.2/{near}", reach(far));
    let flags = ["run", "--rm", "--userns", "keep-id", "--network", "slirp4netns", "-p", &web, "-h", "box"];
    let told = said(&env.lrun(&[&flags[..], &[&image, "bash", "-c", &script]].concat()));
    assert!(told.contains("10.0.2.100\tbox\n") && told.contains("from outside\n"), "{told}");
    let runner = ["run", "--userns", "keep-id", "--network", "slirp4netns", "-p", &web, &image, "sleep", "1000"];
    let mut runner = env.spawn("lrun", &runner);
    eventually("slirp4netns", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    runner.kill().unwrap();
    runner.wait().unwrap();
    eventually("the end of slirp4netns with its runner", || !slirp_runs(uid));
    for (flags, way_out) in [
        (&["--network", "slirp4netns:port_handler=rootlesskit"][..], "leave it out"),
        (&["--network", "slirp4netns", "-p", "[::1]:8080:80"], "give --network pasta"),
        (&["--network", "slirp4netns:outbound_addr=no-such-device"], "with slirp4netns: "),
    ] {
        let refused = env.lrun(&[&["run", "--rm"], flags, &[&image, "true"]].concat());
        assert_eq!(refused.status.code(), Some(125), "{flags:?}");
        assert!(all(&refused).contains(way_out) && all(&refused).lines().count() == 1, "{}", all(&refused));
    }
}
