//! A server on an address of this machine's own that answers by a function, over TLS or not, and keeps what it is asked.
//! It ends with its value.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What servers speak that are to speak TLS.
pub type Tls = Arc<ServerConfig>;

/// A connection, encrypted or not.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A server that has its address, and answers nobody yet.
#[derive(Debug)]
pub struct Site {
    pub address: SocketAddr,
    tls: Option<Tls>,
    listener: Option<TcpListener>,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Site {
    /// On an address such as `127.0.0.2`.
    pub fn bind(ip: &str, tls: Option<&Tls>) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            tls: tls.map(Arc::clone),
            listener: Some(listener),
            stop: Arc::default(),
            asked: Arc::default(),
            thread: None,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Begins to answer, one request a connection. The function is given the request, head and body, and writes.
    pub fn serve(&mut self, answer: impl Fn(&str, &mut dyn Stream) + Send + Sync + 'static) {
        let listener = self.listener.take().unwrap();
        let (stopped, asked, tls) = (Arc::clone(&self.stop), Arc::clone(&self.asked), self.tls.clone());
        let answer = Arc::new(answer);
        self.thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, asked, tls) = (Arc::clone(&answer), Arc::clone(&asked), tls.clone());
                std::thread::spawn(move || {
                    let Ok(stream) = stream else { return };
                    match tls {
                        Some(tls) => {
                            let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
                            converse(&mut stream, &asked, answer.as_ref());
                            stream.conn.send_close_notify();
                            let _ = stream.flush();
                        }
                        None => converse(&mut { stream }, &asked, answer.as_ref()),
                    }
                });
            }
        }));
    }

    /// Requests so far, in lowercase. A connection that asked for nothing is an empty one.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn converse(stream: &mut dyn Stream, asked: &Mutex<Vec<String>>, answer: &dyn Fn(&str, &mut dyn Stream)) {
    let request = request(stream);
    asked.lock().unwrap().push(request.to_lowercase());
    if !request.is_empty() {
        answer(&request, stream);
    }
}

/// Reads a request; empty when what comes is none.
fn request(stream: &mut dyn Stream) -> String {
    let mut text = Vec::new();
    let mut wanted = usize::MAX;
    let mut byte = [0];
    while text.len() < wanted {
        if stream.read_exact(&mut byte).is_err() {
            return String::new();
        }
        // TLS to who speaks none: servers hang up, as the other side waits for them.
        if text.is_empty() && byte[0] == 0x16 {
            return String::new();
        }
        text.push(byte[0]);
        if wanted == usize::MAX && text.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            wanted = text.len() + length.unwrap_or(0);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes an answer whole. Who has gone meanwhile wants none.
pub fn reply(stream: &mut dyn Stream, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
}

/// TLS with a certificate that nobody verifies.
pub fn tls(folder: &Path) -> Result<Tls, String> {
    super::registry::certify(folder)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).map_err(|error| error.to_string())?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    config.map(Arc::new).map_err(|error| error.to_string())
}
