//! Rootless OCI image store: every distinct file content once, in a pool named by hash, materialised without FUSE and
//! without root.
//!
//! ```text
//! reference → registry → manifest → blob → layer ─┬→ pool
//!                                                 └→ record → tree → checkout (by one of four placements)
//! ```
//!
//! Modules in the order of that flow; start reading at [`pull`].

pub mod error;
pub mod events;

pub mod blob;
pub mod checkout;
pub mod digest;
pub mod index;
pub mod layer;
pub mod manifest;
pub mod pool;
pub mod reference;
pub mod registry;
pub mod tree;

mod append;
mod ballast;
mod connection;
mod foreign;
mod freeze;
mod fsck;
mod gc;
mod image;
mod import;
mod ingest;
mod lease;
mod marker;
mod materialise;
mod names;
mod numbers;
mod root;
mod session;
mod settle;
mod start;
mod store;
mod sys;
mod thaw;
mod usage;

pub mod export;
pub mod pull;

pub use append::Append;
pub use ballast::give_up_ballast;
pub use checkout::{IdShift, Lost, Placement, SetId, Support};
pub use digest::Digest;
pub use error::{Error, Result};
pub use events::{Event, Events, Silent};
pub use fsck::{Damage, FsckReport, Incomplete};
pub use gc::{Collected, Collection};
pub use image::{Image, Removed};
pub use import::ImportConfig;
pub use index::Durability;
pub use layer::limits::Limits;
pub use lease::Checkout;
pub use manifest::Platform;
pub use pull::{PullOptions, Pulled};
pub use reference::Reference;
pub use root::{Root, RootsLock, release_root};
pub use start::Start;
pub use store::{Store, remove_tree};
pub use usage::{ImageUsage, Usage};
