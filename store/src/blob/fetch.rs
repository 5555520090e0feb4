//! Receives a blob: asynchronous on the network's side, an ordinary reader on the other, a few megabytes between.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::AbortHandle;

use super::{BlobError, BlobStream};
use crate::digest::Hasher;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registry::Registry;

/// Chunks between the two sides; each is what the network gave at once, some tens of kilobytes.
const CHUNKS: usize = 64;
/// How often a transfer that breaks off is taken up again without getting on, and the pause before.
const RETRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes by which a transfer must get on for its retries to be counted anew. A source that drops every connection after
/// a byte is given up.
const ADVANCE: u64 = 1 << 20;

/// What the task hands over: bytes, or `None` at the end once it is verified.
type Message = Result<Option<Bytes>, BlobError>;

/// Reads a blob that a task of the runtime receives and verifies. Its end is an error unless size and digest are those
/// of the descriptor, so that no reader takes a false blob for a whole one.
#[derive(Debug)]
pub struct BlobReader {
    chunks: Receiver<Message>,
    chunk: Bytes,
    has_ended: bool,
    task: AbortHandle,
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
        let task = tokio::spawn(async move {
            let end = receive(registry.as_ref(), &reference, &blob, &sender, &progress).await;
            // A reader that has gone wants to know no more.
            let _ = sender.send(end.map(|()| None)).await;
        });
        Self { chunks, chunk: Bytes::new(), has_ended: false, task: task.abort_handle() }
    }
}

impl Read for BlobReader {
    /// Must not be called on a thread of the runtime: it blocks.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.has_ended {
            match self.chunks.blocking_recv() {
                Some(Ok(Some(chunk))) => self.chunk = chunk,
                Some(Ok(None)) => self.has_ended = true,
                Some(Err(error)) => return Err(io::Error::other(error)),
                // After an error, or when the task died: that is no end of file.
                None => return Err(io::Error::other("the transfer was abandoned; try again")),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

impl Drop for BlobReader {
    /// A source that is silent would keep the task waiting, and with it the connection.
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive<R: Registry>(
    registry: &R,
    reference: &Reference,
    blob: &Descriptor,
    sender: &Sender<Message>,
    progress: &(impl Fn(u64) + Send + Sync),
) -> Result<(), BlobError> {
    let digest = blob.digest;
    let mut hasher = Hasher::new();
    let mut received = 0;
    let (mut retries, mut mark) = (0, 0);
    let mut broken: Option<BlobError> = None;
    loop {
        let before = received;
        match registry.blob(reference, blob, received).await {
            Ok(stream) => match transfer(stream, blob, &mut received, &mut hasher, sender, progress).await? {
                Ended::ReaderGone => return Ok(()),
                // A connection that breaks off behind the last byte has lost nothing.
                _ if received == blob.size => break,
                Ended::Stopped if received == before => {
                    return Err(BlobError::Size { digest, wanted: blob.size, found: received });
                }
                Ended::Stopped => broken = Some(BlobError::Size { digest, wanted: blob.size, found: received }),
                Ended::Broken(source) => broken = Some(BlobError::Transfer { digest, source }),
            },
            Err(error) if error.is_transient() => broken = Some(error.into()),
            // A source that cannot go on where it broke off: what it did first is what went wrong.
            Err(error) => return Err(broken.unwrap_or_else(|| error.into())),
        }
        if received - mark >= ADVANCE {
            (retries, mark) = (0, received);
        }
        if retries == RETRIES
            && let Some(broken) = broken
        {
            return Err(broken);
        }
        retries += 1;
        tokio::time::sleep(PAUSE * retries).await;
    }
    match hasher.finish() {
        found if found == digest => Ok(()),
        found => Err(BlobError::Digest { wanted: digest, found }),
    }
}

/// How a transfer ended that broke no promise.
enum Ended {
    /// The source has no more to give.
    Stopped,
    Broken(io::Error),
    ReaderGone,
}

async fn transfer(
    mut stream: BlobStream,
    blob: &Descriptor,
    received: &mut u64,
    hasher: &mut Hasher,
    sender: &Sender<Message>,
    progress: &(impl Fn(u64) + Send + Sync),
) -> Result<Ended, BlobError> {
    let (digest, wanted) = (blob.digest, blob.size);
    // A source that began anew: what was delivered before is passed over.
    let mut known = received.saturating_sub(stream.offset);
    while let Some(chunk) = stream.next().await {
        let mut chunk = match chunk {
            Ok(chunk) => chunk,
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
        if sender.send(Ok(Some(chunk))).await.is_err() {
            return Ok(Ended::ReaderGone);
        }
    }
    Ok(Ended::Stopped)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::{StreamExt, stream};
    use tokio::sync::oneshot;

    use super::*;
    use crate::digest::Digest;
    use crate::registry::{RawManifest, RegistryError};

    /// Serves `content`, each attempt cut off after so many bytes as the script says; at its end whole.
    struct Script {
        content: &'static [u8],
        cuts: Mutex<Vec<usize>>,
        offsets: Mutex<Vec<u64>>,
    }

    impl Script {
        fn new(content: &'static [u8], cuts: &[usize]) -> Arc<Self> {
            let cuts = Mutex::new(cuts.iter().rev().copied().collect());
            Arc::new(Self { content, cuts, offsets: Mutex::default() })
        }
    }

    impl Registry for Script {
        async fn manifest(&self, reference: &Reference) -> Result<RawManifest, RegistryError> {
            Err(RegistryError::NotFound { reference: reference.to_string(), host: "script".to_owned() })
        }

        async fn manifest_by_digest(&self, reference: &Reference, _: &Digest) -> Result<RawManifest, RegistryError> {
            self.manifest(reference).await
        }

        async fn blob(&self, _: &Reference, _: &Descriptor, offset: u64) -> Result<BlobStream, RegistryError> {
            self.offsets.lock().unwrap().push(offset);
            if self.content.is_empty() && offset == 0 && self.cuts.lock().unwrap().first() == Some(&usize::MAX) {
                return Ok(BlobStream::new(0, stream::pending().boxed()));
            }
            let rest = &self.content[usize::try_from(offset).unwrap()..];
            let chunks = match self.cuts.lock().unwrap().pop() {
                None => vec![Ok(Bytes::from_static(rest))],
                Some(cut) => {
                    vec![Ok(Bytes::from_static(&rest[..cut])), Err(io::Error::from(io::ErrorKind::ConnectionReset))]
                }
            };
            Ok(BlobStream::new(offset, stream::iter(chunks).boxed()))
        }
    }

    fn descriptor(content: &[u8], size: u64) -> Descriptor {
        Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
            digest: Digest::of(content),
            size,
            platform: None,
            urls: None,
            annotations: None,
        }
    }

    async fn read(registry: &Arc<Script>, descriptor: Descriptor) -> (Vec<u8>, Result<(), BlobError>, u64) {
        let told = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&told);
        let reference = Reference::parse("x").unwrap();
        let mut reader = BlobReader::start(Arc::clone(registry), reference, descriptor, move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        // Tokio's paused clock stands still while one of its own threads for blocking work is busy.
        let (sender, received) = oneshot::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let result = reader.read_to_end(&mut bytes);
            let result = result.map(|_| assert_eq!(reader.read(&mut [0]).unwrap(), 0));
            sender.send((bytes, result.map_err(|error| error.downcast().unwrap())))
        });
        let (bytes, result) = received.await.unwrap();
        (bytes, result, told.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn lost_connections_are_resumed_where_they_broke_off() {
        let registry = Script::new(b"0123456789", &[3, 0, 4]);
        let (bytes, result, told) = read(&registry, descriptor(b"0123456789", 10)).await;
        result.unwrap();
        assert_eq!((bytes.as_slice(), told), (&b"0123456789"[..], 10));
        assert_eq!(*registry.offsets.lock().unwrap(), [0, 3, 3, 7]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_gets_on_is_given_up() {
        let registry = Script::new(b"0123456789", &[1; 9]);
        let (_, result, _) = read(&registry, descriptor(b"0123456789", 10)).await;
        assert!(matches!(result, Err(BlobError::Transfer { .. })), "{result:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_blob_has_no_end_of_file() {
        let named = |content: &'static [u8], size| descriptor(content, size);
        let (_, result, _) = read(&Script::new(b"evil", &[]), named(b"good", 4)).await;
        assert!(matches!(result, Err(BlobError::Digest { .. })), "{result:?}");
        let (_, result, _) = read(&Script::new(b"good and more", &[]), named(b"good", 4)).await;
        assert!(matches!(result, Err(BlobError::Size { found: 5, .. })), "{result:?}");
        let (_, result, _) = read(&Script::new(b"good", &[]), named(b"good", 5)).await;
        assert!(matches!(result, Err(BlobError::Size { found: 4, .. })), "{result:?}");
        let (bytes, result, _) = read(&Script::new(b"", &[]), named(b"", 0)).await;
        assert!(result.is_ok() && bytes.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_lost_behind_the_last_byte_has_lost_nothing() {
        let registry = Script::new(b"0123456789", &[10]);
        let (_, result, _) = read(&registry, descriptor(b"0123456789", 10)).await;
        assert!(result.is_ok() && *registry.offsets.lock().unwrap() == [0], "{result:?}");
    }

    #[test]
    fn a_task_that_died_is_no_end_of_file() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let registry = Script::new(b"0123456789", &[]);
        let mut reader = runtime.block_on(async {
            BlobReader::start(registry, Reference::parse("x").unwrap(), descriptor(b"0123456789", 10), |_| {})
        });
        drop(runtime);
        assert!(reader.read(&mut [0; 4]).is_err());
    }

    #[tokio::test]
    async fn dropping_the_reader_ends_the_task() {
        let silent = Script::new(b"", &[usize::MAX]);
        let reference = Reference::parse("x").unwrap();
        let reader = BlobReader::start(Arc::clone(&silent), reference, descriptor(b"", 1 << 40), |_| {});
        while silent.offsets.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(reader);
        tokio::time::timeout(Duration::from_secs(5), async {
            while Arc::strong_count(&silent) > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the task holds the registry no longer");
    }
}
