//! What a pull tells while it runs.

use crate::digest::Digest;

/// Something that happened, for a progress display. The library itself never prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The manifest of the image is known.
    Resolved {
        /// Its digest.
        manifest: Digest,
    },
    /// A layer is here already.
    LayerExists {
        /// Digest of its blob.
        blob: Digest,
    },
    /// Another process fetches this layer; we wait for it.
    LayerWaits {
        /// Digest of its blob.
        blob: Digest,
    },
    /// A layer begins to arrive.
    LayerStarts {
        /// Digest of its blob.
        blob: Digest,
        /// Bytes of the blob.
        size: u64,
    },
    /// More of a layer has arrived.
    LayerProgress {
        /// Digest of its blob.
        blob: Digest,
        /// How many bytes more.
        bytes: u64,
    },
    /// A layer is verified and in the store.
    LayerDone {
        /// Digest of its blob.
        blob: Digest,
        /// File contents that it brought.
        new: u64,
    },
    /// The checkout is being made.
    CheckoutStarts,
    /// All is done.
    Done,
}

/// Takes events, from several threads.
pub trait Events: Send + Sync {
    /// Called for each event, in the order of one layer's, between layers in any.
    fn event(&self, event: Event);
}

/// Takes events and does nothing with them.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Events for Silent {
    fn event(&self, _: Event) {}
}
