//! Options and words of a command, cut as zkCli's parser (Commons CLI) does: options may stand anywhere, letters may
//! be joined (`-sw`), a value may be joined too (`-v5`, `-v=5`), and nothing behind `--` is an option.

/// An option a command knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionSpec {
    name: &'static str,
    takes_value: bool,
}

/// An option without a value.
pub(crate) const fn flag(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes_value: false,
    }
}

/// An option with a value.
pub(crate) const fn value(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes_value: true,
    }
}

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// The words that are no options.
    pub(crate) words: Vec<String>,
    flags: Vec<&'static str>,
    values: Vec<(&'static str, String)>,
}

impl Arguments {
    /// Cuts `given`.
    ///
    /// # Errors
    /// When an option is not known or has no value, in the words of Commons CLI.
    pub(crate) fn parse(given: &[String], options: &[OptionSpec]) -> Result<Arguments, String> {
        let mut arguments = Arguments::default();
        let mut rest = given.iter();
        while let Some(word) = rest.next() {
            let body = match word.strip_prefix('-') {
                None | Some("") => {
                    arguments.words.push(word.clone());
                    continue;
                }
                Some("-") => {
                    arguments.words.extend(rest.by_ref().cloned());
                    break;
                }
                Some(body) => body.strip_prefix('-').unwrap_or(body),
            };
            let unknown = || format!("Unrecognized option: {}", crate::text::escape(word));
            let (name, joined) = match body.split_once('=') {
                Some((name, joined)) => (name, Some(joined)),
                None => (body, None),
            };
            let mut pending = None;
            if let Some(option) = options.iter().find(|option| option.name == name) {
                match (option.takes_value, joined) {
                    (false, None) => arguments.flags.push(option.name),
                    (false, Some(_)) => return Err(unknown()),
                    (true, Some(joined)) => arguments.values.push((option.name, joined.to_owned())),
                    (true, None) => pending = Some(option.name),
                }
            } else {
                pending = arguments.take_letters(body, options).ok_or_else(unknown)?;
            }
            if let Some(name) = pending {
                let next = rest.next().filter(|next| !is_option(next, options));
                let next = next.ok_or_else(|| format!("Missing argument for option: {name}"))?;
                arguments.values.push((name, next.clone()));
            }
        }
        Ok(arguments)
    }

    /// Takes joined letters; the text behind one with a value is its value. The name of a last one that still lacks
    /// its value is returned, and nothing when a letter is no option.
    fn take_letters(&mut self, letters: &str, options: &[OptionSpec]) -> Option<Option<&'static str>> {
        let mut flags = Vec::new();
        for (start, letter) in letters.char_indices() {
            let end = start + letter.len_utf8();
            let option = options
                .iter()
                .find(|option| option.name == &letters[start..end])?;
            if !option.takes_value {
                flags.push(option.name);
                continue;
            }
            self.flags.append(&mut flags);
            if end == letters.len() {
                return Some(Some(option.name));
            }
            self.values.push((option.name, letters[end..].to_owned()));
            break;
        }
        self.flags.append(&mut flags);
        Some(None)
    }

    /// Whether a flag was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.flags.contains(&name)
    }

    /// The value of an option, the first one if there are more.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Whether a word is an option rather than a value, so that `-v -s` lacks one and `-v -1` does not.
fn is_option(word: &str, options: &[OptionSpec]) -> bool {
    word.strip_prefix('-')
        .is_some_and(|body| options.iter().any(|option| body.starts_with(option.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Arguments::parse(&words, &[flag("s"), flag("w"), value("v"), value("file")])
    }

    #[test]
    fn options_are_told_from_words() {
        let given = parse("a -sw b -v5 - -- -s").unwrap();
        assert!(given.has("s") && given.has("w"));
        assert_eq!(given.value("v"), Some("5"));
        assert_eq!(given.words, ["a", "b", "-", "-s"]);
        assert_eq!(parse("-v=7").unwrap().value("v"), Some("7"));
        let given = parse("-sv 7").unwrap();
        assert!(given.has("s") && given.value("v") == Some("7"));
        assert_eq!(parse("-v -1").unwrap().value("v"), Some("-1"));
        assert_eq!(parse("--file x").unwrap().value("file"), Some("x"));
    }

    #[test]
    fn unknown_options_and_missing_values_are_refused() {
        assert_eq!(parse("-x").unwrap_err(), "Unrecognized option: -x");
        assert_eq!(parse("-sx").unwrap_err(), "Unrecognized option: -sx");
        assert_eq!(parse("-5").unwrap_err(), "Unrecognized option: -5");
        assert_eq!(parse("-v").unwrap_err(), "Missing argument for option: v");
        assert_eq!(parse("-v -s").unwrap_err(), "Missing argument for option: v");
    }
}
