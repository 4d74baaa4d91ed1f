//! The files in which a member keeps the configuration of its ensemble, beside `zoo.cfg` (operations spec, 4):
//!
//! ```text
//!  zoo.cfg                       dynamicConfigFile=… names the committed configuration
//!  zoo.cfg.dynamic.<version>     the committed configuration, and those before it
//!  zoo.cfg.dynamic.next          one that is proposed, with its version
//!  zoo.cfg.bak                   zoo.cfg as it was when it still listed the servers itself
//! ```
//!
//! Java's servers read and write the same. Comments of `zoo.cfg` and the order of its lines stay, which Java's do not
//! keep.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxkeeper_core::membership::{Membership, configuration_text};
use oxkeeper_storage::StorageError;
use oxkeeper_types::ServerId;
use oxkeeper_zab::Configuration;

use crate::config::properties;

/// What the file of a proposed configuration is called, after the name of `zoo.cfg`.
pub(crate) const NEXT_SUFFIX: &str = ".dynamic.next";

/// The configuration files of one member.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFiles {
    /// `zoo.cfg`.
    file: PathBuf,
    me: ServerId,
}

impl ConfigFiles {
    pub(crate) fn new(file: PathBuf, me: ServerId) -> ConfigFiles {
        ConfigFiles { file, me }
    }

    /// Keeps `zoo.cfg` as it is, before its list of servers goes to a file of its own.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn back_up(&self) -> Result<(), StorageError> {
        let backup = self.beside(".bak");
        let copied = fs::read(&self.file).and_then(|bytes| replace(&backup, &bytes));
        copied.map_err(|cause| failed(&backup, "write", cause))
    }

    /// Saves what is to follow the committed configuration, or that nothing is.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn save_next(&self, next: Option<&Configuration>) -> Result<(), StorageError> {
        let file = self.beside(NEXT_SUFFIX);
        match next {
            Some(next) => {
                let text = sorted_lines(&configuration_text(next));
                replace(&file, text.as_bytes()).map_err(|cause| failed(&file, "write", cause))
            }
            None => remove(&file),
        }
    }

    /// Saves the committed configuration and makes `zoo.cfg` name it.
    ///
    /// # Errors
    /// The directory cannot be written, or `zoo.cfg` is no more what it was.
    pub(crate) fn save(&self, committed: &Configuration) -> Result<(), StorageError> {
        let dynamic = self.beside(&format!(".dynamic.{:x}", committed.version));
        replace(&dynamic, sorted_lines(&committed.list).as_bytes())
            .map_err(|cause| failed(&dynamic, "write", cause))?;
        let named = dynamic
            .canonicalize()
            .map_err(|cause| failed(&dynamic, "find", cause))?;
        let has_client_part = Membership::parse(&committed.list)
            .is_ok_and(|list| list.servers.get(&self.me).is_some_and(|own| own.client.is_some()));
        let edited = fs::read(&self.file).and_then(|bytes| {
            let edited = edit(&bytes, &named, has_client_part)?;
            replace(&self.file, &edited)
        });
        edited.map_err(|cause| failed(&self.file, "rewrite", cause))?;
        let next = self.beside(NEXT_SUFFIX);
        let is_over = match fs::read_to_string(&next) {
            Ok(text) => Membership::parse(&text).is_ok_and(|next| next.version <= committed.version),
            Err(_) => false,
        };
        if is_over { remove(&next) } else { Ok(()) }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

fn failed(file: &Path, action: &'static str, cause: io::Error) -> StorageError {
    StorageError::Io {
        file: file.to_owned(),
        action,
        cause: Arc::new(cause),
    }
}

fn remove(file: &Path) -> Result<(), StorageError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(file, "remove", error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Puts a whole file in the place of another, durably: after a crash it is the one or the other.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = file.to_owned().into_os_string();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut written = File::create(&temporary)?;
    written.write_all(bytes)?;
    written.sync_all()?;
    fs::rename(&temporary, file)?;
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// The lines in the order in which Java writes them, without an end after the last.
fn sorted_lines(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// `zoo.cfg` without what the dynamic file says, and with its name.
fn edit(bytes: &[u8], dynamic: &Path, has_client_part: bool) -> io::Result<Vec<u8>> {
    let raw = properties::parse(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let goes = |key: &str| {
        let stems = ["server.", "group", "weight", "dynamicConfigFile", "peerType"];
        stems.iter().any(|stem| key.starts_with(stem)) || has_client_part && key.starts_with("clientPort")
    };
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let mut keep = vec![true; lines.len()];
    for entry in raw.entries.iter().filter(|entry| goes(&entry.key)) {
        // Lines are counted from 1; an entry goes on while its lines end with an odd number of backslashes.
        let first = usize::try_from(entry.line)
            .unwrap_or(usize::MAX)
            .saturating_sub(1);
        for at in first..lines.len() {
            keep[at] = false;
            let text = lines[at].trim_ascii_end();
            if text
                .iter()
                .rev()
                .take_while(|byte| **byte == b'\\')
                .count()
                .is_multiple_of(2)
            {
                break;
            }
        }
    }
    let mut edited: Vec<u8> = lines
        .iter()
        .zip(&keep)
        .filter(|(_, keep)| **keep)
        .flat_map(|(line, _)| *line)
        .copied()
        .collect();
    if edited.last().is_some_and(|byte| *byte != b'\n') {
        edited.push(b'\n');
    }
    let named = escaped(&dynamic.to_string_lossy());
    edited.extend_from_slice(format!("dynamicConfigFile={named}\n").as_bytes());
    Ok(edited)
}

/// A value as Java's properties take it.
fn escaped(value: &str) -> String {
    let mut escaped = String::new();
    for (at, unit) in value.encode_utf16().enumerate() {
        match char::from_u32(unit.into()) {
            Some('\\') => escaped.push_str("\\\\"),
            Some(' ') if at == 0 => escaped.push_str("\\ "),
            Some(plain @ ' '..='~') => escaped.push(plain),
            _ => escaped.push_str(&format!("\\u{unit:04x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use oxkeeper_core::membership::read_configuration;

    use super::*;
    use crate::config::load_file;

    fn configuration(text: &str) -> Configuration {
        read_configuration(text.as_bytes()).unwrap().unwrap()
    }

    const ZOO_CFG: &str = "# ours\ntickTime=1000\ninitLimit=10\nsyncLimit=5\nclientPort=2181\nreconfigEnabled=true\n\
                           server.1=a:1:2\nserver.2=b:1:\\\n  2\nserver.3=c:1:2\npeerType=participant\n";

    #[test]
    fn a_committed_configuration_is_what_the_next_start_reads() {
        let home = tempfile::Builder::new().prefix("a b\\é ").tempdir().unwrap();
        let file = home.path().join("zoo.cfg");
        let data = home.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("myid"), "2").unwrap();
        let data = escaped(data.to_str().unwrap());
        fs::write(&file, format!("{ZOO_CFG}dataDir={data}\n")).unwrap();
        let files = ConfigFiles::new(file.clone(), ServerId(2));
        files.back_up().unwrap();
        let next = configuration(
            "server.1=a:1:2:participant;9\nserver.2=b:1:2:participant;7\nserver.4=d:1:2:observer;9\nversion=100000005",
        );
        files.save_next(Some(&next)).unwrap();
        let load = || load_file(file.to_str().unwrap()).unwrap().config;
        let ensemble = load().ensemble.unwrap();
        assert_eq!(ensemble.zab_settings().next_configuration.as_deref(), Some(&next));
        assert_eq!(ensemble.zab_settings().configuration.version, 0);
        files.save(&next).unwrap();
        let after = load();
        let ensemble = after.ensemble.unwrap();
        assert_eq!(*ensemble.zab_settings().configuration, next);
        assert_eq!(ensemble.zab_settings().next_configuration, None);
        assert_eq!(
            after.client.port, 7,
            "that of the list, which has taken the place of clientPort"
        );
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# ours\ntickTime=1000\n"), "{text}");
        assert!(
            !text.contains("server.") && !text.contains("peerType") && !text.contains("  2\n"),
            "{text}"
        );
        let names = |suffix: &str| home.path().join(format!("zoo.cfg{suffix}"));
        assert!(!names(NEXT_SUFFIX).exists(), "it is committed");
        assert!(names(".bak").exists() && !names(".tmp").exists());
        let written = fs::read_to_string(names(".dynamic.100000005")).unwrap();
        assert_eq!(
            written,
            "server.1=a:1:2:participant;0.0.0.0:9\nserver.2=b:1:2:participant;0.0.0.0:7\nserver.4=d:1:2:observer;0.0.0.0:9"
        );
    }

    #[test]
    fn what_is_proposed_outlives_an_older_configuration_and_can_be_taken_back() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("zoo.cfg");
        fs::write(&file, ZOO_CFG).unwrap();
        let files = ConfigFiles::new(file, ServerId(1));
        let next = home.path().join("zoo.cfg.dynamic.next");
        files
            .save_next(Some(&configuration("server.1=a:1:2\nversion=5")))
            .unwrap();
        files.save(&configuration("server.1=a:1:2\nversion=4")).unwrap();
        assert!(fs::read_to_string(&next).unwrap().ends_with("version=5"));
        files.save_next(None).unwrap();
        assert!(!next.exists());
        files.save_next(None).unwrap();
        let unwritable = ConfigFiles::new(home.path().join("missing/zoo.cfg"), ServerId(1));
        assert!(
            unwritable
                .save_next(Some(&configuration("server.1=a:1:2\nversion=5")))
                .is_err()
        );
    }
}
