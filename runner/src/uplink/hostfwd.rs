//! Ports of the host that slirp4netns lets in: it is told them over a socket, one by one (its manual page, "API SOCKET").
//!
//! The socket lies in a folder of the caller's alone, and is gone when the container's command begins.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::AtFlags;
use rustix::io::FdFlags;
use rustix::rand::GetRandomFlags;
use serde_json::{Value, json};

use crate::holder::make_private;
use crate::spec::Port;

/// How long an answer may take; the program does nothing else meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where ports are told: a folder that is open, and a name in it that nobody else has.
#[derive(Debug)]
pub(super) struct Entrance {
    folder: File,
    name: String,
}

impl Entrance {
    pub(super) fn new(folder: Option<&Path>) -> io::Result<Self> {
        let folder =
            folder.ok_or_else(|| io::Error::other("there is no folder for the socket that takes its ports"))?;
        make_private(folder)?;
        let mut number = [0; 8];
        rustix::rand::getrandom(&mut number, GetRandomFlags::empty())?;
        Ok(Self { folder: File::open(folder)?, name: format!("ports-{:016x}", u64::from_ne_bytes(number)) })
    }

    /// Its path in this process: that of the folder may be longer than an address can be.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}/{}", self.folder.as_raw_fd(), self.name)
    }

    /// Its path in the program that this process becomes.
    pub(super) fn hand_on(&self) -> io::Result<String> {
        rustix::io::fcntl_setfd(&self.folder, FdFlags::empty())?;
        Ok(self.path())
    }

    /// Has the ports let in.
    pub(super) fn open(self, ports: &[Port]) -> io::Result<()> {
        for port in ports {
            for at in 0..port.count {
                self.publish(port, at)?;
            }
        }
        Ok(())
    }

    fn publish(&self, port: &Port, at: u16) -> io::Result<()> {
        let (host, protocol) = (port.host.saturating_add(at), port.protocol);
        let address = port.address.map(|address| address.to_string()).unwrap_or_default();
        let explain = |why: &dyn std::fmt::Display| {
            let place = port.address.map(|address| format!("{address}:")).unwrap_or_default();
            io::Error::other(format!("the host's port {place}{host}/{protocol} cannot be had: {why}"))
        };
        if matches!(port.address, Some(IpAddr::V6(_))) {
            return Err(explain(&"slirp4netns lets in what comes over IPv4 alone; give 'pasta'"));
        }
        let request = json!({
            "execute": "add_hostfwd",
            "arguments": {
                "proto": protocol.to_string(), "host_addr": address, "host_port": host,
                "guest_port": port.container.saturating_add(at),
            },
        });
        let answer = self.ask(&request).map_err(|error| explain(&error))?;
        if answer["return"].is_object() {
            return Ok(());
        }
        Err(explain(&"it is in use, the host has no such address, or the number is too low for you"))
    }

    /// One request is all that a connection is for.
    fn ask(&self, request: &Value) -> io::Result<Value> {
        let mut stream = UnixStream::connect(self.path())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.to_string().as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

impl Drop for Entrance {
    /// Nobody is to be let in later.
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

impl AsFd for Entrance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}
