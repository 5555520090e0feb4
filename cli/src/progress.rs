//! What a pull shows on standard error while it works; standard output stays free for ids.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{escape, short_id, size};

/// Something that happened to a layer. Digests are those of the blob, `sha256:<hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Its blob is being fetched; `size` is what the manifest promises, in bytes.
    LayerStart {
        /// The blob.
        digest: &'a str,
        /// Its length in bytes.
        size: u64,
    },
    /// `n` more bytes of the blob have arrived.
    Bytes {
        /// The blob.
        digest: &'a str,
        /// Bytes since the last event.
        n: u64,
    },
    /// The layer is in the store.
    LayerDone {
        /// The blob.
        digest: &'a str,
    },
    /// The layer was in the store already, so nothing is fetched.
    LayerExists {
        /// The blob.
        digest: &'a str,
    },
    /// Something worth a line of its own, such as a retry.
    Message(&'a str),
}

/// Receives events, from any thread and in any order between layers.
pub trait Events: Send + Sync {
    /// Takes note of `event`. Must not block: the caller is in the middle of a transfer.
    fn event(&self, event: Event<'_>);
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A bar for each layer, redrawn in place.
    Bars,
    /// A line at the start and at the end of each layer: for log files and CI.
    Lines,
    /// Nothing.
    Silent,
}

impl Mode {
    /// The mode for a standard error that can redraw or not (`bars`, see [`crate::env::Environment::bars`]).
    pub fn choose(quiet: bool, bars: bool) -> Self {
        match (quiet, bars) {
            (true, _) => Self::Silent,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }
}

/// The display of `mode` on standard error.
pub fn display(mode: Mode) -> Box<dyn Events> {
    match mode {
        Mode::Bars => Box::new(Bars::new(ProgressDrawTarget::stderr())),
        Mode::Lines => Box::new(Lines::new(std::io::stderr())),
        Mode::Silent => Box::new(Silence),
    }
}

/// Shows nothing.
#[derive(Debug)]
pub struct Silence;

impl Events for Silence {
    fn event(&self, _event: Event<'_>) {}
}

/// A line at the start and at the end of each layer.
#[derive(Debug)]
pub struct Lines<W>(Mutex<W>);

impl<W: Write + Send> Lines<W> {
    /// Writes the lines to `writer`.
    pub fn new(writer: W) -> Self {
        Self(Mutex::new(writer))
    }
}

impl<W: Write + Send> Events for Lines<W> {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::LayerStart {
                digest,
                size: bytes,
            } => {
                format!("layer {}: pulling {}", name(digest), size(bytes))
            }
            Event::LayerDone { digest } => format!("layer {}: done", name(digest)),
            Event::LayerExists { digest } => format!("layer {}: already here", name(digest)),
            Event::Message(message) => escape(message).into_owned(),
            Event::Bytes { .. } => return,
        };
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Progress that cannot be shown is no reason to stop the work.
        let _ = writeln!(writer, "{line}");
    }
}

/// A bar for each layer.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    /// Draws the bars on `target`.
    pub fn new(target: ProgressDrawTarget) -> Self {
        Self {
            all: MultiProgress::with_draw_target(target),
            layers: Mutex::new(HashMap::new()),
        }
    }

    fn add(&self, digest: &str, bytes: u64) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new(bytes));
        bar.set_style(style(
            "{prefix} {wide_bar} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12}",
        ));
        bar.set_prefix(name(digest));
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        // A second attempt at the same blob replaces the bar of the first.
        if let Some(previous) = layers.insert(digest.to_owned(), bar.clone()) {
            previous.finish_and_clear();
        }
        bar
    }

    fn finish(&self, digest: &str, message: &'static str) {
        let known = {
            let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
            layers.get(digest).cloned()
        };
        let bar = known.unwrap_or_else(|| self.add(digest, 0));
        bar.set_style(style("{prefix} {msg}"));
        bar.finish_with_message(message);
    }
}

impl Events for Bars {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::LayerStart { digest, size } => {
                self.add(digest, size);
            }
            Event::Bytes { digest, n } => {
                let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = layers.get(digest) {
                    bar.inc(n);
                }
            }
            Event::LayerDone { digest } => self.finish(digest, "done"),
            Event::LayerExists { digest } => self.finish(digest, "already here"),
            Event::Message(message) => {
                // The bars are redrawn below the line; if the terminal is gone, so is the reader.
                let _ = self.all.println(escape(message));
            }
        }
    }
}

/// A style from a constant template; one with a mistake would show as indicatif's default bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A digest as people compare it; it may come from a hostile registry.
fn name(digest: &str) -> String {
    escape(short_id(digest)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::sync::Arc;

    /// A terminal 80 columns wide that remembers all that was ever written to it.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _lines: usize) -> std::io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _lines: usize) -> std::io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _columns: usize) -> std::io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _columns: usize) -> std::io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const ONE: &str = "sha256:3f4ea1a27c9d8b1e000000000000000000000000000000000000000000000000";
    const TWO: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn pull(events: &dyn Events) {
        events.event(Event::LayerExists { digest: TWO });
        events.event(Event::LayerStart {
            digest: ONE,
            size: 27_100_000,
        });
        events.event(Event::Bytes {
            digest: ONE,
            n: 1_000_000,
        });
        events.event(Event::Message("retrying \u{1b}[2J"));
        events.event(Event::LayerDone { digest: ONE });
    }

    #[test]
    fn a_log_gets_one_line_at_the_start_and_end_of_each_layer() {
        let lines = Lines::new(Vec::new());
        pull(&lines);
        let text = String::from_utf8(lines.0.into_inner().unwrap()).unwrap();
        assert_eq!(
            text,
            "layer 001122334455: already here\n\
             layer 3f4ea1a27c9d: pulling 27.1 MB\n\
             retrying \\x1b[2J\n\
             layer 3f4ea1a27c9d: done\n"
        );
    }

    #[test]
    fn a_terminal_gets_a_bar_for_each_layer() {
        let terminal = Terminal::default();
        let bars = Bars::new(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        pull(&bars);
        let screen = terminal.0.lock().unwrap().clone();
        assert!(screen.contains("retrying \\x1b[2J"), "{screen}");
        assert!(screen.contains("001122334455 already here"), "{screen}");
        assert!(screen.contains("3f4ea1a27c9d done"), "{screen}");
    }

    #[test]
    fn quiet_wins_over_everything_and_pipes_get_lines() {
        assert_eq!(Mode::choose(true, true), Mode::Silent);
        assert_eq!(Mode::choose(true, false), Mode::Silent);
        assert_eq!(Mode::choose(false, true), Mode::Bars);
        assert_eq!(Mode::choose(false, false), Mode::Lines);
    }

    #[test]
    fn bytes_of_an_unknown_layer_are_no_reason_to_stop() {
        let bars = Bars::new(ProgressDrawTarget::hidden());
        bars.event(Event::Bytes { digest: ONE, n: 1 });
        bars.event(Event::LayerDone { digest: ONE });
    }
}
