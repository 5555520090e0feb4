//! As much of D-Bus as it takes to ask systemd for a scope: one call and its answer (D-Bus specification, "Message
//! Protocol" and "Authentication Protocol").
//!
//! By hand: the crates bring an executor and some forty others, and this program is to stay small and single-threaded.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::message::{Body, Field, Fields, Value};

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// No answer to our call is larger.
const MOST: usize = 1 << 20;

/// systemd's error for a unit that is there.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// systemd's error for one that is not.
const NONE: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// A connection.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Whether messages go through a bus, which wants to be greeted, rather than to systemd itself.
    is_shared: bool,
}

impl Bus {
    /// Connects as who we are.
    pub(super) fn connect(socket: &Path, is_shared: bool) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self { stream, serial: 0, is_shared };
        let uid = own_uid().to_string();
        let uid = uid.bytes().fold(String::new(), |text, digit| format!("{text}{digit:02x}"));
        bus.stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let answer = bus.line()?;
        if !answer.starts_with("OK ") {
            return Err(io::Error::other(format!("the bus does not know us: {answer}")));
        }
        bus.stream.write_all(b"BEGIN\r\n")?;
        if is_shared {
            let own = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello");
            bus.call(own, "", Body::default())?;
        }
        Ok(bus)
    }

    /// `StartTransientUnit` of systemd's manager: a unit with these properties.
    ///
    /// # Errors
    /// `AlreadyExists` for one that is there.
    pub(super) fn start_unit(&mut self, name: &str, properties: &[(&str, Value)]) -> io::Result<()> {
        let mut body = Body::default();
        body.text(name);
        body.text("fail");
        body.properties(properties);
        body.array(8, |_| {});
        self.ask_manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
    }

    /// `AttachProcessesToUnit`: moves processes to a group below that of a unit.
    pub(super) fn attach(&mut self, unit: &str, group: &str, processes: &[u32]) -> io::Result<()> {
        let mut body = Body::default();
        body.text(unit);
        body.text(group);
        body.array(4, |body| processes.iter().for_each(|&process| body.number(process)));
        self.ask_manager("AttachProcessesToUnit", "ssau", body)
    }

    /// `SetUnitProperties` of systemd's manager, until the unit ends.
    pub(super) fn change_unit(&mut self, name: &str, properties: &[(&str, Value)]) -> io::Result<()> {
        let mut body = Body::default();
        body.text(name);
        body.number(1);
        body.properties(properties);
        self.ask_manager("SetUnitProperties", "sba(sv)", body)
    }

    /// `StopUnit` of systemd's manager.
    ///
    /// # Errors
    /// `NotFound` for one that is not there.
    pub(super) fn stop_unit(&mut self, name: &str) -> io::Result<()> {
        let mut body = Body::default();
        body.text(name);
        body.text("replace");
        self.ask_manager("StopUnit", "ss", body)
    }

    fn ask_manager(&mut self, method: &str, signature: &str, body: Body) -> io::Result<()> {
        let manager = "org.freedesktop.systemd1.Manager";
        self.call(("org.freedesktop.systemd1", "/org/freedesktop/systemd1", manager, method), signature, body)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 1024 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Calls a method and waits for the answer, whose content does not matter.
    fn call(
        &mut self,
        (destination, path, interface, member): (&str, &str, &str, &str),
        signature: &str,
        body: Body,
    ) -> io::Result<()> {
        self.serial += 1;
        let serial = self.serial;
        let Body(body) = body;
        let mut message = Body(vec![b'l', 1, 0, 1]);
        message.number(u32::try_from(body.len()).map_err(io::Error::other)?);
        message.number(serial);
        message.array(8, |message| {
            for (code, kind, text) in [(1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", destination)] {
                // Who is spoken to directly has no name.
                if code == 6 && !self.is_shared {
                    continue;
                }
                message.align(8);
                message.0.push(code);
                message.signature(kind);
                message.text(text);
            }
            if !signature.is_empty() {
                message.align(8);
                message.0.push(8);
                message.signature("g");
                message.signature(signature);
            }
        });
        message.align(8);
        message.0.extend(body);
        self.stream.write_all(&message.0)?;
        loop {
            if let Some(answer) = self.answer(serial)? {
                return answer;
            }
        }
    }

    /// The next message, if it is the answer to a call.
    fn answer(&mut self, serial: u32) -> io::Result<Option<io::Result<()>>> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        let [order, kind, ..] = head;
        if order != b'l' {
            return Err(io::Error::other("a message of the other byte order"));
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (length, fields) = (number(4), number(12));
        if length.max(fields) > MOST {
            return Err(io::Error::other("a message that is too long"));
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + length];
        self.stream.read_exact(&mut rest)?;
        let (header, body) = rest.split_at(fields.next_multiple_of(8));
        let mut fields = Fields(&header[..fields], 0);
        let (mut reply_to, mut error) = (None, String::new());
        while let Some((code, value)) = fields.next() {
            match (code, value) {
                (5, Field::Number(number)) => reply_to = Some(number),
                (4, Field::Text(text)) => error = text,
                _ => {}
            }
        }
        Ok(match (kind, reply_to) {
            (2, Some(to)) if to == serial => Some(Ok(())),
            (3, Some(to)) if to == serial => {
                let words = Fields(body, 0).text();
                let kind = match error.as_str() {
                    EXISTS => io::ErrorKind::AlreadyExists,
                    NONE => io::ErrorKind::NotFound,
                    _ => io::ErrorKind::Other,
                };
                Some(Err(io::Error::new(kind, words.filter(|words| !words.is_empty()).unwrap_or(error))))
            }
            _ => None,
        })
    }
}

/// Who the other side takes us for: root of a user namespace is somebody outside of it.
fn own_uid() -> u32 {
    let uid = rustix::process::geteuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outer(&map, uid).unwrap_or(uid)
}

/// An id of a user namespace as it is outside, by the lines of its map (`user_namespaces(7)`).
fn outer(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let ahead = uid.checked_sub(inside).filter(|&ahead| ahead < count)?;
        outside.checked_add(ahead)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A message as a peer writes it: kind, the serial it answers, an error's name, a body.
    fn message(kind: u8, to: u32, error: Option<&str>, body: &[u8]) -> Vec<u8> {
        let mut message = Body(vec![b'l', kind, 0, 1]);
        message.number(u32::try_from(body.len()).unwrap());
        message.number(7);
        message.array(8, |message| {
            message.align(8);
            message.0.push(5);
            message.signature("u");
            message.number(to);
            if let Some(name) = error {
                message.align(8);
                message.0.push(4);
                message.signature("s");
                message.text(name);
            }
        });
        message.align(8);
        message.0.extend(body);
        message.0
    }

    /// What a call ends with whose peer says this.
    fn told(answers: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = [0; 256];
            let read = stream.read(&mut line).unwrap();
            assert!(line[..read].starts_with(b"\0AUTH EXTERNAL 3"), "digits in hexadecimal");
            stream.write_all(b"OK 1234\r\n").unwrap();
            stream.write_all(&answers).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut heard = Vec::new();
            // Who closes without having read all is told of as a reset.
            let _ = stream.read_to_end(&mut heard);
            heard
        });
        let mut bus = Bus::connect(&socket, false).unwrap();
        let outcome = bus.start_unit("a.scope", &[("PIDs", Value::Numbers(vec![5])), ("Delegate", Value::Flag(true))]);
        drop(bus);
        (outcome, peer.join().unwrap())
    }

    #[test]
    fn the_answer_is_found_among_other_messages() {
        let mut answers = message(4, 0, None, b"");
        answers.extend(message(2, 99, None, b"1234567"));
        answers.extend(message(2, 1, None, b""));
        let (outcome, heard) = told(answers);
        outcome.unwrap();
        assert!(heard.starts_with(b"BEGIN\r\nl\x01\x00\x01"), "a call in our byte order follows");
        assert!(heard.windows(18).any(|part| part == b"StartTransientUnit"));
    }

    #[test]
    fn root_of_a_user_namespace_is_who_made_it() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!([0, 1, 65_536, 65_537].map(|uid| outer(map, uid)), [Some(1000), Some(100_000), Some(165_535), None]);
    }

    #[test]
    fn an_error_is_told_in_the_words_of_the_peer() {
        let mut words = Body::default();
        words.text("Unit a.scope already exists.");
        let (outcome, _) = told(message(3, 1, Some(EXISTS), &words.0));
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), "Unit a.scope already exists.");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let (outcome, _) = told(message(3, 1, Some("org.x.Failed"), b""));
        assert_eq!(outcome.unwrap_err().to_string(), "org.x.Failed");
    }

    #[test]
    fn a_message_that_is_torn_or_boundless_is_an_error() {
        assert!(told(b"l\x02\x00".to_vec()).0.is_err());
        let mut huge = message(2, 1, None, b"");
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(told(huge).0.unwrap_err().to_string().contains("too long"));
    }
}
