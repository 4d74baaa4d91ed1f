//! The server's memory on disk, in ZooKeeper's formats: txn log, snapshots, epoch files, recovery, purge.
//! [`Storage`] is the way in; the module documentation of `recovery.rs` tells the order of a start.
//!
//! It moves txns as opaque bytes and znodes as plain values, and does not know what they mean; it knows no
//! thread, no task, no clock, and nobody who asks. All I/O goes through [`Disk`] and blocks.

mod change;
#[cfg(test)]
mod change_tests;
mod disk;
mod epochs;
mod error;
mod layout;
mod log;
mod log_range;
#[cfg(test)]
mod log_range_tests;
mod log_reader;
#[cfg(test)]
mod log_reader_tests;
mod purge;
mod record;
mod recovery;
#[cfg(test)]
mod recovery_tests;
mod sim_disk;
mod snapshot;
mod trigger;

pub use change::{HistoryId, Truncated};
pub use disk::{Disk, DiskFile, EntryKind, OpenMode, RealDisk};
pub use epochs::{EpochFile, Epochs, read_myid};
pub use error::StorageError;
pub use layout::{Compression, VERSION_DIR};
pub use log::{Committed, LogSettings, TxnLog};
pub use log_reader::{Cut, LogEnd, LogEntry, LogReader, ReadLimits};
pub use purge::{Purged, SNAPSHOTS_RETAINED_MIN};
pub use recovery::{Loaded, Origin, Storage, StorageSettings};
pub use sim_disk::SimDisk;
pub use snapshot::{SetAside, SnapshotFile, SnapshotSink, SnapshotTail, SnapshotWriter, read_snapshot};
pub use trigger::SnapshotTrigger;
