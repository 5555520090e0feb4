//! How slowly bytes may come. A source that sends one now and then is never silent, and would hold a pull for ever.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout};

/// The rate below which a source is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinimumRate {
    /// Bytes in a second, on average over the window.
    pub bytes: u64,
    /// For how long a source may be slower. Only time in which bytes are waited for counts.
    pub window: Duration,
}

impl Default for MinimumRate {
    /// 1,000 bytes a second over a minute: less than any network that anybody would pull over.
    fn default() -> Self {
        Self { bytes: 1000, window: Duration::from_mins(1) }
    }
}

/// A source that is too slow.
#[derive(Debug, thiserror::Error)]
#[error(
    "fewer than {} bytes a second came for {} s; `--min-rate` can allow less",
    .0.bytes,
    .0.window.as_secs_f64()
)]
struct TooSlow(MinimumRate);

/// What came in the window so far.
#[derive(Default)]
struct Window {
    waited: Duration,
    bytes: u64,
}

/// The bytes of a body, with an error in place of the next ones where they come too slowly.
pub(super) fn paced<E: std::error::Error + 'static>(
    body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    rate: Option<MinimumRate>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let state = Some((Box::pin(body), Window::default()));
    let paced = stream::unfold(state, move |state| async move {
        let (mut body, mut window) = state?;
        match window.next(&mut body, rate).await? {
            Ok(chunk) => Some((Ok(chunk), Some((body, window)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    paced.boxed()
}

impl Window {
    async fn next<E: std::error::Error + 'static>(
        &mut self,
        body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
        rate: Option<MinimumRate>,
    ) -> Option<io::Result<Bytes>> {
        let told = |chunk: Result<Bytes, E>| chunk.map_err(|error| io::Error::other(super::innermost(&error)));
        let Some(rate) = rate else { return body.next().await.map(told) };
        loop {
            let began = Instant::now();
            // To be cut short loses no bytes: they stay in the body.
            let chunk = timeout(rate.window.saturating_sub(self.waited), body.next()).await;
            self.waited += began.elapsed();
            match &chunk {
                Ok(Some(Ok(chunk))) => self.bytes += chunk.len() as u64,
                Ok(_) => return chunk.ok().flatten().map(told),
                Err(_) => {}
            }
            if self.waited >= rate.window {
                let bytes = u128::from(self.bytes) * 1000;
                if bytes < u128::from(rate.bytes) * self.waited.as_millis() {
                    return Some(Err(io::Error::other(TooSlow(rate))));
                }
                *self = Self::default();
            }
            if let Ok(chunk) = chunk {
                return chunk.map(told);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives so many bytes at the end of each pause, `times` times.
    fn source(bytes: usize, pause: Duration, times: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::iter(0..times).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from(vec![0; bytes]))
        })
    }

    async fn read(
        source: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        rate: Option<MinimumRate>,
        rest: Duration,
    ) -> Result<usize, String> {
        let mut paced = paced(source, rate);
        let mut count = 0;
        while let Some(chunk) = paced.next().await {
            count += chunk.map_err(|error| error.to_string())?.len();
            tokio::time::sleep(rest).await;
        }
        Ok(count)
    }

    #[tokio::test(start_paused = true)]
    async fn slow_sources_are_given_up_and_slow_readers_are_not() {
        let usual = Some(MinimumRate::default());
        let (second, none) = (Duration::from_secs(1), Duration::ZERO);
        let began = Instant::now();
        let slow = read(source(1, second, 10_000), usual, none).await.unwrap_err();
        assert!(slow.contains("fewer than 1000 bytes a second came for 60 s"), "{slow}");
        assert_eq!(began.elapsed(), second * 60);
        // A burst does not pay for what follows it.
        let burst = stream::iter([Ok(Bytes::from(vec![0; 1 << 20]))]).chain(source(1, second, 10_000));
        let began = Instant::now();
        assert!(read(burst, usual, none).await.is_err());
        assert!(began.elapsed() <= second * 121);
        assert_eq!(read(source(1000, second, 200), usual, none).await, Ok(200_000));
        assert_eq!(read(source(1, second, 50), usual, none).await, Ok(50));
        assert_eq!(read(source(1, second, 100), None, none).await, Ok(100));
        assert_eq!(read(source(100_000, second, 10), usual, second * 600).await, Ok(1_000_000));
        assert!(read(stream::pending(), usual, none).await.is_err());
    }
}
