//! What parent and child tell each other before exec, over a socket that exec closes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};

use crate::error::Stage;

/// First byte of the message that brings a descriptor.
const DESCRIPTOR: u8 = 0xfe;
/// First byte of the message that tells what is weaker than was hoped for.
const WEAKER: u8 = 0xfd;
/// First byte of the message that lets the child go on.
const RELEASE: u8 = 0xff;
/// Longest message.
const LONGEST: usize = 4096;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What the parent hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A descriptor: the outer end of the container's terminal, or its network.
    Descriptor(OwnedFd),
    /// Something is weaker than was hoped for.
    Weaker(String),
    /// A step failed.
    Failed(Stage, String, io::Error),
    /// The command runs: exec has closed the child's end.
    Closed,
    /// What was waited for is there.
    Released,
}

impl Channel {
    /// Both ends: parent's, child's.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Over a connection that is there already.
    pub(crate) fn over(connection: OwnedFd) -> Self {
        Self(connection)
    }

    /// Lets the child go on.
    pub(crate) fn release(&self) -> io::Result<()> {
        send(&self.0, &[RELEASE], SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits to be let go on. `false`: the parent gave up.
    pub(crate) fn wait_for_release(&self) -> bool {
        let mut byte = [0];
        loop {
            match recv(&self.0, &mut byte, RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.is_ok_and(|(_, count)| count == 1),
            }
        }
    }

    /// Whether the parent has gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(recv(&self.0, &mut [0], RecvFlags::DONTWAIT | RecvFlags::PEEK), Ok((_, 0)))
    }

    /// Tells of a failed step.
    pub(crate) fn fail(&self, stage: Stage, what: &str, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(0);
        let mut message = vec![stage as u8];
        message.extend_from_slice(&errno.to_le_bytes());
        let text = if errno == 0 { format!("{what}\0{error}") } else { format!("{what}\0") };
        message.extend_from_slice(&text.as_bytes()[..text.len().min(LONGEST - 5)]);
        // A parent that has gone does not care why.
        let _ = send(&self.0, &message, SendFlags::NOSIGNAL);
    }

    /// Tells what is weaker than was hoped for.
    pub(crate) fn warn(&self, text: &str) -> io::Result<()> {
        let mut message = vec![WEAKER];
        message.extend_from_slice(&text.as_bytes()[..text.len().min(LONGEST - 1)]);
        send(&self.0, &message, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Hands a descriptor over.
    pub(crate) fn give(&self, descriptor: impl AsFd) -> io::Result<()> {
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&self.0, &[IoSlice::new(&[DESCRIPTOR])], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for the next message.
    pub(crate) fn hear(&self) -> io::Result<Heard> {
        let mut buffer = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let count = loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            match recvmsg(&self.0, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // The other end closed with a word of ours unread. That is told once, before what it said last.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                other => break other?.bytes,
            }
        };
        match buffer[..count] {
            [] => Ok(Heard::Closed),
            [RELEASE] => Ok(Heard::Released),
            [WEAKER, ref text @ ..] => Ok(Heard::Weaker(String::from_utf8_lossy(text).into_owned())),
            [DESCRIPTOR, ..] => {
                let descriptors = control.drain().filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                    _ => None,
                });
                let descriptor = descriptors.last();
                descriptor.map(Heard::Descriptor).ok_or_else(|| io::Error::other("a descriptor got lost on its way"))
            }
            [stage, a, b, c, d, ref text @ ..] => {
                let stage =
                    Stage::from_number(stage).ok_or_else(|| io::Error::other("an unknown message of the child"))?;
                let text = String::from_utf8_lossy(text);
                let (what, said) = text.split_once('\0').unwrap_or((&text, ""));
                let error = match i32::from_le_bytes([a, b, c, d]) {
                    0 => io::Error::other(said.to_owned()),
                    errno => io::Error::from_raw_os_error(errno),
                };
                Ok(Heard::Failed(stage, what.to_owned(), error))
            }
            _ => Err(io::Error::other("a message of the child that is cut short")),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_arrive_with_stage_object_and_cause() {
        let (parent, child) = Channel::pair().unwrap();
        child.fail(Stage::Mount, "/proc", &io::Error::from_raw_os_error(1));
        let Heard::Failed(stage, what, error) = parent.hear().unwrap() else { panic!() };
        assert_eq!((stage, what.as_str(), error.raw_os_error()), (Stage::Mount, "/proc", Some(1)));
    }

    #[test]
    fn what_is_weaker_is_told_before_the_end() {
        let (parent, child) = Channel::pair().unwrap();
        child.warn("/proc is another's").unwrap();
        drop(child);
        assert!(matches!(parent.hear().unwrap(), Heard::Weaker(text) if text == "/proc is another's"));
        assert!(matches!(parent.hear().unwrap(), Heard::Closed));
    }

    #[test]
    fn a_parent_that_has_gone_is_noticed() {
        let (parent, child) = Channel::pair().unwrap();
        assert!(!child.is_abandoned());
        drop(parent);
        assert!(child.is_abandoned());
    }

    #[test]
    fn what_was_said_last_is_heard_though_a_word_of_ours_was_not() {
        let (parent, child) = Channel::pair().unwrap();
        child.fail(Stage::Mount, "/srv", &io::Error::from_raw_os_error(2));
        parent.release().unwrap();
        drop(child);
        assert!(matches!(parent.hear().unwrap(), Heard::Failed(Stage::Mount, what, _) if what == "/srv"));
        assert!(matches!(parent.hear().unwrap(), Heard::Closed));
    }

    #[test]
    fn descriptors_arrive_and_the_end_is_heard() {
        let (parent, child) = Channel::pair().unwrap();
        child.give(std::fs::File::open("/dev/null").unwrap()).unwrap();
        assert!(matches!(parent.hear().unwrap(), Heard::Descriptor(_)));
        drop(child);
        assert!(matches!(parent.hear().unwrap(), Heard::Closed));
    }
}
