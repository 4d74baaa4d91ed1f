//! The digest of the tree: a sum of one CRC-32 per znode (storage spec, section 7).

use oxkeeper_types::StoredStat;

/// The version of the algorithm, as in txns and snapshots.
pub const DIGEST_VERSION: i32 = 2;

/// Whether a znode has no part in the digest: all below `/zookeeper`, for usage of quotas changes without txns.
pub(crate) fn is_excluded(path: &str) -> bool {
    path.starts_with("/zookeeper/")
}

/// CRC-32 of path and data; the root counts with an empty path.
pub(crate) fn content_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(if path == "/" { b"" } else { path.as_bytes() });
    hasher.update(data.unwrap_or_default());
    hasher.finalize()
}

/// A znode's part of the tree digest, from the CRC-32 of its path and data.
pub(crate) fn znode_digest(content_crc: u32, stat: &StoredStat) -> u32 {
    let mut bytes = [0; 60];
    // Not the order of the stored stat: pzxid comes third.
    let longs = [stat.czxid.0, stat.mzxid.0, stat.pzxid.0, stat.ctime, stat.mtime];
    for (at, long) in longs.into_iter().enumerate() {
        bytes[at * 8..][..8].copy_from_slice(&long.to_be_bytes());
    }
    for (at, int) in [stat.version, stat.cversion, stat.aversion]
        .into_iter()
        .enumerate()
    {
        bytes[40 + at * 4..][..4].copy_from_slice(&int.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    let mut hasher = crc32fast::Hasher::new_with_initial(content_crc);
    hasher.update(&bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_over_an_empty_tree_is_the_one_java_shows() {
        let stat = StoredStat::default();
        let sum: u64 = ["/", "/zookeeper"]
            .iter()
            .map(|path| u64::from(znode_digest(content_crc(path, Some(b"")), &stat)))
            .sum();
        assert_eq!(sum, 1_371_985_504);
    }
}
