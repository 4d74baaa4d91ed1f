//! The syntax of Java `.properties` files, as `java.util.Properties.load(InputStream)` reads them.
//!
//! Bytes are ISO-8859-1. A line ends with `\n`, `\r` or `\r\n`; a line whose first visible character is `#` or `!`
//! is a comment and is never continued; an odd number of `\` before a line's end joins the next line to it without
//! that line's leading blanks. The key ends at the first unescaped `=`, `:`, blank, tab or form feed. `\t`, `\n`,
//! `\r`, `\f` and `\uXXXX` are escapes, `\x` is `x` otherwise. Meaning is not this module's business: it yields
//! every pair in the order of the file, and [`super::ServerConfig`] decides which one counts.

use std::fmt;

/// One `key = value` of a file, unescaped, with blanks at both ends removed as ZooKeeper removes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// The key, for example `tickTime`.
    pub key: String,
    /// The value, which may be empty.
    pub value: String,
    /// The line on which the key stands, counted from 1.
    pub line: u32,
}

/// Every pair of a file in the order of the file, duplicates included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawConfig {
    /// The pairs. Of several with one key the last one counts.
    pub entries: Vec<RawEntry>,
}

impl RawConfig {
    /// The pair that counts for `key`: the last one.
    pub fn find(&self, key: &str) -> Option<&RawEntry> {
        self.entries.iter().rev().find(|entry| entry.key == key)
    }
}

/// Why a file is not a `.properties` file. There is one reason only: everything else means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertiesError {
    /// The line on which the offending pair begins, counted from 1.
    pub line: u32,
}

impl fmt::Display for PropertiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`\\u` is not followed by four hexadecimal digits")
    }
}

impl std::error::Error for PropertiesError {}

/// Parses a whole file. Total: any bytes give pairs or a [`PropertiesError`]. Memory is linear in `bytes`.
pub fn parse(bytes: &[u8]) -> Result<RawConfig, PropertiesError> {
    let mut lines = LogicalLines {
        bytes,
        at: 0,
        line: 1,
    };
    let mut entries = Vec::new();
    while let Some((line, text)) = lines.next_line() {
        let (key, value) = split(&text);
        let unescaped = |part: &[u8]| unescape(part).ok_or(PropertiesError { line });
        entries.push(RawEntry {
            key: trim(&unescaped(key)?),
            value: trim(&unescaped(value)?),
            line,
        });
    }
    Ok(RawConfig { entries })
}

/// Java's `String.trim`: everything up to U+0020 goes, other white space stays.
fn trim(text: &str) -> String {
    text.trim_matches(|c: char| c <= ' ').to_owned()
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0c)
}

/// Joins continued lines and drops blank lines and comments. Escapes are left as they are.
struct LogicalLines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

impl LogicalLines<'_> {
    /// The next logical line and the number of the physical line on which it begins.
    fn next_line(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut text = Vec::new();
        let mut first_line = self.line;
        let mut skip_blanks = true;
        let mut continued = false;
        let mut after_backslash = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            let at_line_end = matches!(byte, b'\n' | b'\r');
            if skip_blanks {
                if is_blank(byte) {
                    self.at += 1;
                    continue;
                }
                // An empty line after a `\` ends the pair; an empty line elsewhere is nothing.
                if !continued && at_line_end {
                    self.end_line();
                    continue;
                }
                skip_blanks = false;
                continued = false;
            }
            if text.is_empty() {
                if matches!(byte, b'#' | b'!') {
                    while self
                        .bytes
                        .get(self.at)
                        .is_some_and(|byte| !matches!(byte, b'\n' | b'\r'))
                    {
                        self.at += 1;
                    }
                    skip_blanks = true;
                    continue;
                }
                first_line = self.line;
            }
            if !at_line_end {
                text.push(byte);
                after_backslash = byte == b'\\' && !after_backslash;
                self.at += 1;
                continue;
            }
            self.end_line();
            if text.is_empty() {
                skip_blanks = true;
            } else if after_backslash {
                text.pop();
                after_backslash = false;
                skip_blanks = true;
                continued = true;
            } else {
                return Some((first_line, text));
            }
        }
        if after_backslash {
            // Nothing to join. Of a file that ends in a lone `\` Java keeps a pair without key and value: nothing.
            text.pop();
        }
        if text.is_empty() {
            None
        } else {
            Some((first_line, text))
        }
    }

    /// Steps over one line end, `\r\n` being one.
    fn end_line(&mut self) {
        if self.bytes[self.at] == b'\r' && self.bytes.get(self.at + 1) == Some(&b'\n') {
            self.at += 1;
        }
        self.at += 1;
        self.line = self.line.saturating_add(1);
    }
}

/// Cuts a logical line into key and value, both still escaped.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let mut after_backslash = false;
    let key_length = line
        .iter()
        .position(|&byte| {
            if !after_backslash && (is_blank(byte) || matches!(byte, b'=' | b':')) {
                return true;
            }
            after_backslash = byte == b'\\' && !after_backslash;
            false
        })
        .unwrap_or(line.len());
    let (key, rest) = line.split_at(key_length);
    let mut value = rest;
    let mut separator_seen = false;
    while let [first, tail @ ..] = value {
        if matches!(first, b'=' | b':') && !separator_seen {
            separator_seen = true;
        } else if !is_blank(*first) {
            break;
        }
        value = tail;
    }
    (key, value)
}

/// Resolves escapes. `None` when a `\u` has fewer than four hexadecimal digits after it.
fn unescape(text: &[u8]) -> Option<String> {
    // Java strings are UTF-16: two `\u` escapes may make one character. Half a pair becomes U+FFFD.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            units.push(u16::from(byte));
            continue;
        }
        let unit = match bytes.next() {
            None => break,
            Some(b'u') => {
                let mut unit = 0;
                for _ in 0..4 {
                    let digit = char::from(bytes.next()?).to_digit(16)?;
                    unit = unit << 4 | u16::try_from(digit).ok()?;
                }
                unit
            }
            Some(b't') => u16::from(b'\t'),
            Some(b'n') => u16::from(b'\n'),
            Some(b'r') => u16::from(b'\r'),
            Some(b'f') => 0x0c,
            Some(other) => u16::from(other),
        };
        units.push(unit);
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &[u8]) -> Vec<(String, String, u32)> {
        let config = parse(text).expect("these bytes are valid");
        config
            .entries
            .into_iter()
            .map(|entry| (entry.key, entry.value, entry.line))
            .collect()
    }

    fn check(text: &str, expected: &[(&str, &str, u32)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(k, v, l)| (k.to_string(), v.to_string(), *l))
            .collect();
        assert_eq!(pairs(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn every_separator_ends_the_key_and_blanks_around_it_vanish() {
        check(
            "a=1\nb:2\nc 3\nd\t=\t4\n  e  5  \nf\nh=\n",
            &[
                ("a", "1", 1),
                ("b", "2", 2),
                ("c", "3", 3),
                ("d", "4", 4),
                ("e", "5", 5),
                ("f", "", 6),
                ("h", "", 7),
            ],
        );
        check(
            "a==1\nb = : 2\nc : = 3\n=4",
            &[("a", "=1", 1), ("b", ": 2", 2), ("c", "= 3", 3), ("", "4", 4)],
        );
    }

    #[test]
    fn comments_and_blank_lines_are_nothing_and_lines_are_counted_over_every_line_end() {
        check(
            "# x=1\r\n  ! y=2 \\\r\r\n \t\na=1#2\rb=2\n",
            &[("a", "1#2", 5), ("b", "2", 6)],
        );
        check("", &[]);
        check("#only", &[]);
    }

    #[test]
    fn backslash_joins_lines_and_the_pair_keeps_the_line_of_its_key() {
        check(
            "a=1,\\\n   2,\\\r\n\t3\nb=4\\\\\nc=5",
            &[("a", "1,2,3", 1), ("b", "4\\", 4), ("c", "5", 5)],
        );
        // A joined line is never a comment, and an empty joined line ends the pair.
        check(
            "a=1\\\n#2\n\nb=3\\\n\nc=4",
            &[("a", "1#2", 1), ("b", "3", 4), ("c", "4", 6)],
        );
        check("k\\\n  ey=v", &[("key", "v", 1)]);
        // A line of nothing but `\` joins the next one, which may then be a comment after all.
        check("\\\n#a=1\nb=2", &[("b", "2", 3)]);
        check("a=1\\", &[("a", "1", 1)]);
    }

    #[test]
    fn escapes_are_resolved_in_keys_and_values() {
        check("a\\=b\\:c\\ d=e", &[("a=b:c d", "e", 1)]);
        check("a=\\u0041\\u00e9\\ud83d\\ude00\\q\\\\x", &[("a", "Aé😀q\\x", 1)]);
        check("a=x\\ty\\nz", &[("a", "x\ty\nz", 1)]);
        check("a=\\ud83d!", &[("a", "\u{fffd}!", 1)]);
    }

    #[test]
    fn bytes_are_latin_1() {
        assert_eq!(pairs(b"a=\xe9\xff"), [("a".into(), "\u{e9}\u{ff}".into(), 1)]);
    }

    #[test]
    fn malformed_unicode_escape_names_its_line() {
        for text in ["x=1\na=\\u12", "x=1\na=\\u12g4\n", "\na\\u=1"] {
            assert_eq!(
                parse(text.as_bytes()),
                Err(PropertiesError { line: 2 }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn last_duplicate_is_found() {
        let config = parse(b"a=1\nb=2\na=3\n").unwrap();
        assert_eq!(
            config.find("a").map(|entry| (entry.value.as_str(), entry.line)),
            Some(("3", 3))
        );
        assert_eq!(config.find("c"), None);
    }

    /// Written the way `Properties.store` writes it, so that reading must give the same text back.
    fn escaped(text: &str) -> String {
        let mut out = String::new();
        for unit in text.encode_utf16() {
            out.push_str(&format!("\\u{unit:04x}"));
        }
        out
    }

    proptest! {
        #[test]
        fn any_bytes_give_pairs_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(config) = parse(&bytes) {
                let size: usize = config.entries.iter().map(|e| e.key.len() + e.value.len()).sum();
                prop_assert!(size <= bytes.len() * 3);
            }
        }

        #[test]
        fn any_text_of_the_syntax_gives_pairs_or_an_error(text in "[a=:# !\\\\\n\r\tu0]{0,64}") {
            let lines = text.split(['\n', '\r']).count();
            if let Ok(config) = parse(text.as_bytes()) {
                prop_assert!(config.entries.len() <= lines);
                prop_assert!(config.entries.iter().all(|entry| (1..=lines).contains(&(entry.line as usize))));
            }
        }

        #[test]
        fn simple_pairs_come_back(written in proptest::collection::vec(("[a-zA-Z0-9._]{1,20}", "[a-z0-9/.,:=]{0,30}"), 0..20)) {
            let text: String = written.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            let read: Vec<_> = parse(text.as_bytes()).unwrap().entries;
            prop_assert_eq!(read.len(), written.len());
            for (line, ((key, value), entry)) in (1..).zip(written.iter().zip(&read)) {
                prop_assert_eq!((key.as_str(), value.as_str(), line), (entry.key.as_str(), entry.value.as_str(), entry.line));
            }
        }

        #[test]
        fn escaped_pairs_come_back_trimmed(key in "\\PC{1,10}", value in "\\PC{0,10}") {
            let read = parse(format!("{}={}", escaped(&key), escaped(&value)).as_bytes()).unwrap();
            prop_assert_eq!(read.entries.len(), 1);
            prop_assert_eq!(&read.entries[0].key, &trim(&key));
            prop_assert_eq!(&read.entries[0].value, &trim(&value));
        }
    }
}
