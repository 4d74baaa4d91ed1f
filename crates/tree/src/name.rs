//! Names of znodes: short ones are kept in place, so that a look-up finds them together with the znode.

use std::fmt;

/// The longest name that is kept in place, in bytes.
const INLINE_LEN_MAX: usize = 22;

/// A component of a path.
#[derive(Clone)]
pub(crate) enum Name {
    Inline { len: u8, bytes: [u8; INLINE_LEN_MAX] },
    Heap(Box<str>),
}

impl Name {
    pub(crate) fn new(name: &str) -> Name {
        match u8::try_from(name.len()) {
            Ok(len) if name.len() <= INLINE_LEN_MAX => {
                let mut bytes = [0; INLINE_LEN_MAX];
                bytes[..name.len()].copy_from_slice(name.as_bytes());
                Name::Inline { len, bytes }
            }
            _ => Name::Heap(name.into()),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Name::Heap(name) => name.as_bytes(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Name::Inline { len, bytes } => std::str::from_utf8(&bytes[..usize::from(*len)])
                .unwrap_or_else(|_| unreachable!("a name was made of a string")),
            Name::Heap(name) => name,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_come_back() {
        assert_eq!(size_of::<Name>(), 24);
        for len in [0, 1, 21, 22, 23, 300] {
            let name = "é".repeat(len / 2) + &"x".repeat(len % 2);
            let kept = Name::new(&name);
            assert_eq!(kept.as_str(), name);
            assert_eq!(kept.as_bytes(), name.as_bytes());
            assert_eq!(matches!(kept, Name::Inline { .. }), len <= INLINE_LEN_MAX);
        }
    }
}
