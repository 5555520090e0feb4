//! A registry that lies: it answers from a table, breaks off, and counts what it is asked. It ends with its value.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::image::{Image, sha256};

/// An answer to one path.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is cut.
    pub cut: Option<usize>,
}

impl Answer {
    pub fn ok(body: &[u8]) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_vec(), cut: None }
    }

    pub fn status(status: u16) -> Self {
        let code = match status {
            403 => "DENIED",
            404 => "MANIFEST_UNKNOWN",
            _ => "UNAUTHORIZED",
        };
        let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"no\"}}]}}");
        Self { status, ..Self::ok(if status < 500 { body.as_bytes() } else { b"out of order" }) }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub address: String,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(answers: HashMap<String, Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, log) = (Arc::clone(&stop), Arc::clone(&asked));
        let answers = Arc::new(answers);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (answers, log) = (Arc::clone(&answers), Arc::clone(&log));
                std::thread::spawn(move || {
                    let _ = stream.and_then(|stream| serve(&stream, &answers, &log));
                });
            }
        });
        Self { address, stop, asked, thread: Some(thread) }
    }

    /// Serves an image as repository `bad`, tag `1`.
    pub fn of(image: &Image, change: impl FnOnce(&mut HashMap<String, Answer>)) -> Self {
        let manifest = image.manifest.to_string().into_bytes();
        let media_type = image.manifest["mediaType"].as_str().unwrap().to_owned();
        let mut answers = HashMap::from([("/v2/".to_owned(), Answer::ok(b"{}"))]);
        for name in ["1".to_owned(), sha256(&manifest)] {
            let mut answer = Answer::ok(&manifest);
            answer.headers.push(("Content-Type", media_type.clone()));
            answers.insert(format!("/v2/bad/manifests/{name}"), answer);
        }
        let digest = image.manifest["config"]["digest"].as_str().unwrap();
        answers.insert(format!("/v2/bad/blobs/{digest}"), Answer::ok(&image.config));
        for (digest, bytes) in &image.blobs {
            answers.insert(format!("/v2/bad/blobs/{digest}"), Answer::ok(bytes));
        }
        change(&mut answers);
        Self::start(answers)
    }

    /// The name to pull.
    pub fn name(&self) -> String {
        format!("{}/bad:1", self.address)
    }

    /// Requests so far, head and all.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &TcpStream, answers: &HashMap<String, Answer>, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut words = head.split_ascii_whitespace();
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        log.lock().unwrap().push(head.clone());
        let path = path.split('?').next().unwrap_or_default();
        let answer = answers.get(path).cloned().unwrap_or_else(|| Answer::status(404));
        let mut text = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        writer.write_all(text.as_bytes())?;
        writer.write_all(b"\r\n")?;
        if method != "HEAD" {
            match answer.cut {
                Some(bytes) => {
                    writer.write_all(&answer.body[..bytes])?;
                    return stream.shutdown(std::net::Shutdown::Both);
                }
                None => writer.write_all(&answer.body)?,
            }
        }
    }
}
