//! As much of D-Bus as it takes to ask systemd for a scope: one call and its answer (D-Bus specification, "Message
//! Protocol" and "Authentication Protocol").
//!
//! By hand: the crates bring an executor and some forty others, and this program is to stay small and single-threaded.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// No answer to our call is larger.
const MOST: usize = 1 << 20;

/// systemd's error for a unit that is there.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// A value of a message, of the types that our calls have.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `s`.
    Text(String),
    /// `b`.
    Flag(bool),
    /// `au`.
    Numbers(Vec<u32>),
}

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
        let uid = rustix::process::geteuid().as_raw().to_string();
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
        body.array(8, |body| {
            for (key, value) in properties {
                body.align(8);
                body.text(key);
                body.variant(value);
            }
        });
        body.array(8, |_| {});
        self.call(manager("StartTransientUnit"), "ssa(sv)a(sa(sv))", body)
    }

    /// `AttachProcessesToUnit`: moves processes to a group below that of a unit.
    pub(super) fn attach(&mut self, unit: &str, group: &str, processes: &[u32]) -> io::Result<()> {
        let mut body = Body::default();
        body.text(unit);
        body.text(group);
        body.array(4, |body| processes.iter().for_each(|&process| body.number(process)));
        self.call(manager("AttachProcessesToUnit"), "ssau", body)
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
                let kind = if error == EXISTS { io::ErrorKind::AlreadyExists } else { io::ErrorKind::Other };
                Some(Err(io::Error::new(kind, words.filter(|words| !words.is_empty()).unwrap_or(error))))
            }
            _ => None,
        })
    }
}

/// A method of systemd's manager.
fn manager(method: &str) -> (&str, &str, &str, &str) {
    ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", method)
}

/// What a message holds, as it is written.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        // Ours are short.
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.number(u32::from(*flag));
            }
            Value::Numbers(numbers) => {
                self.signature("au");
                self.array(4, |body| numbers.iter().for_each(|&number| body.number(number)));
            }
        }
    }

    /// An array: its length counts what comes after the padding to its first element.
    fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let place = self.0.len() - 4;
        self.align(alignment);
        let begin = self.0.len();
        fill(self);
        let length = u32::try_from(self.0.len() - begin).unwrap_or(u32::MAX);
        self.0[place..place + 4].copy_from_slice(&length.to_le_bytes());
    }
}

enum Field {
    Number(u32),
    Text(String),
    Other,
}

/// The fields of a message's header, as they are read.
struct Fields<'a>(&'a [u8], usize);

impl Fields<'_> {
    fn next(&mut self) -> Option<(u8, Field)> {
        self.1 = self.1.next_multiple_of(8);
        let code = self.byte()?;
        let kind = self.signature()?;
        let value = match kind.as_str() {
            "u" => Field::Number(self.number()?),
            "s" | "o" => Field::Text(self.text()?),
            "g" => {
                self.signature()?;
                Field::Other
            }
            _ => return None,
        };
        Some((code, value))
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.0.get(self.1)?;
        self.1 += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.1 = self.1.next_multiple_of(4);
        let bytes = self.0.get(self.1..self.1 + 4)?;
        self.1 += 4;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.words(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.words(length)
    }

    fn words(&mut self, length: usize) -> Option<String> {
        let text = self.0.get(self.1..self.1.checked_add(length)?)?;
        self.1 += length + 1;
        Some(String::from_utf8_lossy(text).into_owned())
    }
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
