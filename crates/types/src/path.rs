//! Paths of znodes and the rules they obey.

use std::fmt;

/// The root of the tree.
pub const ROOT_PATH: &str = "/";
/// The subtree that ZooKeeper keeps for itself.
pub const RESERVED_PATH: &str = "/zookeeper";
/// Where quotas live.
pub const QUOTA_PATH: &str = "/zookeeper/quota";
/// Where the configuration of the ensemble is shown.
pub const CONFIG_PATH: &str = "/zookeeper/config";

/// Whether `path` is one of the four znodes that every tree has and nobody may delete.
pub fn is_builtin_path(path: &str) -> bool {
    matches!(path, ROOT_PATH | RESERVED_PATH | QUOTA_PATH | CONFIG_PATH)
}

/// Why a path is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It is empty.
    Empty,
    /// It does not begin with `/`.
    NotAbsolute,
    /// It ends in `/` and is not the root.
    TrailingSlash,
    /// It has an empty component (`//`).
    EmptyComponent,
    /// It has `.` or `..` as a component.
    RelativeComponent,
    /// It has a character that paths must not have.
    BadCharacter(char),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathError::Empty => f.write_str("a path must not be empty"),
            PathError::NotAbsolute => f.write_str("a path must begin with /"),
            PathError::TrailingSlash => f.write_str("a path must not end with /"),
            PathError::EmptyComponent => f.write_str("a path must not have an empty component (//)"),
            PathError::RelativeComponent => f.write_str("a path must not have . or .. as a component"),
            PathError::BadCharacter(c) => write!(f, "a path must not have the character {c:?}"),
        }
    }
}

impl std::error::Error for PathError {}

/// Checks a whole path (client spec, section 5.5).
///
/// # Errors
/// The first rule that the path breaks.
pub fn validate_path(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    for component in path[1..].split('/') {
        match component {
            "" => return Err(PathError::EmptyComponent),
            "." | ".." => return Err(PathError::RelativeComponent),
            _ => {}
        }
    }
    match path.chars().find(|&c| is_bad_character(c)) {
        Some(c) => Err(PathError::BadCharacter(c)),
        None => Ok(()),
    }
}

/// Control characters, and the UTF-16 units D800-F8FF (so all supplementary characters) and FFF0-FFFF.
fn is_bad_character(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Splits a path at its last `/` into the parent's path and the name; the parent of a top-level znode is `/`.
/// The path need not be valid. `None` when it has no `/` at all, or is the root.
pub fn split_path(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    match (parent, name) {
        ("", "") => None,
        ("", _) => Some((ROOT_PATH, name)),
        _ => Some((parent, name)),
    }
}

/// The path of the child `name` of `parent`.
pub fn join_path(parent: &str, name: &str) -> String {
    let parent = if parent == ROOT_PATH { "" } else { parent };
    let mut path = String::with_capacity(parent.len() + 1 + name.len());
    path.push_str(parent);
    path.push('/');
    path.push_str(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_zookeeper_accepts_are_valid() {
        for path in [
            "/",
            "/a",
            "/a/b",
            "/a b",
            "/...",
            "/.a",
            "/a..",
            "/\u{e9}",
            "/\u{f900}",
            "/\u{ffef}",
        ] {
            assert_eq!(validate_path(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn each_rule_names_what_it_refuses() {
        for (path, error) in [
            ("", PathError::Empty),
            ("a", PathError::NotAbsolute),
            ("/a/", PathError::TrailingSlash),
            ("//", PathError::TrailingSlash),
            ("/a//b", PathError::EmptyComponent),
            ("/a/./b", PathError::RelativeComponent),
            ("/..", PathError::RelativeComponent),
            ("/a\0", PathError::BadCharacter('\0')),
            ("/\u{1f}", PathError::BadCharacter('\u{1f}')),
            ("/\u{85}", PathError::BadCharacter('\u{85}')),
            ("/\u{e000}", PathError::BadCharacter('\u{e000}')),
            ("/\u{fffd}", PathError::BadCharacter('\u{fffd}')),
            ("/\u{1f600}", PathError::BadCharacter('\u{1f600}')),
        ] {
            assert_eq!(validate_path(path), Err(error), "{path:?}");
        }
    }

    #[test]
    fn split_and_join_are_inverse() {
        for path in ["/a", "/a/b", "/a/b/c"] {
            let (parent, name) = split_path(path).unwrap();
            assert_eq!(join_path(parent, name), path);
        }
        assert_eq!(split_path("/"), None);
        assert_eq!(split_path("a"), None);
        assert_eq!(split_path("/a/"), Some(("/a", "")));
    }
}
