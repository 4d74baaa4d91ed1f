//! A typed line as words, the way zkCli cuts it: at white space, except inside `"…"` or `'…'`. There are no escapes.

use std::fmt;

use crate::text::is_unsafe;

/// A quote was opened and not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenQuote(pub(crate) char);

impl fmt::Display for OpenQuote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a quote {} is not closed", self.0)
    }
}

/// The words of a line. A quote counts only at the beginning of a word, and its word ends with the closing one.
///
/// # Errors
/// When the line ends inside a quote.
pub(crate) fn split(line: &str) -> Result<Vec<String>, OpenQuote> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = if let '"' | '\'' = first {
            let inner = &rest[1..];
            let end = inner.find(first).ok_or(OpenQuote(first))?;
            rest = &inner[end + 1..];
            &inner[..end]
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let word = &rest[..end];
            rest = &rest[end..];
            word
        };
        words.push(word.to_owned());
        rest = rest.trim_start();
    }
    Ok(words)
}

/// The word that is being typed at the end of `line`: where it begins (its quote included), the quote it is in,
/// and its text so far. After white space it is an empty word.
pub(crate) fn last_word(line: &str) -> (usize, Option<char>, &str) {
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let start = line.len() - rest.len();
        match rest.chars().next() {
            None => return (line.len(), None, ""),
            Some(quote @ ('"' | '\'')) => match rest[1..].find(quote) {
                None => return (start, Some(quote), &rest[1..]),
                Some(end) => rest = &rest[end + 2..],
            },
            Some(_) => match rest.find(char::is_whitespace) {
                None => return (start, None, rest),
                Some(end) => rest = &rest[end..],
            },
        }
    }
}

/// `word` as it must be typed to be one word, or `None` when it cannot be: a character that no terminal is to see, or
/// both quotes where quotes are needed.
pub(crate) fn quoted(word: &str) -> Option<String> {
    if word.chars().any(is_unsafe) {
        return None;
    }
    let plain = !word.is_empty() && !word.contains(char::is_whitespace) && !word.starts_with(['"', '\'']);
    if plain {
        Some(word.to_owned())
    } else if !word.contains('"') {
        Some(format!("\"{word}\""))
    } else if !word.contains('\'') {
        Some(format!("'{word}'"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap()
    }

    #[test]
    fn words_end_at_white_space_and_quotes_keep_it() {
        assert_eq!(
            words("  create\t/a  \"two words\" 'it''s' "),
            ["create", "/a", "two words", "it", "s"]
        );
        assert_eq!(
            words("set /a say\"so\""),
            ["set", "/a", "say\"so\""],
            "a quote inside a word is a character"
        );
        assert_eq!(words("set /a \"\""), ["set", "/a", ""]);
        assert_eq!(words(" \t "), [""; 0]);
        assert_eq!(split("set /a \"open"), Err(OpenQuote('"')));
    }

    #[test]
    fn what_no_terminal_is_to_see_is_not_completed() {
        for name in ["/a\u{202e}b", "/a\x1b[2J", "/a\u{200b}"] {
            assert_eq!(quoted(name), None);
        }
        assert_eq!(quoted("/日本 語").as_deref(), Some("\"/日本 語\""));
    }

    #[test]
    fn the_word_being_typed_is_found() {
        assert_eq!(last_word(""), (0, None, ""));
        assert_eq!(last_word("get"), (0, None, "get"));
        assert_eq!(last_word("get "), (4, None, ""));
        assert_eq!(last_word("get /a"), (4, None, "/a"));
        assert_eq!(last_word("get \"/a b"), (4, Some('"'), "/a b"));
        assert_eq!(last_word("get '/a b' /c"), (11, None, "/c"));
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_one_word_again(given in proptest::collection::vec(".*", 0..5)) {
            let typable: Vec<&String> = given.iter().filter(|word| quoted(word).is_some()).collect();
            let line: Vec<String> = typable.iter().filter_map(|word| quoted(word)).collect();
            let words = split(&line.join(" ")).unwrap();
            prop_assert_eq!(words.iter().collect::<Vec<_>>(), typable);
        }

        #[test]
        fn any_line_is_cut_without_losing_other_than_quotes_and_white_space(line in ".*") {
            if let Ok(words) = split(&line) {
                let keep = |text: &str| -> Vec<char> {
                    text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect()
                };
                prop_assert_eq!(keep(&line), keep(&words.concat()));
            }
            let (start, _, word) = last_word(&line);
            prop_assert!(line[start..].ends_with(word));
        }
    }
}
