//! What servers must answer, worked out anew: nothing here comes from the code that is tested. The simulations of one
//! server (`core`) and of ensembles (`sim`) share it.
//!
//! - [`State`] is the tree as it should be after each txn: requests done one after the other on a map of paths.
//! - [`History`] is all that was sent and all that was committed; it checks that every txn is what should have come of
//!   the request it names, and that no request was done twice.
//! - [`Observer`] follows what one connection receives and knows exactly what must come: which events, before which
//!   reply, and every byte of each answer (S1 to S4, W1 to W3).
//! - [`client`] and [`requests`] make what clients send.
//!
//! A violation panics with what was seen.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]
#![allow(
    missing_docs,
    reason = "the names of requests and states say it; for tests alone"
)]

pub mod client;
mod history;
mod observer;
pub mod requests;
mod state;

pub use client::{Frame, split_frames};
pub use history::{Committed, History};
pub use observer::{Observer, Watches};
pub use requests::Ask;
pub use state::{At, Change, Done, Node, State};
