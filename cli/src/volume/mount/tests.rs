use super::*;

fn volume_error(argument: &str) -> String {
    volume(argument).unwrap_err().to_string()
}

fn bound(mount: &Mount) -> (&Path, bool, Propagation, Option<Relabel>) {
    match &mount.kind {
        MountKind::Bind { source, recursive, propagation, relabel } => (source, *recursive, *propagation, *relabel),
        other => panic!("{other:?} is not a bind mount"),
    }
}

#[test]
fn a_volume_is_bound_recursively_and_private() {
    let mount = volume("/data:/srv/data").unwrap();
    assert_eq!(mount.target, Path::new("/srv/data"));
    assert_eq!(bound(&mount), (Path::new("/data"), true, Propagation::RecursivePrivate, None));
    assert!(!mount.read_only && mount.nosuid && !mount.nodev && !mount.noexec);
}

#[test]
fn distrobox_volumes_are_understood() {
    let host = volume("/:/run/host/:rslave").unwrap();
    assert_eq!(host.target, Path::new("/run/host"));
    assert_eq!(bound(&host).2, Propagation::RecursiveSlave);
    assert!(volume("/etc/hosts:/etc/hosts:ro").unwrap().read_only);
    assert_eq!(volume("/dev/null:/dev/ptmx").unwrap().target, Path::new("/dev/ptmx"));
}

#[test]
fn options_are_podmans() {
    let mount = volume("./c:/y:ro,Z,noexec,nodev,suid,bind,shared").unwrap();
    assert_eq!(bound(&mount), (Path::new("./c"), false, Propagation::Shared, Some(Relabel::Private)));
    assert!(mount.read_only && mount.noexec && mount.nodev && !mount.nosuid);
}

#[test]
fn targets_are_made_normal() {
    assert_eq!(volume("/a:/x/../b/./c//").unwrap().target, Path::new("/b/c"));
    for target in ["x", "/", "/..", "/a/..", ""] {
        assert!(volume(&format!("/a:{target}")).is_err(), "{target}");
    }
}

#[test]
fn what_is_no_path_of_the_host_is_refused_with_a_remedy() {
    for argument in ["rel/x:/y", "_x:/y", "a b:/y"] {
        assert!(volume_error(argument).contains("a path of the host starts with"), "{argument}");
    }
    for argument in [":", "/tmp:", ":/x", "/tmp:/x:ro:z"] {
        assert!(volume_error(argument).contains("not of the form"), "{argument}");
    }
}

#[test]
fn a_volume_has_a_name_or_is_the_containers_own() {
    let volume_of = |argument: &str| volume(argument).unwrap();
    let kind = |name: Option<&str>, copies| MountKind::Volume { name: name.map(Into::into), copies, relabel: None };
    assert_eq!(volume_of("/tmp").kind, kind(None, true));
    let named = volume_of("data:/y/:ro,nocopy");
    assert_eq!((named.kind, named.target, named.read_only), (kind(Some("data"), false), "/y".into(), true));
    assert_eq!(spec("type=volume,src=data,dst=/y").unwrap(), volume_of("data:/y"));
    assert_eq!(spec("type=volume,dst=/y,volume-nocopy").unwrap().kind, kind(None, false));
    assert!(volume("data:/y:rslave").is_err() && volume("/a:/y:nocopy").is_err() && volume("rel").is_err());
}

#[test]
fn an_image_declares_no_volume_over_what_the_kernel_shows() {
    let declare = |target: &str| declared(std::iter::once(&target.to_owned()));
    assert_eq!(declare("/data/").unwrap()[0].target, Path::new("/data"));
    assert_eq!(declare("data").unwrap()[0].target, Path::new("/data"));
    for target in ["/", "", "/proc", "/x/../proc/sys", "/sys/kernel", "/dev"] {
        assert!(declare(target).is_err(), "{target}");
    }
}

#[test]
fn bad_options_are_refused_not_ignored() {
    for (argument, expected) in [
        ("/a:/x:bogus", "unknown option \"bogus\""),
        ("/a:/x:ro,U", "repeats or contradicts"),
        ("/a:/x:idmap=uids=1", "no map of ids"),
        ("data:/x:idmap=uids=0-1-1", "idmap with ids"),
        ("/a:/x:O", "unknown option \"O\""),
        ("/a:/x:ro,rw", "repeats or contradicts"),
        ("/a:/x:private,shared", "repeats or contradicts"),
        ("/a:/x:size=1m", "unknown option \"size, mode"),
        ("/a:/x:mode=9", "no octal mode"),
    ] {
        assert!(volume_error(argument).contains(expected), "{argument}");
    }
}

#[test]
fn mount_has_podmans_keys() {
    for (argument, read_only) in [
        ("type=bind,src=/tmp,dst=/x", false),
        ("type=bind,source=/tmp,target=/x,ro", true),
        ("type=bind,src=/tmp,destination=/x,readonly=true", true),
        ("type=bind,src=/tmp,dst=/x,ro=false", false),
    ] {
        let mount = spec(argument).unwrap();
        assert_eq!(mount, {
            let mut expected = volume("/tmp:/x").unwrap();
            expected.read_only = read_only;
            expected
        });
    }
    let mount = spec("type=bind,\"src=/a,b\",dst=/x,bind-propagation=rslave,bind-nonrecursive");
    let mount = mount.unwrap();
    assert_eq!(bound(&mount), (Path::new("/a,b"), false, Propagation::RecursiveSlave, None));
}

#[test]
fn an_image_is_read_only_unless_that_is_lifted() {
    for (more, read_only, subpath) in [
        ("", true, ""),
        (",ro", true, ""),
        (",rw=false", true, ""),
        (",rw=true,subpath=usr/share", false, "usr/share"),
        (",readwrite=true", false, ""),
        (",rw", false, ""),
    ] {
        let mount = spec(&format!("type=image,source=debian:12,destination=/x{more}")).unwrap();
        let kind = MountKind::Image { name: "debian:12".into(), subpath: subpath.into() };
        assert_eq!((mount.kind, mount.read_only), (kind, read_only), "{more}");
        assert!(mount.nosuid && mount.nodev && !mount.noexec);
    }
}

#[test]
fn memory_can_be_mounted_in_two_ways() {
    let expected = Mount {
        kind: MountKind::Tmpfs { size: Some(1 << 20), mode: Some(0o700), copies: false },
        target: "/x".into(),
        read_only: false,
        nosuid: true,
        nodev: true,
        noexec: false,
        owned: false,
        ids: None,
    };
    assert_eq!(spec("type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=700").as_ref(), Ok(&expected));
    assert_eq!(memory("/x:size=1m,mode=0700,rw").as_ref(), Ok(&expected));
    assert!(memory("/x:noexec,dev,notmpcopyup").unwrap().noexec);
}

#[test]
fn incomplete_or_foreign_mounts_are_refused() {
    for (argument, expected) in [
        ("src=/tmp,dst=/x", "lacks a type"),
        ("type=bind,src=/tmp", "lacks a target"),
        ("type=bind,dst=/x", "lacks a source"),
        ("type=tmpfs,dst=/x,src=/y", "unknown option \"source=/y\""),
        ("type=tmpfs,dst=/x,size=1m", "unknown option \"size=1m\""),
        ("type=glob,src=/i*,dst=/x", "type \"glob\" is not supported"),
        ("type=image,dst=/x", "lacks a source"),
        ("type=image,src=i,dst=/x,U", "unknown option \"U\""),
        ("type=image,src=i,dst=/x,rw=maybe", "no true or false"),
        ("type=image,src=i,dst=/x,rslave", "unknown option"),
        ("type=bind,src=/i,dst=/x,subpath=y", "unknown option \"subpath=y\""),
        ("type=volume,src=v,dst=/x,rslave", "unknown option"),
        ("type=volume,src=a/b,dst=/x", "no name of a volume"),
        ("type=bind,src=/a,dst=/x,bogus=1", "unknown option \"bogus=1\""),
        ("type=bind,src=/a,dst=/x,ro=maybe", "no true or false"),
        ("type=bind,\"src=/a", "is no list"),
    ] {
        let error = spec(argument).unwrap_err().to_string();
        assert!(error.contains(expected), "{argument}: {error}");
    }
    assert!(matches!(memory("/x:tmpcopyup").unwrap().kind, MountKind::Tmpfs { copies: true, .. }));
    for argument in ["x", "/x:bogus", "/x:size=50%", "/x:tmpcopyup,notmpcopyup", "/x:rshared"] {
        assert!(memory(argument).is_err(), "{argument}");
    }
}

#[test]
fn parents_are_mounted_before_what_is_below_them() {
    let all = mounts(&["/1:/a/b/c", "/2:/z"], &["type=bind,src=/3,dst=/a/b"], &["/a"]).unwrap();
    let targets: Vec<_> = all.iter().map(|mount| mount.target.as_path()).collect();
    assert_eq!(targets, ["/z", "/a", "/a/b", "/a/b/c"].map(Path::new));
}

#[test]
fn one_target_is_mounted_once() {
    let error = mounts(&["/1:/x", "/2:/y/../x"], &[], &[]).unwrap_err();
    assert_eq!(error.to_string(), "\"/x\" is mounted twice; leave one of them out");
    assert!(mounts(&["/1:/x"], &[], &["/x"]).is_err());
}

proptest::proptest! {
    #[test]
    fn accepted_targets_are_normal(argument in "[a./:,\"= ]{0,16}|type=(bind|tmpfs),[a-z=/.,]{0,24}") {
        for mount in [volume(&argument), spec(&argument), memory(&argument)].into_iter().flatten() {
            let parts: Vec<_> = mount.target.components().collect();
            assert!(parts.len() > 1 && parts[0] == Component::RootDir);
            assert!(parts[1..].iter().all(|part| matches!(part, Component::Normal(_))));
        }
    }
}
