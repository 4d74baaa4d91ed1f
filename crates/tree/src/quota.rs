//! Quotas: limits on the number of znodes and bytes below a path (client spec, section 10).
//!
//! The limits of `/x` are the text of `/zookeeper/quota/x/zookeeper_limits`, its usage that of
//! `/zookeeper/quota/x/zookeeper_stats`. Usage changes with every txn below `/x`, without versions, events or txns
//! of its own.

use std::collections::BTreeMap;
use std::fmt;

use hashbrown::HashSet;
use oxkeeper_types::{ErrorCode, QUOTA_PATH};

use crate::tree::Tree;

/// The name of znodes with limits.
pub(crate) const LIMITS_NAME: &str = "zookeeper_limits";
/// The name of znodes with usage.
pub(crate) const STATS_NAME: &str = "zookeeper_stats";

/// The paths that have limits.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    paths: HashSet<Box<str>, foldhash::quality::FixedState>,
}

/// The path that the znodes below `parent`, which is in the quota subtree, are about; empty for the root.
pub(crate) fn quota_target(parent: &str) -> Option<&str> {
    parent
        .strip_prefix(QUOTA_PATH)
        .filter(|target| target.is_empty() || target.starts_with('/'))
}

fn limits_path(target: &str) -> String {
    format!("{QUOTA_PATH}{target}/{LIMITS_NAME}")
}

fn stats_path(target: &str) -> String {
    format!("{QUOTA_PATH}{target}/{STATS_NAME}")
}

impl Quotas {
    /// The nearest of `path` and its ancestors, without the root, that has limits.
    fn nearest<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.paths.is_empty() {
            return None;
        }
        let mut at = path;
        while !at.is_empty() {
            if self.paths.contains(at) {
                return Some(at);
            }
            at = &at[..at.rfind('/')?];
        }
        None
    }
}

/// The text of limits and of usage: numbers by name, -1 for those that are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QuotaText(BTreeMap<String, i64>);

impl QuotaText {
    /// Reads the text as Java's server does; `None` for what it cannot read.
    pub(crate) fn parse(text: Option<&[u8]>) -> Option<QuotaText> {
        let text = String::from_utf8_lossy(text?);
        let mut values = BTreeMap::new();
        let pairs = text.trim_end_matches([',', ';']);
        if pairs.is_empty() {
            return Some(QuotaText(values));
        }
        for (at, pair) in pairs.split([',', ';']).enumerate() {
            // A run of separators is one, but text must not begin with one.
            if pair.is_empty() && at > 0 {
                continue;
            }
            let mut parts = pair.trim_end_matches('=').split('=');
            let (name, value) = (parts.next()?, parts.next()?);
            let value = if value.is_empty() { -1 } else { value.parse().ok()? };
            values.insert(name.to_owned(), value);
        }
        Some(QuotaText(values))
    }

    fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(-1)
    }

    fn add(&mut self, name: &str, difference: i64) {
        let sum = self.get(name).wrapping_add(difference);
        self.0.insert(name.to_owned(), sum);
    }

    fn of_usage(count: i64, bytes: i64) -> QuotaText {
        QuotaText(BTreeMap::from([
            ("count".to_owned(), count),
            ("bytes".to_owned(), bytes),
        ]))
    }
}

impl fmt::Display for QuotaText {
    /// `count` and `bytes` first; the stray `=` after them keeps parsers of old releases from the names they do
    /// not know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.get("count"), self.get("bytes"))?;
        let mut others = self
            .0
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "count" | "bytes"))
            .peekable();
        if others.peek().is_some() {
            f.write_str("=")?;
        }
        others.try_for_each(|(name, value)| write!(f, ";{name}={value}"))
    }
}

/// A limit that a request would have exceeded: a hard one refused it, a soft one only says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// The path that has the limit.
    pub path: String,
    /// `count` (znodes) or `bytes`.
    pub what: &'static str,
    /// Whether the request was refused.
    pub is_hard: bool,
    /// The limit.
    pub limit: i64,
    /// What the usage would have been.
    pub usage: i64,
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QuotaExceeded {
            path,
            what,
            is_hard,
            limit,
            usage,
        } = self;
        let hardness = if *is_hard { "hard" } else { "soft" };
        write!(
            f,
            "quota of {path} exceeded: {what} would be {usage}, the {hardness} limit is {limit}"
        )
    }
}

impl Tree {
    /// Enters the limits znode below `parent`, if it is one.
    pub(crate) fn register_quota(&mut self, parent: &str, name: &str) {
        match quota_target(parent) {
            // The root has no quota; Java's server cannot even survive the attempt.
            Some("") | None => {}
            Some(target) if name == LIMITS_NAME => {
                self.quotas.paths.insert(target.into());
            }
            Some(_) => {}
        }
        if name == STATS_NAME
            && let Some(target) = quota_target(parent)
        {
            self.recompute_usage(target);
        }
    }

    /// Forgets the limits znode below `parent`, if it is one.
    pub(crate) fn unregister_quota(&mut self, parent: &str, name: &str) {
        if name == LIMITS_NAME
            && let Some(target) = quota_target(parent)
        {
            self.quotas.paths.remove(target);
        }
    }

    /// Adds to the usage that a change at `path` counts for, once the tree shows the change.
    pub(crate) fn charge_quota(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(target) = self.quotas.nearest(path) else {
            return;
        };
        let stats_path = stats_path(target);
        let Some(id) = self.znodes.lookup(&stats_path) else {
            return;
        };
        match QuotaText::parse(self.znodes[id].data.as_deref()) {
            Some(mut usage) => {
                usage.add("count", count);
                usage.add("bytes", bytes);
                self.update_data(
                    id,
                    &stats_path,
                    Some(usage.to_string().into_bytes().into()),
                    |_| {},
                );
            }
            None => self.recompute_usage(target),
        }
    }

    /// The usage below `target`: all its znodes, itself included, and the bytes of their data.
    fn usage(&self, target: &str) -> QuotaText {
        let Some(id) = self.znodes.lookup(target) else {
            return QuotaText::of_usage(0, 0);
        };
        let (count, bytes) = self.znodes.subtree(id).fold((0, 0), |(count, bytes), id| {
            (
                count + 1,
                bytes + i64::try_from(self.znodes[id].data_len()).unwrap_or_default(),
            )
        });
        QuotaText::of_usage(count, bytes)
    }

    fn recompute_usage(&mut self, target: &str) {
        let stats_path = stats_path(target);
        if let Some(id) = self.znodes.lookup(&stats_path) {
            let usage = self.usage(target).to_string();
            self.update_data(id, &stats_path, Some(usage.into_bytes().into()), |_| {});
        }
    }

    /// Finds all limits in a restored tree, and computes the usage that belongs to them.
    pub(crate) fn rescan_quotas(&mut self) {
        self.quotas = Quotas::default();
        let Some(quota_root) = self.znodes.lookup(QUOTA_PATH) else {
            return;
        };
        let limits: Vec<String> = self
            .znodes
            .subtree(quota_root)
            .filter(|&id| self.znodes[id].name.as_str() == LIMITS_NAME)
            .map(|id| self.znodes.path(self.znodes[id].parent))
            .collect();
        for parent in limits {
            if let Some(target) = quota_target(&parent) {
                self.recompute_usage(target);
                self.register_quota(&parent, LIMITS_NAME);
            }
        }
    }

    /// Checks a change at `path` against the usage as applied so far, and says which limits it exceeds.
    ///
    /// # Errors
    /// [`ErrorCode::QuotaExceeded`] for a hard limit, [`ErrorCode::MarshallingError`] when the text of the limits
    /// cannot be read.
    pub(crate) fn check_quota(
        &self,
        path: &str,
        count: i64,
        bytes: i64,
        exceeded: &mut Vec<QuotaExceeded>,
    ) -> Result<(), ErrorCode> {
        let Some(target) = self.quotas.nearest(path) else {
            return Ok(());
        };
        let Some(limits) = self.znodes.lookup(&limits_path(target)) else {
            return Ok(());
        };
        let limits =
            QuotaText::parse(self.znodes[limits].data.as_deref()).ok_or(ErrorCode::MarshallingError)?;
        // Usage that cannot be read is counted anew by the next change; until then nothing is known.
        let Some(usage) = self.znodes.lookup(&stats_path(target)).map(|id| {
            QuotaText::parse(self.znodes[id].data.as_deref()).unwrap_or_else(|| self.usage(target))
        }) else {
            return Ok(());
        };
        for (what, hard_name, difference) in [
            ("count", "countHardLimit", count),
            ("bytes", "byteHardLimit", bytes),
        ] {
            let (soft, hard) = (limits.get(what), limits.get(hard_name));
            if difference == 0 || soft < 0 && hard < 0 {
                continue;
            }
            let is_hard = hard > -1;
            let limit = if is_hard { hard } else { soft };
            let usage = usage.get(what).wrapping_add(difference);
            if usage > limit {
                exceeded.push(QuotaExceeded {
                    path: target.to_owned(),
                    what,
                    is_hard,
                    limit,
                    usage,
                });
                if is_hard {
                    return Err(ErrorCode::QuotaExceeded);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        QuotaText::parse(Some(text.as_bytes())).map(|text| text.to_string())
    }

    #[test]
    fn text_is_read_as_java_reads_it_and_written_as_java_writes_it() {
        for (text, shown) in [
            ("", "count=-1,bytes=-1"),
            (",,", "count=-1,bytes=-1"),
            ("count=4,bytes=5", "count=4,bytes=5"),
            ("bytes=5,count=4", "count=4,bytes=5"),
            (
                "count=4,bytes=5=;countHardLimit=6;byteHardLimit=7",
                "count=4,bytes=5=;byteHardLimit=7;countHardLimit=6",
            ),
            ("count=1,;,bytes=2;", "count=1,bytes=2"),
            ("count==4", "count=-1,bytes=-1"),
            ("count=+4", "count=4,bytes=-1"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(shown), "{text:?}");
        }
        for text in [
            "garbage",
            "count=",
            "=",
            ",count=1",
            "count=x",
            "count=9223372036854775808",
            "count= 1",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(QuotaText::parse(None), None);
    }

    #[test]
    fn the_nearest_quota_counts() {
        let mut quotas = Quotas::default();
        assert_eq!(quotas.nearest("/a/b"), None);
        quotas.paths.insert("/a".into());
        quotas.paths.insert("/a/b/c".into());
        assert_eq!(quotas.nearest("/a/b"), Some("/a"));
        assert_eq!(quotas.nearest("/a/b/c"), Some("/a/b/c"));
        assert_eq!(quotas.nearest("/a/b/c/d"), Some("/a/b/c"));
        assert_eq!(quotas.nearest("/ab"), None);
        assert_eq!(quotas.nearest("/"), None);
    }
}
