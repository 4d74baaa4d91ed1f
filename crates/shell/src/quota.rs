//! Quotas: what is stored in `zookeeper_limits` and `zookeeper_stats` below `/zookeeper/quota`.

use std::collections::BTreeMap;

use oxkeeper_types::QUOTA_PATH;
use zookeeper_client::{Acls, Client, CreateMode, Error};

use crate::failure::{Failure, Outcome};
use crate::text::escape;

const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// One limit of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `-n`: znodes, warned of.
    Count,
    /// `-b`: bytes, warned of.
    Bytes,
    /// `-N`: znodes, enforced.
    CountHard,
    /// `-B`: bytes, enforced.
    BytesHard,
}

impl Limit {
    pub(crate) const ALL: [Limit; 4] = [Limit::Count, Limit::Bytes, Limit::CountHard, Limit::BytesHard];

    /// The letter of its option.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Limit::Count => "n",
            Limit::Bytes => "b",
            Limit::CountHard => "N",
            Limit::BytesHard => "B",
        }
    }

    /// The smallest value it may have.
    pub(crate) fn least(self) -> i64 {
        match self {
            Limit::Count | Limit::CountHard => 1,
            Limit::Bytes | Limit::BytesHard => 0,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Limit::Count => "count",
            Limit::Bytes => "bytes",
            Limit::CountHard => "countHardLimit",
            Limit::BytesHard => "byteHardLimit",
        }
    }
}

/// Names and numbers as the server stores them: `count=2,bytes=5`, and after a `=` of its own each further one, as in
/// `count=-1,bytes=-1=;byteHardLimit=20`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Track(BTreeMap<String, i64>);

impl Track {
    /// The numbers in the data of a znode; what is none is left out.
    fn parse(data: &[u8]) -> Track {
        let text = String::from_utf8_lossy(data);
        let pairs = text.split([',', ';']).filter_map(|pair| pair.split_once('='));
        Track(
            pairs
                .filter_map(|(key, value)| Some((key.to_owned(), value.trim_end_matches('=').parse().ok()?)))
                .collect(),
        )
    }

    fn get(&self, limit: Limit) -> i64 {
        self.0.get(limit.key()).copied().unwrap_or(-1)
    }

    fn set(&mut self, limit: Limit, value: i64) {
        self.0.insert(limit.key().to_owned(), value);
    }

    /// The stored form.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "count={},bytes={}",
            self.get(Limit::Count),
            self.get(Limit::Bytes)
        );
        let mut others = self
            .0
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "count" | "bytes"))
            .peekable();
        if others.peek().is_some() {
            text.push('=');
        }
        for (key, value) in others {
            text += &format!(";{key}={value}");
        }
        text
    }

    /// For scripts.
    pub(crate) fn json(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|(key, value)| (key.clone(), serde_json::Value::from(*value)))
            .collect()
    }
}

fn quota_path(path: &str) -> String {
    if path == "/" {
        QUOTA_PATH.to_owned()
    } else {
        format!("{QUOTA_PATH}{path}")
    }
}

/// Where the limits of `path` are.
pub(crate) fn limits_path(path: &str) -> String {
    format!("{}/{LIMITS}", quota_path(path))
}

/// The limits and what is used, or `None` when there is no quota.
///
/// # Errors
/// Those of the server.
pub(crate) async fn list(client: &Client, path: &str) -> Outcome<Option<(Track, Track)>> {
    let at = quota_path(path);
    let limits = match client.get_data(&format!("{at}/{LIMITS}")).await {
        Ok((data, _)) => Track::parse(&data),
        Err(Error::NoNode) => return Ok(None),
        Err(error) => return Err(Failure::of(&error, path)),
    };
    let stats_path = format!("{at}/{STATS}");
    let (stats, _) = client
        .get_data(&stats_path)
        .await
        .map_err(|error| Failure::of(&error, &stats_path))?;
    Ok(Some((limits, Track::parse(&stats))))
}

/// Sets one limit of `path`, and returns warnings when more is used already.
///
/// # Errors
/// When the path does not exist, lies in `/zookeeper/quota`, or has a quota above or below it, and those of the server.
pub(crate) async fn set(client: &Client, path: &str, limit: Limit, value: i64) -> Outcome<Vec<String>> {
    let shown = escape(path);
    if path.starts_with(QUOTA_PATH) {
        return Err(Failure::new(
            "BadArguments",
            format!("cannot set a quota under the path: {QUOTA_PATH}"),
        )
        .hint("set it on the znodes you use"));
    }
    let exists = client
        .check_stat(path)
        .await
        .map_err(|error| Failure::of(&error, path))?;
    if exists.is_none() {
        return Err(Failure::new("NoNode", format!("{shown} does not exist."))
            .hint(format!("`create {shown}` makes it, then set the quota")));
    }
    if let Some(other) = quota_below(client, path).await? {
        return Err(Failure::new(
            "BadArguments",
            format!("{shown} has a child {other} which has a quota"),
        )
        .hint(format!(
            "quotas cannot be nested; `delquota {other}` removes that one"
        )));
    }
    if let Some(other) = quota_above(client, path).await? {
        return Err(Failure::new(
            "BadArguments",
            format!("{shown} has a parent {other} which has a quota"),
        )
        .hint(format!(
            "quotas cannot be nested; `delquota {other}` removes that one"
        )));
    }
    let at = quota_path(path);
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client
        .mkdir(&at, &options)
        .await
        .map_err(|error| Failure::of(&error, &at))?;
    let (limits_path, stats_path) = (format!("{at}/{LIMITS}"), format!("{at}/{STATS}"));
    let failure = |error: Error| Failure::of(&error, &limits_path);
    let stored = match client.get_data(&limits_path).await {
        Ok((data, _)) => Some(Track::parse(&data)),
        Err(Error::NoNode) => None,
        Err(error) => return Err(failure(error)),
    };
    let is_new = stored.is_none();
    let mut limits = stored.unwrap_or_else(|| {
        let mut none = Track::default();
        Limit::ALL.into_iter().for_each(|limit| none.set(limit, -1));
        none
    });
    limits.set(limit, value);
    let text = limits.text();
    if is_new {
        client
            .create(&limits_path, text.as_bytes(), &options)
            .await
            .map_err(failure)?;
        // The server fills in what is used.
        client
            .create(&stats_path, b"count=0,bytes=0", &options)
            .await
            .map_err(failure)?;
    } else {
        client
            .set_data(&limits_path, text.as_bytes(), None)
            .await
            .map_err(failure)?;
    }
    let (stats, _) = client.get_data(&stats_path).await.map_err(failure)?;
    let used = Track::parse(&stats);
    let mut warnings = Vec::new();
    for (soft, hard, what) in [
        (Limit::Count, Limit::CountHard, "count"),
        (Limit::Bytes, Limit::BytesHard, "bytes"),
    ] {
        let over = [soft, hard]
            .into_iter()
            .any(|limit| (0..used.get(soft)).contains(&limits.get(limit)));
        if over {
            warnings.push(format!(
                "[Warning]: the {what} quota you create is less than the existing {what}:{}",
                used.get(soft)
            ));
        }
    }
    Ok(warnings)
}

/// Removes the quota of `path`, or only one limit of it; false when there is none.
///
/// # Errors
/// Those of the server.
pub(crate) async fn delete(client: &Client, path: &str, limit: Option<Limit>) -> Outcome<bool> {
    let limits_path = limits_path(path);
    let failure = |error: Error| Failure::of(&error, &limits_path);
    let data = match client.get_data(&limits_path).await {
        Ok((data, _)) => data,
        Err(Error::NoNode) => return Ok(false),
        Err(error) => return Err(failure(error)),
    };
    if let Some(limit) = limit {
        let mut limits = Track::parse(&data);
        limits.set(limit, -1);
        client
            .set_data(&limits_path, limits.text().as_bytes(), None)
            .await
            .map_err(failure)?;
        return Ok(true);
    }
    let mut at = quota_path(path);
    for name in [LIMITS, STATS] {
        match client.delete(&format!("{at}/{name}"), None).await {
            Ok(()) | Err(Error::NoNode) => {}
            Err(error) => return Err(failure(error)),
        }
    }
    // The way there goes too, as far as nothing else needs it.
    while at != QUOTA_PATH {
        match client.delete(&at, None).await {
            Ok(()) | Err(Error::NoNode) => {}
            Err(Error::NotEmpty) => break,
            Err(error) => return Err(failure(error)),
        }
        at.truncate(at.rfind('/').unwrap_or(0));
    }
    Ok(true)
}

/// A znode above `path` that has a quota.
async fn quota_above(client: &Client, path: &str) -> Outcome<Option<String>> {
    for (end, _) in path.match_indices('/').skip(1) {
        let above = &path[..end];
        let limits = limits_path(above);
        let stat = client
            .check_stat(&limits)
            .await
            .map_err(|error| Failure::of(&error, &limits))?;
        if stat.is_some() {
            return Ok(Some(escape(above)));
        }
    }
    Ok(None)
}

/// A znode below `path` that has a quota.
async fn quota_below(client: &Client, path: &str) -> Outcome<Option<String>> {
    let root = quota_path(path);
    let mut open = vec![root.clone()];
    while let Some(at) = open.pop() {
        let names = match client.list_children(&at).await {
            Ok(names) => names,
            Err(Error::NoNode) => continue,
            Err(error) => return Err(Failure::of(&error, &at)),
        };
        for name in names {
            if name == LIMITS && at != root {
                return Ok(Some(escape(&at[QUOTA_PATH.len()..])));
            }
            open.push(format!("{at}/{name}"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_the_server_reads_them() {
        let mut limits = Track::parse(b"count=10,bytes=15=;byteHardLimit=20;countHardLimit=3");
        assert_eq!(limits.get(Limit::BytesHard), 20);
        assert_eq!(
            limits.text(),
            "count=10,bytes=15=;byteHardLimit=20;countHardLimit=3"
        );
        limits.set(Limit::CountHard, -1);
        assert_eq!(
            limits.text(),
            "count=10,bytes=15=;byteHardLimit=20;countHardLimit=-1"
        );
        assert_eq!(Track::parse(b"count=2,bytes=5").text(), "count=2,bytes=5");
        assert_eq!(Track::parse(b"\xff=,=;;x=y").text(), "count=-1,bytes=-1");
    }
}
