//! Which sockets a container can have: those of the families that programs need.

use crate::containers::debian;
use crate::need;

/// Begins a Perl program: `name` tells how asking for a socket ends, by the name of its error.
const PERL: &str = "use Errno; sub name { my ($call, $family, $type) = @_; my $r = syscall($call, $family, $type, 0, my $b = \"x\" x 8); \
    $r != -1 ? \"ok\" : $!{EAFNOSUPPORT} ? \"no family\" : $!{EPERM} ? \"no right\" : $!{EPROTONOSUPPORT} ? \"no protocol\" : $! }";

#[test]
fn sockets_of_other_families_than_programs_need_do_not_exist() {
    let (env, image) = need!("sockets_of_other_families", debian());
    if !cfg!(target_arch = "x86_64") {
        return crate::support::skip("sockets_of_other_families", "the numbers of the calls are those of x86_64");
    }
    let tell = |flags: &[&str], script: &str| crate::containers::inside(&env, &image, flags, script);
    let asks = |flags: &[&str], call: u32, families: &str, kind: u32| {
        tell(flags, &format!("perl -e '{PERL} print join(\",\", map {{ name({call}, $_, {kind}) }} ({families}))'"))
    };
    // UNIX, INET, INET6; NETLINK by its own type.
    assert_eq!(asks(&[], 41, "1, 2, 10", 2), "ok,ok,ok");
    assert_eq!(asks(&[], 41, "16", 3), "ok");
    // AX25, X25, KEY, RDS, CAN, TIPC, BLUETOOTH, ALG, NFC, VSOCK, KCM, SMC, XDP, and one that is none.
    let others = "3, 9, 15, 21, 29, 30, 31, 38, 39, 40, 41, 43, 44, 77";
    let refused = ["no family"; 14].join(",");
    for flags in [&[][..], &["--network", "host"], &["--cap-add", "ALL"], &["-u", "33"]] {
        assert_eq!(asks(flags, 41, others, 5), refused, "{flags:?}");
        assert_eq!(asks(flags, 53, "2, 10, 16, 30", 1), ["no family"; 4].join(","), "{flags:?}: pairs");
        assert_eq!(asks(flags, 53, "1", 1), "ok", "{flags:?}: pairs");
    }
    // PACKET: who has asked for it, or has a network to use it on.
    for (flags, wanted) in [
        (&[][..], "no family"),
        (&["--cap-add", "NET_RAW"], "ok"),
        (&["--cap-add", "ALL"], "ok"),
        (&["--cap-add", "NET_RAW", "-u", "33"], "ok"),
        (&["--cap-drop", "NET_RAW"], "no family"),
        // The filter lets it pass, and the kernel asks for the capability in the host's own namespace.
        (&["--network", "host"], "no right"),
    ] {
        assert_eq!(asks(flags, 41, "17", 3), wanted, "{flags:?}");
    }
    if crate::support::has("pasta").is_ok() {
        assert_eq!(asks(&["--network", "pasta"], 41, "17", 3), "ok");
        assert_eq!(asks(&["--network", "pasta", "--cap-drop", "NET_RAW"], 41, "17", 3), "no family");
    }
    // As programs meet it: names are looked up, and a loopback connection is made.
    let script = "getent hosts localhost && perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\"); \
                  $c = IO::Socket::INET->new(PeerAddr => \"127.0.0.1\", PeerPort => $s->sockport) and print \"connected\"'";
    let told = tell(&[], script);
    assert!(told.contains("localhost") && told.ends_with("connected"), "{told}");
}
