//! The log of a container in the background: what it wrote, by line, stream and moment, in the form that podman calls
//! `k8s-file`.
//!
//! ```text
//! 2026-11-25T10:00:00.123456789+00:00 stdout F a whole line
//! 2026-11-25T10:00:00.223456789+00:00 stderr P the part of a line that was there to be read
//! ```
//!
//! All moments have the same zone and width, so that they compare as text. A log that has reached its size becomes `log.1`,
//! in place of an older one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};

/// File name of the log, and of the one before.
const LOG: &str = "log";
const OLDER: &str = "log.1";

/// Where a container wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Output,
    /// Standard error.
    Errors,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Output => "stdout",
            Self::Errors => "stderr",
        }
    }
}

/// A moment as the log has it.
pub fn stamp(time: SystemTime) -> String {
    let age = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (age.as_secs() / 86_400, age.as_secs() % 86_400);
    // Years that begin in March, so that the day that some years lack is the last (Euclidean affine functions).
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}+00:00", age.subsec_nanos())
}

/// The end that writes.
#[derive(Debug)]
pub struct Writer {
    folder: OwnedFd,
    file: File,
    size: u64,
    limit: u64,
    keeps: bool,
}

impl Writer {
    /// Opens the log in a container's folder; 0 is no limit.
    pub fn open(folder: impl AsFd, limit: u64) -> io::Result<Self> {
        let folder = folder.as_fd().try_clone_to_owned()?;
        let file = open(&folder)?;
        let size = file.metadata()?.len();
        Ok(Self { folder, file, size, limit, keeps: true })
    }

    /// One that keeps nothing of what it is given.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened.
    pub fn none(folder: impl AsFd) -> io::Result<Self> {
        let folder = folder.as_fd().try_clone_to_owned()?;
        let file = File::options().write(true).open("/dev/null")?;
        Ok(Self { folder, file, size: 0, limit: 0, keeps: false })
    }

    /// Adds what was read from a stream at once; what would pass the limit goes into a new file, from a whole line on.
    ///
    /// # Errors
    /// Those of the disk; the log then lacks it.
    pub fn add(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if !self.keeps {
            return Ok(());
        }
        let stamp = stamp(SystemTime::now());
        let mut text = Vec::with_capacity(bytes.len() + 64);
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let begin = text.len();
            let (tag, line) = match line.strip_suffix(b"\n") {
                Some(whole) => ("F", whole),
                None => ("P", line),
            };
            write!(text, "{stamp} {} {tag} ", stream.name())?;
            text.extend_from_slice(line);
            text.push(b'\n');
            if self.limit > 0 && self.size + width(text.len()) > self.limit && self.size + width(begin) > 0 {
                self.write(&text[..begin])?;
                rustix::fs::renameat(&self.folder, LOG, &self.folder, OLDER)?;
                self.file = open(&self.folder)?;
                self.size = 0;
                text.drain(..begin);
            }
        }
        self.write(&text)
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_all(text)?;
        self.size += width(text.len());
        Ok(())
    }
}

fn width(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn open(folder: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, LOG, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// A line of a log, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was written, as [`stamp`] has it.
    pub stamp: String,
    /// Where.
    pub stream: Stream,
    /// What, with the line feed that ended it, if one did.
    pub text: Vec<u8>,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n")?;
        let mut fields = line.splitn(4, |&byte| byte == b' ');
        let stamp = String::from_utf8(fields.next()?.to_vec()).ok()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Output,
            b"stderr" => Stream::Errors,
            _ => return None,
        };
        let is_whole = fields.next()? == b"F";
        let mut text = fields.next()?.to_vec();
        if is_whole {
            text.push(b'\n');
        }
        Some(Self { stamp, stream, text })
    }
}

/// The end that reads, line after line, across the change from one file to the next.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    file: Option<BufReader<File>>,
    /// Whether the open file is the log itself.
    is_newest: bool,
    /// The beginning of a line whose rest is not yet written.
    begun: Vec<u8>,
}

impl Reader {
    /// Begins with the oldest line.
    ///
    /// # Errors
    /// There is no log.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let newest = File::open(folder.join(LOG))?;
        let (file, is_newest) = match File::open(folder.join(OLDER)) {
            Ok(older) => (older, false),
            Err(_) => (newest, true),
        };
        Ok(Self { folder: folder.to_owned(), file: Some(BufReader::new(file)), is_newest, begun: Vec::new() })
    }

    /// The next line; `None` if no further one has been written.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let Some(file) = &mut self.file else { return Ok(None) };
            if file.read_until(b'\n', &mut self.begun)? > 0 && self.begun.ends_with(b"\n") {
                let line = std::mem::take(&mut self.begun);
                match Line::parse(&line) {
                    Some(line) => return Ok(Some(line)),
                    // Torn by a full disk.
                    None => continue,
                }
            }
            if self.is_newest && !self.has_been_moved()? {
                return Ok(None);
            }
            // Once more, since lines may have come between the end and the move.
            if let Some(file) = &mut self.file
                && file.read_until(b'\n', &mut self.begun)? > 0
            {
                if let Some(line) = Line::parse(&std::mem::take(&mut self.begun)) {
                    return Ok(Some(line));
                }
                continue;
            }
            self.begun.clear();
            self.file = File::open(self.folder.join(LOG)).ok().map(BufReader::new);
            self.is_newest = true;
        }
    }

    fn has_been_moved(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let own = file.get_ref().metadata()?.ino();
        Ok(std::fs::metadata(self.folder.join(LOG)).is_ok_and(|now| now.ino() != own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn all(reader: &mut Reader) -> Vec<(Stream, String)> {
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            lines.push((line.stream, String::from_utf8(line.text).unwrap()));
        }
        lines
    }

    #[test]
    fn stamps_are_dates_and_compare_as_text() {
        let at = |seconds, nanos| stamp(UNIX_EPOCH + Duration::new(seconds, nanos));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000000+00:00");
        assert_eq!(at(951_827_696, 5), "2000-02-29T12:34:56.000000005+00:00");
        assert_eq!(at(1_735_689_599, 999_999_999), "2024-12-31T23:59:59.999999999+00:00");
        assert!(at(10, 9) < at(10, 10) && at(99, 0) < at(100, 0));
    }

    #[test]
    fn lines_keep_their_stream_and_parts_come_together() {
        let scratch = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(File::open(scratch.path()).unwrap(), 0).unwrap();
        writer.add(Stream::Output, b"one\n\ntw").unwrap();
        writer.add(Stream::Errors, b"wrong\n").unwrap();
        writer.add(Stream::Output, b"o\n").unwrap();
        let mut reader = Reader::open(scratch.path()).unwrap();
        let told = all(&mut reader);
        let of = |stream| told.iter().filter(|line| line.0 == stream).map(|line| line.1.as_str()).collect::<String>();
        assert_eq!((of(Stream::Output).as_str(), of(Stream::Errors).as_str()), ("one\n\ntwo\n", "wrong\n"));
        writer.add(Stream::Output, b"later\n").unwrap();
        assert_eq!(all(&mut reader), [(Stream::Output, "later\n".to_owned())]);
    }

    #[test]
    fn a_log_grows_to_its_limit_twice_and_no_further() {
        let scratch = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(File::open(scratch.path()).unwrap(), 1000).unwrap();
        writer.add(Stream::Output, b"line 0\n").unwrap();
        let mut reader = Reader::open(scratch.path()).unwrap();
        let mut seen = all(&mut reader).len();
        for number in 1..200 {
            writer.add(Stream::Output, format!("line {number}\n").as_bytes()).unwrap();
            seen += all(&mut reader).len();
        }
        assert_eq!(seen, 200, "a reader that follows misses nothing");
        for file in [LOG, OLDER] {
            assert!(std::fs::metadata(scratch.path().join(file)).unwrap().len() <= 1000);
        }
        let late = all(&mut Reader::open(scratch.path()).unwrap());
        assert_eq!(late.last().unwrap().1, "line 199\n");
        assert!(late.len() > 15, "{}", late.len());
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join(LOG), "torn\n2026 stdout F good\n2026 stdout F half").unwrap();
        let mut reader = Reader::open(scratch.path()).unwrap();
        assert_eq!(all(&mut reader), [(Stream::Output, "good\n".to_owned())]);
    }
}
