//! What can go wrong with the files, sorted by who must act.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a storage operation failed. All of these stop the server; the text says what is wrong, where, and what
/// the operator can do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused an operation (disk full, no permission, failed sync …).
    #[error("cannot {action} {}: {cause}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was attempted, as in "cannot `sync` …".
        action: &'static str,
        /// The reason the system gave.
        cause: Arc<io::Error>,
    },
    /// A file holds what no server can have written and a crash cannot explain.
    #[error("{} is damaged at offset {offset}: {what}. {remedy}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in the file, in bytes. In compressed snapshots it counts uncompressed bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// What the operator can do.
        remedy: String,
    },
    /// A data directory cannot be used as it is; ZooKeeper ends with its own exit code for these.
    #[error("the directory {} cannot be used: {what}. {remedy}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What the operator can do.
        remedy: String,
    },
    /// Each file may be sound, but together they do not make a state to start from.
    #[error("{}: {what}. {remedy}", place.display())]
    Refused {
        /// The file or directory it is about.
        place: PathBuf,
        /// What is wrong.
        what: String,
        /// What the operator can do.
        remedy: String,
    },
}

impl StorageError {
    /// The exit code ZooKeeper's server ends with on such an error at start (storage spec, sections 1 and 10).
    pub fn exit_code(&self) -> i32 {
        match self {
            StorageError::Directory { .. } => 3,
            StorageError::Io { .. } | StorageError::Corrupt { .. } | StorageError::Refused { .. } => 1,
        }
    }

    /// For `map_err`: turns the reason of the system into an error about `file`.
    pub(crate) fn io(file: &Path, action: &'static str) -> impl FnOnce(io::Error) -> StorageError {
        let file = file.to_owned();
        move |cause| StorageError::Io {
            file,
            action,
            cause: Arc::new(cause),
        }
    }
}
