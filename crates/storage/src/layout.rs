//! The names of the files and their places (storage spec, section 1).
//!
//! Only names of exactly the documented shape are ours. Java also takes `snapshot.5.tmp` for a snapshot and
//! `log.5.bak` for a log; here such leftovers and copies are ignored, and never written.

use oxkeeper_types::Zxid;

use crate::change::HistoryId;

/// The directory of snapshots, logs and epochs, below `dataDir` and `dataLogDir`.
pub const VERSION_DIR: &str = "version-2";

/// How a snapshot is compressed; its file's name tells (storage spec, section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One gzip member, `.gz`.
    Gzip,
    /// The stream format of snappy-java, `.snappy`.
    Snappy,
}

impl Compression {
    /// The meaning of the setting `snapshot.compression.method`; an unknown one means none.
    pub fn from_setting(text: &str) -> Compression {
        if text.eq_ignore_ascii_case("gz") {
            Compression::Gzip
        } else if text.eq_ignore_ascii_case("snappy") {
            Compression::Snappy
        } else {
            Compression::None
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Snappy => ".snappy",
        }
    }
}

/// What snapshots are called while they are written: a name that neither Java nor we take for a snapshot.
pub(crate) const UNFINISHED_PREFIX: &str = "unfinished.snapshot.";

/// What the log of a history that is about to be installed is called.
pub(crate) const UNFINISHED_LOG: &str = "unfinished.log";

/// The path of the log file whose first txn is `zxid`.
pub(crate) fn log_path(zxid: Zxid) -> String {
    format!("{VERSION_DIR}/log.{zxid:x}")
}

/// The path of the snapshot taken at `zxid`.
pub(crate) fn snapshot_path(zxid: Zxid, compression: Compression) -> String {
    format!("{VERSION_DIR}/snapshot.{zxid:x}{}", compression.extension())
}

/// The path of that snapshot while it is written.
pub(crate) fn unfinished_path(zxid: Zxid, compression: Compression) -> String {
    format!(
        "{VERSION_DIR}/{UNFINISHED_PREFIX}{zxid:x}{}",
        compression.extension()
    )
}

/// The path of the snapshot from another server with which `history` may begin.
pub(crate) fn set_aside_path(history: HistoryId, compression: Compression) -> String {
    format!(
        "{VERSION_DIR}/{UNFINISHED_PREFIX}received.{}{}",
        history.0,
        compression.extension()
    )
}

/// The path of `name` in the version directory.
pub(crate) fn in_version_dir(name: &str) -> String {
    format!("{VERSION_DIR}/{name}")
}

fn parse_zxid(hex: &str) -> Option<Zxid> {
    if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(hex, 16).ok().map(Zxid)
}

/// The zxid of a log file's name.
pub(crate) fn parse_log_name(name: &str) -> Option<Zxid> {
    parse_zxid(name.strip_prefix("log.")?)
}

/// Zxid and compression of a snapshot's name.
pub(crate) fn parse_snapshot_name(name: &str) -> Option<(Zxid, Compression)> {
    let rest = name.strip_prefix("snapshot.")?;
    let (hex, compression) = match rest.split_once('.') {
        None => (rest, Compression::None),
        Some((hex, "gz")) => (hex, Compression::Gzip),
        Some((hex, "snappy")) => (hex, Compression::Snappy),
        Some(_) => return None,
    };
    Some((parse_zxid(hex)?, compression))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_java_s_and_nothing_else_is_ours() {
        let zxid = Zxid::new(1, 0xab);
        assert_eq!(log_path(zxid), "version-2/log.1000000ab");
        assert_eq!(parse_log_name("log.1000000ab"), Some(zxid));
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
            let path = snapshot_path(zxid, compression);
            assert_eq!(
                parse_snapshot_name(path.strip_prefix("version-2/").unwrap()),
                Some((zxid, compression))
            );
            let unfinished = unfinished_path(zxid, compression);
            assert_eq!(
                parse_snapshot_name(unfinished.strip_prefix("version-2/").unwrap()),
                None
            );
        }
        for name in [
            "log",
            "log.",
            "log.x",
            "log.5.bak",
            "log.-5",
            "log.+5",
            "log.ffffffffffffffff",
            "logs.5",
        ] {
            assert_eq!(parse_log_name(name), None, "{name}");
        }
        for name in [
            "snapshot.",
            "snapshot.5.tmp",
            "snapshot.5.gz.tmp",
            "snapshot.ffffffffffffffff",
        ] {
            assert_eq!(parse_snapshot_name(name), None, "{name}");
        }
    }

    #[test]
    fn compression_setting_ignores_case_and_unknown_means_none() {
        assert_eq!(Compression::from_setting("GZ"), Compression::Gzip);
        assert_eq!(Compression::from_setting("Snappy"), Compression::Snappy);
        assert_eq!(Compression::from_setting(""), Compression::None);
        assert_eq!(Compression::from_setting("zstd"), Compression::None);
    }
}
