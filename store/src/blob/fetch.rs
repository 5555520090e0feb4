//! Receives a blob: asynchronous on the network's side, an ordinary reader on the other, a few megabytes between.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{BlobError, BlobStream};
use crate::digest::Hasher;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registry::Registry;

/// Chunks between the two sides; each is what the network gave at once, some tens of kilobytes.
const CHUNKS: usize = 64;
/// How often a transfer that breaks off is taken up again, and the pause before.
const RETRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Reads a blob that a task of the runtime receives and verifies. Its end is an error unless size and digest are those
/// of the descriptor, so that no reader takes a false blob for a whole one.
#[derive(Debug)]
pub struct BlobReader {
    chunks: Receiver<Result<Bytes, BlobError>>,
    chunk: Bytes,
    has_ended: bool,
}

impl BlobReader {
    /// Starts to receive. `progress` hears of bytes as they come. Must be called within a tokio runtime; dropping the
    /// reader ends the transfer.
    pub fn start<R>(
        registry: Arc<R>,
        reference: Reference,
        blob: Descriptor,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Self
    where
        R: Registry + Send + Sync + 'static,
    {
        let (sender, chunks) = channel(CHUNKS);
        tokio::spawn(async move {
            if let Err(error) = receive(registry.as_ref(), &reference, &blob, &sender, &progress).await {
                // A reader that has gone wants to know no more.
                let _ = sender.send(Err(error)).await;
            }
        });
        Self { chunks, chunk: Bytes::new(), has_ended: false }
    }
}

impl Read for BlobReader {
    /// Must not be called on a thread of the runtime: it blocks.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.has_ended {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    self.has_ended = true;
                    return Err(io::Error::other(error));
                }
                None => self.has_ended = true,
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

async fn receive<R: Registry>(
    registry: &R,
    reference: &Reference,
    blob: &Descriptor,
    sender: &Sender<Result<Bytes, BlobError>>,
    progress: &(impl Fn(u64) + Send + Sync),
) -> Result<(), BlobError> {
    let digest = blob.digest;
    let mut hasher = Hasher::new();
    let mut received = 0;
    let mut retries = 0;
    loop {
        // Only a transfer is taken up again: a source that refuses from the start has said so.
        let stream = match registry.blob(reference, blob, received).await {
            Err(error) if received == 0 || retries == RETRIES => return Err(error.into()),
            other => other,
        };
        let broken = match stream {
            Ok(stream) => match transfer(stream, blob, &mut received, &mut hasher, sender, progress).await? {
                Ended::Whole => break,
                Ended::ReaderGone => return Ok(()),
                Ended::Broken(error) => error,
            },
            Err(error) => io::Error::other(error),
        };
        retries += 1;
        if retries > RETRIES {
            return Err(BlobError::Transfer { digest, source: broken });
        }
        tokio::time::sleep(PAUSE * retries).await;
    }
    match hasher.finish() {
        found if found == digest => Ok(()),
        found => Err(BlobError::Digest { wanted: digest, found }),
    }
}

enum Ended {
    Whole,
    Broken(io::Error),
    ReaderGone,
}

async fn transfer(
    mut stream: BlobStream,
    blob: &Descriptor,
    received: &mut u64,
    hasher: &mut Hasher,
    sender: &Sender<Result<Bytes, BlobError>>,
    progress: &(impl Fn(u64) + Send + Sync),
) -> Result<Ended, BlobError> {
    let (digest, wanted) = (blob.digest, blob.size);
    // A source that began anew: what was delivered before is passed over.
    let mut known = received.saturating_sub(stream.offset);
    while let Some(chunk) = stream.next().await {
        let mut chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) if is_wrong_content(&error) => break,
            Err(error) => return Ok(Ended::Broken(error)),
        };
        let skipped = known.min(chunk.len() as u64);
        known -= skipped;
        let _ = chunk.split_to(usize::try_from(skipped).unwrap_or(usize::MAX));
        if chunk.is_empty() {
            continue;
        }
        *received += chunk.len() as u64;
        if *received > wanted {
            return Err(BlobError::Size { digest, wanted, found: wanted + 1 });
        }
        hasher.update(&chunk);
        progress(chunk.len() as u64);
        if sender.send(Ok(chunk)).await.is_err() {
            return Ok(Ended::ReaderGone);
        }
    }
    if *received == wanted {
        return Ok(Ended::Whole);
    }
    Err(BlobError::Size { digest, wanted, found: *received })
}

/// The client's own check of the digest, which is made again here with a message that names both.
fn is_wrong_content(error: &io::Error) -> bool {
    error.get_ref().is_some_and(
        <dyn std::error::Error + std::marker::Send + std::marker::Sync + 'static>::is::<
            oci_distribution::errors::DigestError,
        >,
    )
}
