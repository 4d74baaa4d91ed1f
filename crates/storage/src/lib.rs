//! The server's memory on disk, in ZooKeeper's formats: txn log, snapshots, epoch files, recovery, purge.
//!
//! It moves txns and znodes as bytes and plain values, and does not know what they mean; it knows no thread, no
//! task, no clock, and nobody who asks. All I/O goes through [`Disk`] and blocks.

mod disk;
mod error;
mod layout;
mod log;
mod log_reader;
mod record;

pub use disk::{Disk, DiskFile, EntryKind, OpenMode, RealDisk};
pub use error::StorageError;
pub use layout::{Compression, VERSION_DIR};
pub use log::{Committed, LogSettings, TxnLog};
pub use log_reader::{Cut, LogEnd, LogEntry, LogReader, ReadLimits};
