//! What reading a configuration has to say: problems that stop the server, and notices that do not.

use std::fmt;
use std::sync::Arc;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as the operator named it, or `arguments` for the command line.
    pub file: Arc<str>,
    /// The line, counted from 1; `None` when it is about the whole file.
    pub line: Option<u32>,
}

impl Location {
    /// A whole file.
    pub fn whole(file: &str) -> Location {
        Location {
            file: file.into(),
            line: None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => write!(f, "{}", self.file),
        }
    }
}

/// One reason why the server must not start with this configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}; {remedy}")]
pub struct ConfigError {
    /// Where.
    pub at: Location,
    /// What is wrong.
    pub problem: String,
    /// What the operator can do.
    pub remedy: String,
}

impl ConfigError {
    pub(super) fn new(at: &Location, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError {
            at: at.clone(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// Every reason why the server must not start with this configuration: at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig {
    /// The reasons, those tied to a line first and in the order of the file.
    pub problems: Vec<ConfigError>,
}

impl From<ConfigError> for InvalidConfig {
    fn from(problem: ConfigError) -> Self {
        InvalidConfig {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for InvalidConfig {
    /// One problem per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeLevel {
    /// The setting changes nothing here, as expected.
    Info,
    /// The operator asked for something that does not happen, or probably meant something else.
    Warning,
}

/// Something the operator should know about a configuration with which the server does start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How much it matters.
    pub level: NoticeLevel,
    /// Where.
    pub at: Location,
    /// What, in one line. Never contains a secret.
    pub text: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}
