//! What a server is told about itself and its ensemble.

use std::sync::Arc;

use oxkeeper_types::ServerId;

use crate::configuration::Configuration;
use crate::message::Entry;
use crate::planted::PlantedBug;
use crate::quorum::QuorumVerifier;

/// The settings of one server. They never change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The id of this server.
    pub me: ServerId,
    /// The newest configuration that this server knows to be committed, as its files say.
    pub configuration: Arc<Configuration>,
    /// A later one that its files say may be.
    pub next_configuration: Option<Arc<Configuration>>,
    /// How to see that a txn changes the configuration, and to which. `None`: the configuration never changes
    /// (`reconfigEnabled=false`).
    pub find_configuration: Option<fn(&Entry) -> Option<Configuration>>,
    /// `tickTime`, ms.
    pub tick_ms: u64,
    /// `initLimit`: ticks for finding a quorum and for synchronising.
    pub init_limit_ticks: u64,
    /// `syncLimit`: ticks after which a silent server is given up.
    pub sync_limit_ticks: u64,
    /// How long an agreed vote waits for a better one. Java: 200 ms.
    pub election_settle_ms: u64,
    /// After how long a vote is sent again when nothing is decided; doubles each time. Java: 200 ms.
    pub notification_interval_min_ms: u64,
    /// Where the doubling ends. Java: 60 s.
    pub notification_interval_max_ms: u64,
    /// How long to wait before the leader is dialled again: the first time, then twice as long each time, up to ten
    /// times as long. All tries together must outlast the 200 ms by which a Java server may find later than we do
    /// that it is elected.
    pub connect_retry_ms: u64,
    /// How often the leader is dialled before another election. Java: 5, 100 ms apart.
    pub connect_tries_max: u32,
    /// How long a leader without a quorum of followers bears that one of its electors looks for a leader again
    /// (`zookeeper.leader.maxTimeToWaitForEpoch`); `None`: until `initLimit`, as is Java's default.
    pub epoch_wait_max_ms: Option<u64>,
    /// How many delivered txns are kept in memory for learners that come late (`commitLogCount`).
    pub window_entries_max: usize,
    /// How many bytes of delivered txns are kept in memory for them.
    pub window_bytes_max: usize,
    /// How many txns a learner keeps in memory that are not delivered or not durable: those of a synchronisation
    /// before UPTODATE, and later those that are proposed and not committed. When there are more it gives up its
    /// leader, or asks for a snapshot when it was being synchronised by txns. A leader gives up when half as many
    /// are proposed and not committed.
    pub backlog_entries_max: usize,
    /// The same in bytes.
    pub backlog_bytes_max: usize,
    /// How many connections a leader keeps that have not told who they are. When there are more it closes the
    /// oldest.
    pub unnamed_links_max: usize,
    /// How many servers that are not in the configuration a leader serves; later ones are refused.
    pub strangers_max: usize,
    /// The last counter of an epoch that is proposed; then a new epoch begins. `0xffff_fffe` in production, small
    /// in tests.
    pub counter_max: u32,
    /// The guards that a test has taken away.
    #[cfg(feature = "planted-bugs")]
    pub planted: Vec<PlantedBug>,
}

impl Settings {
    /// The settings of a server with `tickTime` 2000, `initLimit` 10 and `syncLimit` 5.
    pub fn new(me: ServerId, quorum: QuorumVerifier) -> Settings {
        Settings {
            me,
            configuration: Arc::new(Configuration::new(quorum)),
            next_configuration: None,
            find_configuration: None,
            tick_ms: 2000,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            election_settle_ms: 30,
            notification_interval_min_ms: 100,
            notification_interval_max_ms: 1000,
            connect_retry_ms: 10,
            connect_tries_max: 10,
            epoch_wait_max_ms: None,
            window_entries_max: 500,
            window_bytes_max: 64 << 20,
            backlog_entries_max: 1_000_000,
            backlog_bytes_max: 512 << 20,
            unnamed_links_max: 64,
            strangers_max: 16,
            counter_max: u32::MAX - 1,
            #[cfg(feature = "planted-bugs")]
            planted: Vec::new(),
        }
    }

    pub(crate) fn init_limit_ms(&self) -> u64 {
        self.tick_ms * self.init_limit_ticks
    }

    pub(crate) fn sync_limit_ms(&self) -> u64 {
        self.tick_ms * self.sync_limit_ticks
    }

    /// Whether the guard against `bug` is in place. Always, but in tests of the tests.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn guards(&self, bug: PlantedBug) -> bool {
        !self.planted.contains(&bug)
    }

    /// Whether the guard against `bug` is in place.
    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) fn guards(&self, _bug: PlantedBug) -> bool {
        true
    }
}
