//! A tree made real on disk, so that one overlay mount, or a copy, gives a container its root.

mod crew;
mod deep;
pub mod lost;
mod metadata;
pub mod node;
pub mod placement;
pub mod probe;
mod regular;
pub(crate) mod set_id;
pub mod shift;
mod verify;
mod writer;

pub use lost::Lost;
pub use metadata::{Owners, Unmapped};
pub use placement::Placement;
pub use probe::Support;
pub use set_id::SetId;
pub use shift::IdShift;
pub use verify::Verifier;
pub use writer::Writer;

/// Redirect of a stub: where in the data-only layer its content is (kernel documentation, `overlayfs.rst`).
pub const REDIRECT: &str = "user.overlay.redirect";
/// Mark of a stub: its metadata is here, its content elsewhere; empty value.
pub const METACOPY: &str = "user.overlay.metacopy";
