//! What a server promises, one script for each promise. The names of invariants are those of ARCHITECTURE.md; the
//! rest is sections 2, 3, 7, 8, 9, 12, 14 and 17 of the description of the client protocol.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

#[path = "../driver/mod.rs"]
mod driver;

mod gates;
mod limits;
mod order;
mod reaper;
mod restarts;
mod sessions;
mod watches;
