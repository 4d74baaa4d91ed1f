//! Configuration: from `zoo.cfg`, or from arguments, to a checked [`ServerConfig`].
//!
//! Two steps. [`properties`] knows the syntax and no key; the table knows every key and what this server does with
//! it. Nothing is global: the result travels by value. What the operator should know although the server starts is
//! returned as [`Notice`]s; why it must not start as an [`InvalidConfig`] that names file, line and remedy.
//! `docs/configuration.md` lists every key.

mod ensemble;
#[cfg(test)]
mod ensemble_tests;
mod membership;
pub mod properties;
mod report;
mod resolve;
mod settings;
mod table;
#[cfg(test)]
mod tests;

pub use ensemble::{EnsembleConfig, Groups, Member, PeerAddress};
pub use oxkeeper_zab::QuorumVerifier;
pub use report::{ConfigError, InvalidConfig, Location, Notice, NoticeLevel};
pub use resolve::LoadedConfig;
pub use settings::{
    AuthConfig, ClientPortConfig, ConnectionThrottleConfig, DigestAlgorithm, EnsembleAuth, FOUR_LETTER_WORDS,
    FourLetterConfig, LimitsConfig, RequestThrottleConfig, Secret, ServerConfig, SessionConfig,
    SnapshotCompression, StorageConfig, ZnodeConfig,
};

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The longest configuration file that is read, in bytes. A longer one is refused.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads and checks the file at `path`, as `zkServer.sh start path` does.
///
/// # Errors
///
/// Everything that is wrong with it; the process should exit with code 2.
pub fn load_file(path: &str) -> Result<LoadedConfig, InvalidConfig> {
    let (file, raw) = resolve::read_properties(path, &read_file)?;
    resolve::resolve(&file, &raw, &read_file)
}

/// Checks `port datadir [ticktime] [maxcnxns]`, ZooKeeper's form without a file. In this form connections per
/// address are not limited unless `maxcnxns` says so.
///
/// # Errors
///
/// A wrong number of arguments, or one that means nothing; the process should exit with code 2.
pub fn load_arguments(arguments: &[String]) -> Result<LoadedConfig, InvalidConfig> {
    let keys = ["clientPort", "dataDir", "tickTime", "maxClientCnxns"];
    let at = Location::whole("arguments");
    if !(2..=keys.len()).contains(&arguments.len()) {
        let problem = format!("there are {} arguments", arguments.len());
        return Err(ConfigError::new(&at, problem, "write: port datadir [ticktime] [maxcnxns]").into());
    }
    let entry = |line, key: &str, value: &str| properties::RawEntry {
        key: key.into(),
        value: value.into(),
        line,
    };
    // Messages give an argument's position where they would give a line.
    let given = (1..)
        .zip(keys.into_iter().zip(arguments))
        .map(|(position, (key, value))| entry(position, key, value));
    let unlimited = (arguments.len() < keys.len()).then(|| entry(4, "maxClientCnxns", "0"));
    let raw = properties::RawConfig {
        entries: given.chain(unlimited).collect(),
    };
    resolve::resolve(&at.file, &raw, &read_file)
}

/// The bytes of a file of at most [`CONFIG_FILE_BYTES_MAX`], `None` when it does not exist.
fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > CONFIG_FILE_BYTES_MAX) {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 1 MiB",
        ));
    }
    Ok(Some(bytes))
}
