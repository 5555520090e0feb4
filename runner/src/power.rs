//! What a process gives up before it becomes the command.

use std::io;

use nix::unistd::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::channel::Channel;
use crate::child::{During, Failure};
use crate::enter;
use crate::error::Stage;
use crate::identity::Identity;
use crate::plan::Plan;
use crate::refusal;
use crate::sys::landlock::Ruleset;
use crate::sys::seccomp;

/// Bounding set, ids, no_new_privs, seccomp, capabilities: in the order in which each is still allowed.
pub(crate) fn give_up_power(
    plan: &Plan,
    channel: &Channel,
    identity: &Identity,
    may_set_groups: bool,
    landlock: Option<Ruleset>,
) -> Result<(), Failure> {
    let kept = plan.spec.capabilities;
    let is_kept = |number: u32| number < 64 && kept & (1 << number) != 0;
    for number in 0..=plan.host.last_capability {
        if !is_kept(number) {
            drop_from_bounding_set(number).during(Stage::Capabilities, "")?;
        }
    }
    // Through the change of ids, so that the filter can still be installed without no_new_privs.
    rustix::thread::set_keep_capabilities(true).during(Stage::Capabilities, "")?;
    if may_set_groups {
        let groups: Vec<Gid> = identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        match nix::unistd::setgroups(&groups) {
            Err(nix::errno::Errno::EPERM) if refusal::keeps_groups() => {
                channel.warn(refusal::KEPT_GROUPS).during(Stage::User, "")?;
            }
            other => other.during(Stage::User, "")?,
        }
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let explain = |errno| match errno {
        nix::errno::Errno::EINVAL => io::Error::other("the container has no such id; `lrun info` shows which it has"),
        other => other.into(),
    };
    nix::unistd::setresgid(gid, gid, gid).map_err(explain).during(Stage::User, format!("with group {gid}"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(explain).during(Stage::User, format!("{uid}"))?;
    // The kernel resets it with the ids, to what `fs.suid_dumpable` says.
    enter::hide().during(Stage::Identity, "")?;
    let have = rustix::thread::capabilities(None).during(Stage::Capabilities, "")?;
    let set = |effective, permitted, inheritable| {
        let sets = CapabilitySets { effective, permitted, inheritable };
        rustix::thread::set_capabilities(None, sets).during(Stage::Capabilities, "")
    };
    set(have.permitted, have.permitted, have.inheritable)?;
    if plan.spec.no_new_privileges {
        rustix::thread::set_no_new_privs(true).during(Stage::Capabilities, "")?;
    }
    if let Some(rules) = landlock {
        rules.enforce().during(Stage::Landlock, "")?;
    }
    if !plan.seccomp.is_empty() {
        seccomp::install(&plan.seccomp).during(Stage::Seccomp, "")?;
    }
    // A user that is not root has only what was added by name, as podman has it, and that as ambient ones, which its
    // programs keep; programs with file capabilities still gain theirs.
    let granted = if identity.uid == 0 { u64::MAX } else { plan.spec.granted };
    let own = have.permitted & CapabilitySet::from_bits_retain(kept & granted);
    let ambient = if identity.uid == 0 { CapabilitySet::empty() } else { own };
    rustix::thread::clear_ambient_capability_set().during(Stage::Capabilities, "")?;
    if !ambient.is_empty() {
        set(have.permitted, have.permitted, ambient)?;
        for capability in ambient.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true).during(Stage::Capabilities, "")?;
        }
    }
    set(own, own, ambient)
}

pub(crate) fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    match CapabilitySet::from_bits(1 << number) {
        Some(capability) => Ok(rustix::thread::remove_capability_from_bounding_set(capability)?),
        None => Err(io::Error::other(format!("the kernel has a capability {number} that this program does not know"))),
    }
}
