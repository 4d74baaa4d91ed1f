//! From pairs of text to a checked [`ServerConfig`]: every pair is handed to its row of the table, then what
//! depends on several settings is checked together.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::membership::EnsembleDraft;
use super::properties::{self, RawConfig};
use super::report::{ConfigError, InvalidConfig, Location, Notice, NoticeLevel};
use super::settings::{ConnectionThrottleConfig, ServerConfig};
use super::table::{self, Disposition, Setting};

/// A configuration with which a server may start, and what its operator should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedConfig {
    /// The settings.
    pub config: ServerConfig,
    /// To be logged, in the order of the file.
    pub notices: Vec<Notice>,
}

/// `tickTime` when it is not given, in milliseconds.
const DEFAULT_TICK_TIME_MS: i32 = 3000;

/// Gives the bytes of a file, `None` when there is none. The seam by which tests need no disk.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Option<Vec<u8>>>;

/// One pair on its way into the draft.
pub(super) struct Entry<'a> {
    /// The key as written.
    pub(super) key: &'a str,
    pub(super) value: &'a str,
    pub(super) at: Location,
}

/// A pair kept until all others are known.
pub(super) struct OwnedLine {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) at: Location,
}

impl Entry<'_> {
    pub(super) fn error(&self, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.at, problem, remedy)
    }

    pub(super) fn to_owned_line(&self) -> OwnedLine {
        OwnedLine {
            key: self.key.to_owned(),
            value: self.value.to_owned(),
            at: self.at.clone(),
        }
    }

    /// A whole number as `Integer.parseInt` takes it.
    pub(super) fn int(&self) -> Result<i32, ConfigError> {
        self.value.parse().map_err(|_| {
            let problem = format!("{}={} is not a whole number of 32 bits", self.key, self.value);
            self.error(problem, "write decimal digits without blanks")
        })
    }

    /// A floating-point number.
    pub(super) fn real(&self) -> Result<f64, ConfigError> {
        self.value
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| {
                self.error(
                    format!("{}={} is not a number", self.key, self.value),
                    "write a number such as 0.02",
                )
            })
    }

    /// `true` or `false` in any case.
    pub(super) fn flag(&self) -> Result<bool, ConfigError> {
        match self.value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.error(
                format!("{}={} is neither true nor false", self.key, self.value),
                "write one of them",
            )),
        }
    }

    /// A TCP port; 0 stands for any free one.
    pub(super) fn port(&self) -> Result<u16, ConfigError> {
        u16::try_from(self.int()?).map_err(|_| {
            self.error(
                format!("{}={} is not a port", self.key, self.value),
                "write a number from 0 to 65535",
            )
        })
    }
}

/// What an authentication provider class of Java's stands for.
pub(super) enum AuthProvider {
    Ip,
    Digest,
    Ensemble,
    /// Something else, described.
    Other(&'static str),
}

impl AuthProvider {
    pub(super) fn from_class(class: &str) -> AuthProvider {
        match class.strip_prefix("org.apache.zookeeper.server.auth.") {
            Some("IPAuthenticationProvider") => AuthProvider::Ip,
            Some("DigestAuthenticationProvider") => AuthProvider::Digest,
            Some("EnsembleAuthenticationProvider") => AuthProvider::Ensemble,
            Some("SASLAuthenticationProvider") => AuthProvider::Other("authentication scheme sasl"),
            Some("X509AuthenticationProvider") => AuthProvider::Other("authentication scheme x509"),
            _ => AuthProvider::Other("authentication by this class; ACLs of its scheme match nobody"),
        }
    }
}

/// The pieces of [`ConnectionThrottleConfig`] as given.
#[derive(Default)]
pub(super) struct ThrottleDraft {
    pub(super) tokens: Option<u32>,
    pub(super) fill_time: Option<Duration>,
    pub(super) fill_count: Option<u32>,
    pub(super) freeze_time: Option<Duration>,
    pub(super) drop_increase: Option<f64>,
    pub(super) drop_decrease: Option<f64>,
    pub(super) decrease_ratio: Option<f64>,
    pub(super) weights_enabled: bool,
    pub(super) global_session_weight: Option<u32>,
    pub(super) renew_session_weight: Option<u32>,
    pub(super) local_session_weight: Option<u32>,
}

impl ThrottleDraft {
    fn resolve(&self) -> Option<ConnectionThrottleConfig> {
        let local = self.local_session_weight.unwrap_or(1);
        // A weight below the local one is raised to it, as in ZooKeeper.
        let weight = |given: Option<u32>, default: u32| given.unwrap_or(default).max(local);
        let (global, renew, local) = match self.weights_enabled {
            true => (
                weight(self.global_session_weight, 3),
                weight(self.renew_session_weight, 2),
                local,
            ),
            false => (1, 1, 1),
        };
        Some(ConnectionThrottleConfig {
            // Tokens are configured in global sessions.
            tokens_max: self.tokens?.saturating_mul(global),
            fill_time: self.fill_time.unwrap_or(Duration::from_millis(1)),
            fill_count: self.fill_count.unwrap_or(1).saturating_mul(global),
            freeze_time: self.freeze_time,
            drop_increase: self.drop_increase.unwrap_or(0.02),
            drop_decrease: self.drop_decrease.unwrap_or(0.002),
            decrease_ratio: self.decrease_ratio.unwrap_or(0.0),
            global_session_weight: global,
            renew_session_weight: renew,
            local_session_weight: local,
        })
    }
}

/// Flags that are only checked against one another.
#[derive(Default)]
pub(super) struct QuorumSasl {
    pub(super) enabled: bool,
    pub(super) learner_requires: Option<Location>,
    pub(super) server_requires: Option<Location>,
}

/// A configuration in the making: what stands alone is in `config` already, what must be seen together waits.
pub(super) struct Draft {
    pub(super) config: ServerConfig,
    pub(super) client_port: Option<(u16, Location)>,
    pub(super) client_port_address: Option<(String, Location)>,
    pub(super) secure_client_port_is_set: bool,
    pub(super) secure_client_port_address: Option<Location>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) data_log_dir: Option<PathBuf>,
    pub(super) tick_time: Option<(i32, Location)>,
    pub(super) min_session_timeout: Option<(i32, Location)>,
    pub(super) max_session_timeout: Option<(i32, Location)>,
    pub(super) write_queue_poll_time: Option<Duration>,
    pub(super) record_extra_bytes: Option<i64>,
    pub(super) throttle: ThrottleDraft,
    pub(super) enforce_auth: Option<Location>,
    pub(super) enforced_schemes: Option<(BTreeSet<String>, Location)>,
    pub(super) digest_provider_is_named: bool,
    pub(super) ensemble_names: Option<BTreeSet<String>>,
    pub(super) read_only_mode: bool,
    pub(super) quorum_sasl: QuorumSasl,
    pub(super) ensemble: EnsembleDraft,
    notices: Vec<Notice>,
    pub(super) problems: Vec<ConfigError>,
}

impl Draft {
    fn new() -> Draft {
        Draft {
            config: ServerConfig::new("", 0),
            client_port: None,
            client_port_address: None,
            secure_client_port_is_set: false,
            secure_client_port_address: None,
            data_dir: None,
            data_log_dir: None,
            tick_time: None,
            min_session_timeout: None,
            max_session_timeout: None,
            write_queue_poll_time: None,
            record_extra_bytes: None,
            throttle: ThrottleDraft::default(),
            enforce_auth: None,
            enforced_schemes: None,
            digest_provider_is_named: false,
            ensemble_names: None,
            read_only_mode: false,
            quorum_sasl: QuorumSasl::default(),
            ensemble: EnsembleDraft::default(),
            notices: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn notice(&mut self, level: NoticeLevel, at: &Location, text: impl Into<String>) {
        self.notices.push(Notice {
            level,
            at: at.clone(),
            text: text.into(),
        });
    }

    /// Warns with `key=value` in front; not for secrets.
    pub(super) fn warn(&mut self, entry: &Entry<'_>, what: &str) {
        self.warn_text(entry, format!("{}={} {what}", entry.key, entry.value));
    }

    pub(super) fn warn_text(&mut self, entry: &Entry<'_>, text: impl Into<String>) {
        self.notice(NoticeLevel::Warning, &entry.at, text);
    }

    pub(super) fn fail(&mut self, at: &Location, problem: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(ConfigError::new(at, problem, remedy));
    }

    /// A system property that is a whole number. ZooKeeper falls back to the default without a word when it is
    /// none; here the fallback is the same, with a warning. The same goes for numbers out of `low..=high`.
    pub(super) fn property_i64(&mut self, entry: &Entry<'_>, low: i64, high: i64) -> Option<i64> {
        let number = decode_integer(entry.value).filter(|number| (low..=high).contains(number));
        if number.is_none() {
            let range = match (low > i32::MIN.into(), high < i64::MAX) {
                (true, _) => format!("of at least {low}"),
                (false, true) => "of 32 bits".to_owned(),
                (false, false) => "of 64 bits".to_owned(),
            };
            self.warn(
                entry,
                &format!("is not a whole number {range}: the default is used"),
            );
        }
        number
    }

    /// As [`Draft::property_i64`], for a number from `low` to `i32::MAX`.
    pub(super) fn property_u32(&mut self, entry: &Entry<'_>, low: u32) -> Option<u32> {
        self.property_i64(entry, low.into(), i32::MAX.into())
            .and_then(|number| u32::try_from(number).ok())
    }

    /// A number of which 0 and less mean "no limit".
    pub(super) fn property_limit(&mut self, entry: &Entry<'_>) -> Option<Option<u32>> {
        let number = self.property_i64(entry, i32::MIN.into(), i32::MAX.into())?;
        Some(u32::try_from(number).ok().filter(|&number| number > 0))
    }

    /// Milliseconds of at least `low`; a negative number that `low` admits counts as none at all.
    pub(super) fn property_millis(&mut self, entry: &Entry<'_>, low: i64) -> Option<Duration> {
        let number = self.property_i64(entry, low, i64::MAX)?;
        Some(Duration::from_millis(u64::try_from(number).unwrap_or(0)))
    }

    /// A system property that is a flag: `true` in any case, anything else is false.
    pub(super) fn property_flag(&mut self, entry: &Entry<'_>) -> bool {
        let is_true = entry.value.eq_ignore_ascii_case("true");
        if !is_true && !entry.value.eq_ignore_ascii_case("false") {
            self.warn(
                entry,
                "is neither true nor false: taken as false, as in ZooKeeper",
            );
        }
        is_true
    }

    /// The path of a directory.
    pub(super) fn directory(&mut self, entry: &Entry<'_>) -> PathBuf {
        if entry.value.is_empty() {
            self.fail(
                &entry.at,
                format!("{} is empty", entry.key),
                "write the path of a directory",
            );
        }
        let path = PathBuf::from(entry.value);
        if path.is_relative() && !entry.value.starts_with('.') {
            self.warn(
                entry,
                "is relative to the working directory: begin it with ./ if that is meant",
            );
        }
        path
    }

    /// Takes one pair over and says what there is to say about it.
    fn apply(&mut self, setting: &Setting, entry: &Entry<'_>) {
        if let Err(problem) = (setting.apply)(self, entry) {
            self.problems.push(problem);
            return;
        }
        let is_inert = setting
            .inert_value
            .is_some_and(|inert| entry.value.eq_ignore_ascii_case(inert));
        let key = entry.key;
        match setting.disposition {
            Disposition::Honoured => {}
            Disposition::WithoutEffect(because) => {
                self.notice(
                    NoticeLevel::Info,
                    &entry.at,
                    format!("{key} has no effect: {because}"),
                );
            }
            // What becomes of them is known when the server list is.
            Disposition::EnsembleOnly => self.ensemble.keys.push((key.to_owned(), entry.at.clone(), None)),
            Disposition::EnsembleNotYet(what) => {
                let missing = (!is_inert).then_some(what);
                self.ensemble
                    .keys
                    .push((key.to_owned(), entry.at.clone(), missing));
            }
            Disposition::NotSupportedYet(_) if is_inert => {}
            Disposition::NotSupportedYet(what) => {
                self.notice(
                    NoticeLevel::Warning,
                    &entry.at,
                    format!("not supported yet: {what} ({key})"),
                );
            }
        }
    }

    /// Hands the pairs of `raw` to the table; of several with one meaning the last counts.
    pub(super) fn apply_all(&mut self, file: &Arc<str>, raw: &RawConfig) {
        let mut last_line: BTreeMap<&str, usize> = BTreeMap::new();
        let meaning = |key: &'_ str| match table::find(key) {
            // Both spellings of one property are one setting.
            Some(_) if !table::is_known_as_written(key) => "zookeeper.".len(),
            _ => 0,
        };
        for (index, entry) in raw.entries.iter().enumerate() {
            last_line.insert(&entry.key[meaning(&entry.key)..], index);
        }
        for (index, pair) in raw.entries.iter().enumerate() {
            let entry = Entry {
                key: &pair.key,
                value: &pair.value,
                at: Location {
                    file: Arc::clone(file),
                    line: Some(pair.line),
                },
            };
            let counting = last_line[&pair.key[meaning(&pair.key)..]];
            if counting != index {
                let text = format!(
                    "{} is given again in line {}, which counts",
                    pair.key, raw.entries[counting].line
                );
                self.warn_text(&entry, text);
                continue;
            }
            match table::find(&pair.key) {
                Some(setting) => self.apply(setting, &entry),
                None => {
                    let hint = match table::nearest(&pair.key) {
                        Some(near) => format!("; did you mean {near}?"),
                        None => String::new(),
                    };
                    self.warn_text(&entry, format!("unknown key {} has no effect{hint}", pair.key));
                }
            }
        }
    }

    /// Checks what depends on several settings, in ZooKeeper's order.
    fn finish(mut self, whole: &Location, read_file: ReadFile<'_>) -> Result<LoadedConfig, InvalidConfig> {
        self.finish_quorum_sasl();
        self.finish_directories(whole);
        self.finish_client_port();
        self.finish_session();
        self.finish_auth();
        let storage = &mut self.config.storage;
        storage.write_queue_poll_time_max = self.write_queue_poll_time.unwrap_or(storage.flush_delay / 3);
        let limits = &mut self.config.limits;
        let extra = self.record_extra_bytes.unwrap_or(limits.frame_bytes_max.into());
        limits.record_extra_bytes = u32::try_from(extra).unwrap_or(0).max(1024);
        limits.connection_throttle = self.throttle.resolve();
        if self.read_only_mode {
            self.config.four_letter.allowed.insert("isro".to_owned());
        }
        self.finish_membership(whole, read_file);
        // In the order of the file; what is about a file as a whole, and the dynamic file, come last.
        self.notices.sort_by_key(|notice| {
            (
                notice.at.file != whole.file,
                notice.at.line.is_none(),
                notice.at.line,
            )
        });
        if self.problems.is_empty() {
            return Ok(LoadedConfig {
                config: self.config,
                notices: self.notices,
            });
        }
        self.problems
            .sort_by_key(|problem| (problem.at.line.is_none(), problem.at.line));
        Err(InvalidConfig {
            problems: self.problems,
        })
    }

    fn finish_quorum_sasl(&mut self) {
        let QuorumSasl {
            enabled,
            learner_requires,
            server_requires,
        } = std::mem::take(&mut self.quorum_sasl);
        for (required, name) in [
            (&server_requires, "quorum.auth.serverRequireSasl"),
            (&learner_requires, "quorum.auth.learnerRequireSasl"),
        ] {
            if let (Some(at), false) = (required, enabled) {
                let problem = format!("{name} is true but quorum.auth.enableSasl is not");
                self.fail(at, problem, "set quorum.auth.enableSasl=true or remove the line");
            }
        }
        self.ensemble.sasl = learner_requires.clone().or(server_requires.clone());
        if let (Some(at), None) = (&server_requires, &learner_requires) {
            let problem = "quorum.auth.serverRequireSasl is true but quorum.auth.learnerRequireSasl is not";
            self.fail(at, problem, "set both");
        }
    }

    fn finish_directories(&mut self, whole: &Location) {
        match self.data_dir.take() {
            Some(path) => self.config.storage.data_dir = path,
            None => self.fail(
                whole,
                "dataDir is not set",
                "add a line such as dataDir=/var/lib/zookeeper",
            ),
        }
        let storage = &mut self.config.storage;
        storage.log_dir = self
            .data_log_dir
            .take()
            .unwrap_or_else(|| storage.data_dir.clone());
    }

    fn finish_client_port(&mut self) {
        if let Some((address, at)) = self.client_port_address.take() {
            if self.client_port.is_none() {
                self.fail(
                    &at,
                    "clientPortAddress is set but clientPort is not",
                    "add a line such as clientPort=2181",
                );
            } else {
                match resolve_host(&address) {
                    Ok(ip) => self.config.client.address = ip,
                    Err(error) => {
                        let problem = format!("clientPortAddress={address} cannot be resolved: {error}");
                        self.fail(
                            &at,
                            problem,
                            "write an address of this host, or remove the line to listen on all",
                        );
                    }
                }
            }
        }
        if let Some((port, _)) = &self.client_port {
            self.config.client.port = *port;
        }
        if let (Some(at), false) = (
            self.secure_client_port_address.take(),
            self.secure_client_port_is_set,
        ) {
            let problem = "secureClientPortAddress is set but secureClientPort is not";
            self.fail(&at, problem, "remove the line (TLS is not supported yet)");
        }
    }

    fn finish_session(&mut self) {
        let (tick, tick_at) = match self.tick_time.take() {
            Some((tick, at)) => (tick, Some(at)),
            None => (DEFAULT_TICK_TIME_MS, None),
        };
        if let (..1, Some(at)) = (tick, tick_at) {
            let problem = format!("tickTime={tick} is not positive");
            return self.fail(&at, problem, "write milliseconds, for example tickTime=2000");
        }
        let in_ticks = |timeout: Option<(i32, Location)>, ticks: i32| match timeout {
            Some((-1, at)) => (tick.saturating_mul(ticks), Some(at)),
            Some((timeout, at)) => (timeout, Some(at)),
            None => (tick.saturating_mul(ticks), None),
        };
        let (min, min_at) = in_ticks(self.min_session_timeout.take(), 2);
        let (max, max_at) = in_ticks(self.max_session_timeout.take(), 20);
        if let (..0, Some(at)) = (min, &min_at) {
            let problem = format!("minSessionTimeout={min} is negative");
            return self.fail(at, problem, "write milliseconds, or -1 for 2 × tickTime");
        }
        if let (true, Some(at)) = (min > max, max_at.or(min_at)) {
            let problem = format!("minSessionTimeout ({min} ms) is larger than maxSessionTimeout ({max} ms)");
            return self.fail(
                &at,
                problem,
                "raise maxSessionTimeout; the defaults are 2 × and 20 × tickTime",
            );
        }
        let session = &mut self.config.session;
        session.tick_time_ms = tick.unsigned_abs();
        session.timeout_ms_min = min.unsigned_abs();
        session.timeout_ms_max = max.unsigned_abs();
    }

    fn finish_auth(&mut self) {
        let auth = &mut self.config.auth;
        auth.digest_enabled |= self.digest_provider_is_named;
        if let (Some(ensemble), names @ Some(_)) = (&mut auth.ensemble, self.ensemble_names.take()) {
            ensemble.names = names;
        }
        let Some(at) = self.enforce_auth.take() else {
            return;
        };
        let Some((schemes, schemes_at)) = self.enforced_schemes.take() else {
            let remedy = "add a line such as enforce.auth.schemes=digest";
            return self.fail(
                &at,
                "enforce.auth.enabled is true but enforce.auth.schemes is not set",
                remedy,
            );
        };
        for scheme in &schemes {
            let exists = match scheme.as_str() {
                "ip" => true,
                "digest" => self.config.auth.digest_enabled,
                "ensemble" => self.config.auth.ensemble.is_some(),
                _ => false,
            };
            if !exists {
                let problem = match scheme.as_str() {
                    "sasl" | "x509" => format!("not supported yet: authentication scheme {scheme}"),
                    _ => format!("authentication scheme {scheme} does not exist on this server"),
                };
                self.fail(
                    &schemes_at,
                    problem,
                    "name schemes that are switched on, for example digest",
                );
            }
        }
        self.config.auth.enforced_schemes = schemes;
    }
}

/// Reads and parses one file. Errors name the file as given.
pub(super) fn read_properties(
    name: &str,
    read_file: ReadFile<'_>,
) -> Result<(Arc<str>, RawConfig), ConfigError> {
    let whole = Location::whole(name);
    let bytes = match read_file(Path::new(name)) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(ConfigError::new(&whole, "does not exist", "check the path")),
        Err(error) => {
            return Err(ConfigError::new(
                &whole,
                format!("cannot be read: {error}"),
                "check the path and its rights",
            ));
        }
    };
    let raw = properties::parse(&bytes).map_err(|error| {
        let at = Location {
            line: Some(error.line),
            ..whole.clone()
        };
        ConfigError::new(&at, error.to_string(), "write a backslash as \\\\")
    })?;
    Ok((whole.file, raw))
}

/// Checks a whole configuration. `file` is its name in messages; `read_file` is asked for `myid` and for the
/// file that `dynamicConfigFile` names.
pub(super) fn resolve(
    file: &Arc<str>,
    raw: &RawConfig,
    read_file: ReadFile<'_>,
) -> Result<LoadedConfig, InvalidConfig> {
    let mut draft = Draft::new();
    draft.apply_all(file, raw);
    draft.finish(
        &Location {
            file: Arc::clone(file),
            line: None,
        },
        read_file,
    )
}

/// An address to bind; `None` is every interface. Java binds both families for `0.0.0.0` too.
pub(super) fn resolve_host(host: &str) -> io::Result<Option<IpAddr>> {
    let bracketless = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let found: Vec<SocketAddr> = (bracketless, 0).to_socket_addrs()?.collect();
    // Java prefers IPv4 when a name has both.
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    match address {
        Some(address) => Ok(Some(address.ip()).filter(|ip| !ip.is_unspecified())),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "no address found")),
    }
}

/// A whole number as Java's `Long.decode` takes it: decimal, `0x`, `0X` or `#` hexadecimal, leading `0` octal.
fn decode_integer(text: &str) -> Option<i64> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match magnitude {
        "0" => (10, "0"),
        _ => match magnitude
            .strip_prefix("0x")
            .or(magnitude.strip_prefix("0X"))
            .or(magnitude.strip_prefix('#'))
        {
            Some(hexadecimal) => (16, hexadecimal),
            None => magnitude
                .strip_prefix('0')
                .map_or((10, magnitude), |octal| (8, octal)),
        },
    };
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -number } else { number }).ok()
}
