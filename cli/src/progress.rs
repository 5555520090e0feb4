//! What a pull shows on standard error while it works; standard output stays free for ids.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use lstore::{Digest, Event, Events};

use crate::output::{short_id, size};

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

/// The display of a pull.
#[derive(Debug)]
pub enum Progress {
    /// See [`Mode::Bars`].
    Bars(Bars),
    /// See [`Mode::Lines`].
    Lines(Lines<std::io::Stderr>),
    /// See [`Mode::Silent`].
    Silent,
}

impl Progress {
    /// The display of `mode` on standard error.
    pub fn new(mode: Mode) -> Self {
        match mode {
            Mode::Bars => Self::Bars(Bars::new(ProgressDrawTarget::stderr())),
            Mode::Lines => Self::Lines(Lines::new(std::io::stderr())),
            Mode::Silent => Self::Silent,
        }
    }
}

impl Events for Progress {
    fn event(&self, event: Event) {
        match self {
            Self::Bars(bars) => bars.event(event),
            Self::Lines(lines) => lines.event(event),
            Self::Silent => {}
        }
    }
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
    fn event(&self, event: Event) {
        let line = match event {
            Event::LayerStarts { blob, size: bytes } => format!("layer {}: pulling {}", name(&blob), size(bytes)),
            Event::LayerDone { blob, new } => format!("layer {}: done, {new} new contents", name(&blob)),
            Event::LayerExists { blob } => format!("layer {}: already here", name(&blob)),
            Event::CheckoutStarts => "making the checkout".to_owned(),
            Event::Resolved { .. } | Event::LayerWaits { .. } | Event::LayerProgress { .. } | Event::Done => return,
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
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    /// Draws the bars on `target`.
    pub fn new(target: ProgressDrawTarget) -> Self {
        Self { all: MultiProgress::with_draw_target(target), layers: Mutex::new(HashMap::new()) }
    }

    fn add(&self, digest: &Digest, bytes: u64) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new(bytes));
        bar.set_style(style("{prefix} {wide_bar} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12}"));
        bar.set_prefix(name(digest));
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        // A second attempt at the same blob replaces the bar of the first.
        if let Some(previous) = layers.insert(*digest, bar.clone()) {
            previous.finish_and_clear();
        }
        bar
    }

    fn finish(&self, digest: &Digest, message: &'static str) {
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
    fn event(&self, event: Event) {
        match event {
            Event::LayerStarts { blob, size } => {
                self.add(&blob, size);
            }
            Event::LayerWaits { blob } => {
                self.add(&blob, 0).set_message("waiting");
            }
            Event::LayerProgress { blob, bytes } => {
                let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = layers.get(&blob) {
                    bar.inc(bytes);
                }
            }
            Event::LayerDone { blob, .. } => self.finish(&blob, "done"),
            Event::LayerExists { blob } => self.finish(&blob, "already here"),
            Event::Resolved { .. } | Event::CheckoutStarts | Event::Done => {}
        }
    }
}

/// A style from a constant template; one with a mistake would show as indicatif's default bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A digest as people compare it.
fn name(digest: &Digest) -> String {
    short_id(&digest.to_string()).to_owned()
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

    fn digests() -> (Digest, Digest) {
        (Digest::of(b"one"), Digest::of(b"two"))
    }

    fn pull(events: &dyn Events) {
        let (one, two) = digests();
        events.event(Event::LayerExists { blob: two });
        events.event(Event::LayerStarts { blob: one, size: 27_100_000 });
        events.event(Event::LayerProgress { blob: one, bytes: 1_000_000 });
        events.event(Event::LayerDone { blob: one, new: 12 });
    }

    #[test]
    fn a_log_gets_one_line_at_the_start_and_end_of_each_layer() {
        let lines = Lines::new(Vec::new());
        pull(&lines);
        let text = String::from_utf8(lines.0.into_inner().unwrap()).unwrap();
        let (one, two) = digests();
        let expected = format!(
            "layer {}: already here\nlayer {}: pulling 27.1 MB\nlayer {}: done, 12 new contents\n",
            name(&two),
            name(&one),
            name(&one)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_terminal_gets_a_bar_for_each_layer() {
        let terminal = Terminal::default();
        let bars = Bars::new(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        pull(&bars);
        let screen = terminal.0.lock().unwrap().clone();
        let (one, two) = digests();
        assert!(screen.contains(&format!("{} already here", name(&two))), "{screen}");
        assert!(screen.contains(&format!("{} done", name(&one))), "{screen}");
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
        let (one, _) = digests();
        bars.event(Event::LayerProgress { blob: one, bytes: 1 });
        bars.event(Event::LayerDone { blob: one, new: 0 });
    }
}
