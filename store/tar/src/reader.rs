//! Reads an archive from a stream, one member after another.

use std::io::{self, Read};

use crate::TarError;
use crate::header::BLOCK;
use crate::member::{self, Blocks, Member};
use crate::pax::Globals;

/// An archive, as far as it was read. Give it a buffered stream: headers are read block by block.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    offset: u64,
    globals: Globals,
    /// Bytes of the current member's body that were not taken yet, and of its padding.
    body: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    /// Nothing is read yet.
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, globals: Globals::default(), body: 0, padding: 0 }
    }

    /// The next member; what was not read of the one before is passed over. `None` at the end.
    ///
    /// # Errors
    /// What is broken, hostile or too much; those of the stream.
    pub fn advance(&mut self) -> Result<Option<Member>, TarError> {
        let rest = self.body + self.padding;
        let passed = io::copy(&mut self.input.by_ref().take(rest), &mut io::sink())?;
        self.offset += passed;
        (self.body, self.padding) = (0, 0);
        if passed < rest {
            return Err(TarError::Truncated("a member"));
        }
        let mut globals = std::mem::take(&mut self.globals);
        let member = member::next(self, &mut globals);
        self.globals = globals;
        let member = member?;
        if let Some(member) = &member {
            self.body = member.body;
            self.padding = member.body.next_multiple_of(BLOCK as u64) - member.body;
        }
        Ok(member)
    }
}

/// The body of the member that came last, as it is stored: of a sparse file the data without the holes.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.body).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TarError::Truncated("a file")));
        }
        self.offset += count as u64;
        self.body -= count as u64;
        Ok(count)
    }
}

impl<R: Read> Blocks for Reader<R> {
    type Error = TarError;

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::Truncated("a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += filled as u64;
        Ok(true)
    }

    fn offset(&self) -> u64 {
        self.offset
    }
}
