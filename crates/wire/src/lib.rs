//! ZooKeeper's frozen formats: bytes to values and back. Decoders are total (any bytes give a value or an error)
//! and bounded (no memory is taken for a length that was only claimed, B2). Nothing here knows what a value is for.

mod jute;

pub use jute::{DecodeError, Decoder, Encoder};
