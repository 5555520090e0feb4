//! `lstore commit`: an image with one more layer, read from standard input. `lrun commit` runs it.

use std::io::{self, Read};

use lstore::{Append, Reference};
use serde_json::{Map, Value};

use super::args::CommitImageArguments;
use super::context::Context;
use super::import::config;
use super::pull::{options, progress};
use crate::exit::Exit;
use crate::output::rfc3339;
use crate::report::Failure;

/// What follows the layer: without it whoever wrote it has been killed, perhaps between two members.
pub const END: &[u8] = b"layer ends";

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

pub(super) fn run(context: &Context, arguments: &CommitImageArguments) -> Result<Exit, Failure> {
    let name = Reference::parse(&arguments.name)?;
    let store = context.found_with(&arguments.base)?;
    let base = store.image(&arguments.base)?;
    let mut own: Map<String, Value> = serde_json::from_str(&arguments.config)?;
    merge(&mut own, config(&arguments.changes));
    let append = Append {
        config: own,
        author: arguments.author.clone(),
        comment: arguments.message.clone(),
        created: rfc3339(std::time::SystemTime::now()),
    };
    let placement = store.placement(context.forced_placement())?;
    let options = options(None, Some(placement), vec![name.to_string()])?;
    let mut layer = Whole { inner: io::stdin(), buffer: vec![0; BUFFER], begin: 0, end: 0 };
    let image = store.append(&base, &mut layer, &append, &options, progress(context).as_ref())?.image;
    let id = image.id.hex();
    if let Some(path) = &arguments.iidfile {
        std::fs::write(path, format!("sha256:{id}")).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut output = context.output();
    output.line(&id)?;
    output.flush()?;
    Ok(Exit::SUCCESS)
}

/// Lays changes over a configuration: a variable takes the place of one of its name, labels and volumes are added.
fn merge(own: &mut Map<String, Value>, changes: Map<String, Value>) {
    let name = |variable: &Value| variable.as_str().and_then(|text| text.split('=').next()).map(str::to_owned);
    for (key, value) in changes {
        match (own.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (Some(Value::Array(old)), Value::Array(new)) if key == "Env" => {
                old.retain(|variable| new.iter().all(|other| name(other) != name(variable)));
                old.extend(new);
            }
            (_, value) => drop(own.insert(key, value)),
        }
    }
}

/// What is read, up to the mark of its end, which must be the last that comes.
struct Whole<R> {
    inner: R,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // So much is held back as may be the mark.
        while self.end - self.begin <= END.len() {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            let read = self.inner.read(&mut self.buffer[self.end..])?;
            if read == 0 {
                let is_whole = &self.buffer[..self.end] == END;
                let torn = || io::Error::new(io::ErrorKind::UnexpectedEof, "the layer was cut off");
                return if is_whole { Ok(0) } else { Err(torn()) };
            }
            self.end += read;
        }
        let length = out.len().min(self.end - self.begin - END.len());
        out[..length].copy_from_slice(&self.buffer[self.begin..self.begin + length]);
        self.begin += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &[u8], size: usize) -> io::Result<Vec<u8>> {
        let mut whole = Whole { inner: text, buffer: vec![0; size], begin: 0, end: 0 };
        let mut out = Vec::new();
        whole.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn a_layer_without_its_end_is_none() {
        for size in [END.len() + 1, 64, 4096] {
            assert_eq!(read(b"a tar of some lengthlayer ends", size).unwrap(), b"a tar of some length");
            assert_eq!(read(b"layer ends", size).unwrap(), b"");
            assert_eq!(read(b"layer endslayer ends", size).unwrap(), b"layer ends");
            for torn in [&b""[..], b"a tar", b"a tarlayer end", b"layer endsx"] {
                assert!(read(torn, size).is_err());
            }
        }
    }

    #[test]
    fn changes_are_laid_over_the_containers_configuration() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let mut own = map(json!({"Env": ["A=1", "B=2"], "Labels": {"a": "1"}, "Cmd": ["x"]}));
        merge(&mut own, map(json!({"Env": ["A=3"], "Labels": {"b": "2"}, "Cmd": ["y"], "User": "u"})));
        let wanted = json!({"Env": ["B=2", "A=3"], "Labels": {"a": "1", "b": "2"}, "Cmd": ["y"], "User": "u"});
        assert_eq!(Value::Object(own), wanted);
    }
}
