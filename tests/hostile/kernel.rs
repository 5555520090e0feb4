//! Rows about the kernel's interfaces.

use super::{PERL, Prison};
use crate::need;
use crate::support::{all, skip};

/// No filter, every capability that the default set lacks left out.
const UNFILTERED: &[&str] = &["--security-opt", "seccomp=unconfined"];

#[test]
fn row_01_nothing_is_mounted_remounted_or_unmounted() {
    let prison = need!("row 1", Prison::open());
    let tries = [
        "mount -t proc proc /mnt",
        "mount -t sysfs sysfs /mnt",
        "mount --bind /proc /mnt",
        "mount -o remount,rw /sys",
        "mount -o remount,rw,bind /proc/sys",
        "mount -o remount,suid /proc",
        "umount /proc/kcore",
        "umount -l /proc",
        "umount /sys/firmware",
        "unshare -Urm umount /proc/keys",
    ];
    prison.fails(
        &[&[], &["--no-holder"], &["--read-only"]],
        &[&tries[..], &["mount -o remount,rw / && touch /x && false"]].concat(),
    );
    prison.fails(&[UNFILTERED], &tries[..9]);
    prison.fails(&[&["--read-only"]], &["mount -o remount,rw /; touch /x"]);
}

#[test]
fn row_08_no_way_out_of_the_root() {
    let prison = need!("row 8", Prison::open());
    // The classic: a directory held open outside of a second root.
    let escape = "mkdir -p /jail && perl -e 'opendir(D, \"/\"); chroot \"/jail\"; chdir D; chdir \"..\" for 1..64; chroot \".\"; \
                  print -e \"/etc/debian_version\" ? \"inside\" : \"outside\"'";
    assert_eq!(prison.tell(&[], escape), "inside");
    // name_to_handle_at, open_by_handle_at: without the capability, and refused by the filter in any case.
    let handle = format!(
        "perl -e '{PERL} my ($h, $m) = (pack(\"LlA128\", 128, 0, \"\"), pack(\"l\", 0)); \
         print try(304, -100, $h, 0), \" \", try(304, -100, pack(\"LlQ\", 8, 1, 2), 0)'"
    );
    for flags in [&[][..], UNFILTERED] {
        assert_eq!(prison.tell(flags, &handle), "1 1", "{flags:?}");
    }
}

#[test]
fn row_09_the_old_root_is_gone_and_mounts_stay_inside() {
    let prison = need!("row 9", Prison::open());
    let script = "cat /proc/self/mountinfo; ls -d /home/* /.pivot* /oldroot /put_old 2>/dev/null";
    let told = prison.tell(&[], script);
    // The six devices and the null behind the masks are all that is the host's.
    assert!(!told.contains("shared:") && !told.contains("master:"), "{told}");
    assert!(!told.contains(prison.env.scratch.to_str().unwrap()), "where the layers are on the host: {told}");
    prison.fails(
        &[&[], UNFILTERED],
        &["mount --make-rshared /", "pivot_root . .", "chroot /proc/1/root/.. test -d /lost+found"],
    );
    // With all power within its namespace it mounts what it likes, and none of it is seen outside: `run` compares.
    let script = "mount --make-rshared / && mkdir /m && mount -t tmpfs none /m && mount --bind /m /mnt && echo mounted";
    assert_eq!(prison.tell(&["--privileged"], script), "mounted\n");
    let volume = format!("{}:/v:rslave", prison.folder("propagation").display());
    let script = "mount --make-rshared /v; mount -t tmpfs none /v && echo mounted";
    assert_eq!(prison.tell(&["--privileged", "-v", &volume], script), "mounted\n");
}

#[test]
fn row_10_the_hosts_processes_are_out_of_reach() {
    let prison = need!("row 10", Prison::open());
    let told =
        prison.tell(&[], "readlink /proc/1/exe; cat /proc/1/root/etc/debian_version; ls -d /proc/[0-9]* | wc -l");
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines[0] == "/usr/bin/dash" && lines[1].starts_with("12") && lines[2].parse::<u32>().unwrap() <= 3,
        "{told}"
    );
    let own = std::process::id().to_string();
    prison.fails(&[&[], UNFILTERED], &[&format!("kill -0 {own}"), "kill -0 2000", &format!("test -e /proc/{own}")]);
    // This test would not live to tell.
    prison.run(&["--cap-add", "ALL"], "kill -9 -1; true");
    // Among the host's processes it sees them, and still looks into none and kills none.
    let tries = [
        &format!("kill -0 {own}")[..],
        "ls /proc/1/root/",
        "cat /proc/1/environ",
        &format!("readlink /proc/{own}/exe"),
    ];
    prison.fails(&[&["--pid", "host"], &["--pid", "host", "--cap-add", "ALL"]], &tries);
}

#[test]
fn row_11_the_kernels_files_are_masked_or_read_only() {
    let prison = need!("row 11", Prison::open());
    prison.fails(
        &[&[], UNFILTERED, &["--network", "host"], &["--pid", "host"]],
        &[
            "echo x > /proc/sys/kernel/core_pattern",
            "echo b > /proc/sysrq-trigger",
            "echo 1 > /proc/sys/vm/drop_caches",
            "echo x > /sys/kernel/uevent_helper",
            "echo 1 > /sys/power/state",
            "find /sys /proc/sys -type f -writable 2>/dev/null | while read f; do (echo 0 >> $f) 2>/dev/null && echo $f; done | grep -q .",
            "mkdir /sys/fs/cgroup/x",
            "find / -name release_agent 2>/dev/null | grep -q .",
            "test -s /proc/keys",
            "test -s /proc/timer_list",
            "head -c 1 /proc/kcore | grep -q .",
            "ls -A /sys/firmware | grep -q .",
            "ls -A /proc/acpi | grep -q .",
        ],
    );
    // The masks off, it is still the host's root that is asked for.
    prison.fails(
        &[&["--security-opt", "unmask=ALL"], &["--privileged"]],
        &[
            "echo x > /proc/sys/kernel/core_pattern",
            "echo b > /proc/sysrq-trigger",
            "head -c 1 /proc/kcore | grep -q .",
        ],
    );
}

#[test]
fn row_12_capabilities_are_exact_and_set_id_programs_gain_nothing() {
    let prison = need!("row 12", Prison::open());
    let sets = |flags: &[&str]| {
        let told = prison.tell(flags, "grep ^Cap /proc/self/status");
        told.lines().map(|line| line.split_once(":\t").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let (none, default) = ("0000000000000000", "00000000a80425fb");
    for more in [&[][..], &["--init"], &["--no-holder"], &["-t"]] {
        // Inheritable, permitted, effective, bounding, ambient.
        assert_eq!(sets(more), [none, default, default, default, none], "{more:?}");
        assert_eq!(sets(&[more, &["-u", "33"]].concat()), [none, none, none, default, none], "{more:?}");
        assert_eq!(sets(&[more, &["--cap-drop", "ALL"]].concat()), [none; 5], "{more:?}");
    }
    let script = "cp /usr/bin/id /id; chmod 4755 /id; setpriv --reuid 33 --regid 33 --clear-groups /id -u";
    assert_eq!(prison.tell(&[], script), "0\n", "what the flag below takes away");
    let set_id = prison.env.scratch.join("set-id");
    std::fs::copy("/usr/bin/id", &set_id).unwrap();
    std::fs::set_permissions(&set_id, std::os::unix::fs::PermissionsExt::from_mode(0o6755)).unwrap();
    assert_eq!(prison.tell(&["--security-opt", "no-new-privileges"], script), "33\n");
    // A set-id file that comes by a volume is none.
    let volume = format!("{}:/id", set_id.display());
    assert_eq!(prison.tell(&["-v", &volume, "-u", "33"], "/id -u"), "33\n");
}

#[test]
fn row_13_no_further_namespaces_and_none_of_the_hosts() {
    let prison = need!("row 13", Prison::open());
    prison.fails(
        &[&[], &["-u", "33"], &["--network", "host"]],
        &[
            "unshare -Ur true",
            "unshare -U true",
            "unshare -m true",
            "unshare -n true",
            "nsenter -t 1 -m true",
            "nsenter -t 1 -U true",
        ],
    );
    // Without a filter users may make namespaces, and join none that is not below their own.
    let flags = ["--pid", "host", "--security-opt", "seccomp=unconfined"];
    prison.fails(
        &[&flags],
        &["nsenter -t 1 -m true", "nsenter -t 1 -U true", "nsenter -t 1 -n true", "nsenter -t 1 -i true"],
    );
}

#[test]
fn row_14_dangerous_system_calls_are_refused() {
    let prison = need!("row 14", Prison::open());
    if !cfg!(target_arch = "x86_64") {
        return skip("row 14", "the numbers of the calls are those of x86_64");
    }
    let calls = [
        ("bpf", 321),
        ("perf_event_open", 298),
        ("keyctl", 250),
        ("add_key", 248),
        ("request_key", 249),
        ("userfaultfd", 323),
        ("kexec_load", 246),
        ("init_module", 175),
        ("finit_module", 313),
        ("swapon", 167),
        ("quotactl", 179),
        ("io_uring_setup", 425),
        ("io_uring_enter", 426),
        ("open_tree", 428),
        ("move_mount", 429),
        ("fsopen", 430),
        ("mount_setattr", 442),
        ("process_vm_readv_of_pid_1", 1),
        ("reboot", 169),
        ("settimeofday", 164),
        ("acct", 163),
        ("lookup_dcookie", 212),
        ("modify_ldt_by_number_beyond_all", 5000),
    ];
    let told = |number: i64| prison.tell(&[], &format!("perl -e '{PERL} print try({number}, 0, 0, 0, 0, 0)'"));
    for (name, number) in calls.iter().filter(|(_, number)| *number != 1) {
        // Refused before it is looked at: without the filter, zeros would give other errors.
        assert!(["1", "38"].contains(&told(*number).as_str()), "{name}");
    }
    assert_eq!(told(435), "38", "clone3, whose flags no filter can read, does not exist");
    // The other ways into the kernel: x32 by its bit, i386 by its gate.
    let x32 = prison.run(&[], &format!("perl -e '{PERL} exit(try(0x40000000 | 39))'"));
    assert!(is_refused(x32.status.code()), "{}", all(&x32));
    for program in ["getpid", "socketcall"] {
        let volume = i386(&prison, program);
        let output = prison.command(&["-v", &volume], &["/call"]);
        assert!(is_refused(output.status.code()), "i386 {program}: {}", all(&output));
        // The program does what it says: where no filter stands in the way, the kernel answers.
        let free = prison.command(&["-v", &volume, "--security-opt", "seccomp=unconfined"], &["/call"]);
        assert!(
            program != "getpid" || [Some(255), Some(38), Some(139)].contains(&free.status.code()),
            "{}",
            all(&free)
        );
    }
}

/// No such call, or the end of the caller by SIGSYS.
fn is_refused(code: Option<i32>) -> bool {
    [Some(38), Some(1), Some(159)].contains(&code)
}

/// A volume with a program that makes one call through the gate of i386, and exits with the negated answer.
fn i386(prison: &Prison, call: &str) -> String {
    let number: u8 = if call == "getpid" { 20 } else { 102 };
    // mov ebx, 1; xor ecx, ecx; mov eax, number; int 0x80; mov edi, eax; neg edi; mov eax, 60; syscall
    let code = [
        &[0xbb, 1, 0, 0, 0, 0x31, 0xc9, 0xb8, number, 0, 0, 0, 0xcd, 0x80][..],
        &[0x89, 0xc7, 0xf7, 0xdf, 0xb8, 60, 0, 0, 0, 0x0f, 0x05],
    ]
    .concat();
    let (base, headers) = (0x40_0000_u64, 64 + 56_u64);
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for number in [base + headers, 64, 0] {
        elf.extend(number.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // One segment, to be loaded, read and executed.
    elf.extend([1_u32.to_le_bytes(), 5_u32.to_le_bytes()].concat());
    let size = headers + code.len() as u64;
    for number in [0, base, base, size, size, 0x1000] {
        elf.extend(number.to_le_bytes());
    }
    elf.extend(code);
    let path = prison.env.scratch.join(format!("i386-{call}"));
    std::fs::write(&path, elf).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:/call", path.display())
}

#[test]
fn row_15_no_sockets_into_the_kernels_crypto_or_the_hypervisor() {
    let prison = need!("row 15", Prison::open());
    for flags in [&[][..], &["--network", "host"], &["--cap-add", "ALL"], &["-u", "33"]] {
        // AF_ALG, AF_VSOCK; refused, not merely unknown. `socketcall` of i386 is row 14's.
        for family in [38, 40] {
            let script = format!(
                "perl -e '{PERL} print try(41, {family}, 5, 0), \" \", try(53, {family}, 5, 0, pack(\"ll\", 0, 0))'"
            );
            let told = prison.tell(flags, &script);
            let errors: Vec<&str> = told.split(' ').collect();
            assert!(["1", "97"].contains(&errors[0]) && errors[1] != "0", "{flags:?} {family}: {told}");
        }
    }
}

#[test]
fn row_16_no_input_is_pushed_into_a_terminal() {
    let prison = need!("row 16", Prison::open());
    for request in ["0x5412", "0x541c", "0x100005412", "0xffffffff00005412", "0x8000000000005412", "0x10000541c"] {
        let script = format!("perl -e '{PERL} my $c = \"\\x02\"; print try(16, 0, {request}, $c)'");
        for flags in [&[][..], &["-t"], &["-t", "-i"], &["--cap-add", "ALL"]] {
            assert_eq!(prison.tell(flags, &script).trim_end(), "1", "{request} {flags:?}");
        }
    }
    assert_eq!(prison.tell(&[], "cut -d' ' -f7 /proc/1/stat"), "0\n", "no terminal of the caller's");
}

#[test]
fn row_17_devices_of_the_host_are_not_to_be_had() {
    let prison = need!("row 17", Prison::open());
    let tries = [
        "mknod /d b 8 0 && head -c 1 /d",
        "mknod /d c 1 1 && head -c 1 /d",
        "mknod /dev/d c 1 5 && head -c 1 /dev/d",
        "mknod /dev/shm/d c 1 5 && head -c 1 /dev/shm/d",
        "head -c 1 /dev/mem",
        "head -c 1 /dev/kmsg",
        "head -c 1 /dev/sda",
        "perl -e 'exit(syscall(103, 3, my $b = \"x\" x 99, 99) == -1)'",
    ];
    prison.fails(&[&[], UNFILTERED, &["--cap-add", "ALL"], &["--privileged"]], &tries[..7]);
    prison.fails(&[&[], UNFILTERED], &tries);
}

#[test]
fn row_18_a_fork_bomb_ends_at_its_limit_and_no_group_is_left() {
    let prison = need!("row 18", Prison::open());
    // Limits of processes count within the user namespace: the caller's own processes are not in the way.
    let bomb =
        "perl -e 'my $n = 0; while (defined(my $p = fork)) { if (!$p) { sleep 5; exit } last if ++$n > 200 } print $n'";
    let made: u32 = prison.tell(&["--ulimit", "nproc=40", "-u", "33"], bomb).parse().unwrap();
    assert!((1..40).contains(&made), "{made}");
    prison.fails(
        &[&[], UNFILTERED, &["--privileged"], &["--cgroupns", "host"]],
        &["for f in $(find /sys/fs/cgroup -name cgroup.procs 2>/dev/null); do (echo 1 > $f) && echo $f; done 2>/dev/null | grep -q ."],
    );
}
