//! Who wants to be told of which change (client spec, section 8).
//!
//! Watches belong to a connection and to an exact path. Of each connection and path there is one entry with a set of
//! modes, so setting the same watch twice keeps one, and a data and an exist watch share a slot.
//!
//! Each `fire_*` is one look-up of the specification's table: it names each connection at most once, whatever modes
//! it has on the path and its ancestors, and disarms one-shot watches in the same step (W3).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use oxkeeper_types::{AddWatchMode, ROOT_PATH, WatchSelector, split_path};
use smallvec::SmallVec;

/// A connection of a client, numbered by this server; numbers are never used again while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The connections that one look-up tells.
pub type Told = SmallVec<[ConnectionId; 8]>;

/// A set of watch modes that one connection has on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Modes(u8);

impl Modes {
    const NONE: Modes = Modes(0);
    const DATA_ONCE: Modes = Modes(1);
    const CHILD_ONCE: Modes = Modes(2);
    /// Persistent watches are looked up for data and for children. The two bits differ only after removals that
    /// Java makes in both tables at once, so they are one.
    const PERSISTENT: Modes = Modes(4);
    const RECURSIVE: Modes = Modes(8);

    fn intersects(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }

    fn with(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }

    fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }
}

fn selected(selector: WatchSelector) -> Modes {
    match selector {
        WatchSelector::Children => Modes::CHILD_ONCE,
        WatchSelector::Data => Modes::DATA_ONCE,
        WatchSelector::Persistent => Modes::PERSISTENT,
        WatchSelector::PersistentRecursive => Modes::RECURSIVE,
        WatchSelector::Any => Modes(15),
    }
}

/// The watchers of one path, sorted by connection.
type Watchers = SmallVec<[(ConnectionId, Modes); 1]>;

/// All watches of the clients of this server.
#[derive(Debug, Default)]
pub struct Watches {
    by_path: HashMap<Arc<str>, Watchers>,
    /// Exactly the paths on which the connection has an entry in `by_path`.
    by_connection: HashMap<ConnectionId, HashSet<Arc<str>>>,
    /// How many entries have the recursive mode; while there are none, ancestors need no look-up.
    recursive: usize,
}

/// What `wchs` counts: watches as seen in the data table alone, persistent ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSummary {
    /// Connections with such a watch.
    pub connections: usize,
    /// Paths with such a watch.
    pub paths: usize,
    /// Pairs of the two.
    pub watches: usize,
}

impl Watches {
    /// Leaves a one-shot watch for the data (or existence) of `path`.
    pub fn add_data(&mut self, connection: ConnectionId, path: &str) {
        self.add(connection, path, Modes::DATA_ONCE);
    }

    /// Leaves a one-shot watch for the children of `path`.
    pub fn add_child(&mut self, connection: ConnectionId, path: &str) {
        self.add(connection, path, Modes::CHILD_ONCE);
    }

    /// Leaves a watch that stays.
    pub fn add_lasting(&mut self, connection: ConnectionId, path: &str, mode: AddWatchMode) {
        let mode = match mode {
            AddWatchMode::Persistent => Modes::PERSISTENT,
            AddWatchMode::PersistentRecursive => Modes::RECURSIVE,
        };
        self.add(connection, path, mode);
    }

    fn add(&mut self, connection: ConnectionId, path: &str, mode: Modes) {
        let path = match self.by_path.get_key_value(path) {
            Some((path, _)) => path.clone(),
            None => Arc::from(path),
        };
        let watchers = self.by_path.entry(path.clone()).or_default();
        match watchers.binary_search_by_key(&connection, |&(c, _)| c) {
            Ok(at) => {
                self.recursive += usize::from(mode == Modes::RECURSIVE && !watchers[at].1.intersects(mode));
                watchers[at].1 = watchers[at].1.with(mode);
            }
            Err(at) => {
                self.recursive += usize::from(mode == Modes::RECURSIVE);
                watchers.insert(at, (connection, mode));
                self.by_connection.entry(connection).or_default().insert(path);
            }
        }
    }

    /// Whether `connection` has a watch on exactly `path` that `selector` means.
    pub fn contains(&self, connection: ConnectionId, path: &str, selector: WatchSelector) -> bool {
        self.by_path.get(path).is_some_and(|watchers| {
            watchers
                .binary_search_by_key(&connection, |&(c, _)| c)
                .is_ok_and(|at| watchers[at].1.intersects(selected(selector)))
        })
    }

    /// Removes what `selector` means of the watches of `connection` on exactly `path`; false when there was none.
    pub fn remove(&mut self, connection: ConnectionId, path: &str, selector: WatchSelector) -> bool {
        let found = self.contains(connection, path, selector);
        if found {
            self.disarm(connection, path, selected(selector));
        }
        found
    }

    /// Forgets all watches of a connection that ended.
    pub fn drop_connection(&mut self, connection: ConnectionId) {
        for path in self.by_connection.remove(&connection).unwrap_or_default() {
            let Some(watchers) = self.by_path.get_mut(&path) else {
                continue;
            };
            if let Ok(at) = watchers.binary_search_by_key(&connection, |&(c, _)| c) {
                self.recursive -= usize::from(watchers[at].1.intersects(Modes::RECURSIVE));
                watchers.remove(at);
            }
            if watchers.is_empty() {
                self.by_path.remove(&path);
            }
        }
    }

    /// Takes `modes` away from an entry, and the entry away when nothing is left of it.
    fn disarm(&mut self, connection: ConnectionId, path: &str, modes: Modes) {
        let Some(watchers) = self.by_path.get_mut(path) else {
            return;
        };
        let Ok(at) = watchers.binary_search_by_key(&connection, |&(c, _)| c) else {
            return;
        };
        let before = watchers[at].1;
        let left = before.without(modes);
        self.recursive -=
            usize::from(before.intersects(Modes::RECURSIVE) && !left.intersects(Modes::RECURSIVE));
        watchers[at].1 = left;
        if left == Modes::NONE {
            watchers.remove(at);
            if watchers.is_empty() {
                self.by_path.remove(path);
            }
            if let Some(paths) = self.by_connection.get_mut(&connection) {
                paths.remove(path);
                if paths.is_empty() {
                    self.by_connection.remove(&connection);
                }
            }
        }
    }

    /// The connections to tell that `path` itself was created, deleted or had its data changed.
    pub fn fire_data(&mut self, path: &str) -> Told {
        let mut told = self.fire(path, Modes::DATA_ONCE, Modes::PERSISTENT.with(Modes::RECURSIVE));
        let mut at = path;
        while self.recursive > 0
            && let Some((parent, _)) = split_path(at)
        {
            for &(connection, modes) in self.by_path.get(parent).into_iter().flatten() {
                if modes.intersects(Modes::RECURSIVE) && !told.contains(&connection) {
                    told.push(connection);
                }
            }
            at = parent;
        }
        told
    }

    /// The connections to tell of a change among the children of `path`, or, through its child watches, of its
    /// deletion.
    pub fn fire_child(&mut self, path: &str) -> Told {
        self.fire(
            if path.is_empty() { ROOT_PATH } else { path },
            Modes::CHILD_ONCE,
            Modes::PERSISTENT,
        )
    }

    fn fire(&mut self, path: &str, once: Modes, lasting: Modes) -> Told {
        let mut told = Told::new();
        let mut disarmed = Told::new();
        for &(connection, modes) in self.by_path.get(path).into_iter().flatten() {
            if modes.intersects(once.with(lasting)) {
                told.push(connection);
            }
            if modes.intersects(once) {
                disarmed.push(connection);
            }
        }
        for connection in disarmed {
            self.disarm(connection, path, once);
        }
        told
    }

    /// The number of data and child watches, as `mntr` counts them: a persistent watch is in both tables.
    pub fn count(&self) -> usize {
        self.by_path
            .values()
            .flatten()
            .map(|&(_, modes)| {
                usize::from(in_data_table(modes))
                    + usize::from(modes.intersects(Modes::CHILD_ONCE.with(Modes::PERSISTENT)))
            })
            .sum()
    }

    /// What `wchs` shows.
    pub fn summary(&self) -> WatchSummary {
        let pairs = || self.data_watches();
        WatchSummary {
            connections: pairs()
                .map(|(_, connection)| connection)
                .collect::<HashSet<_>>()
                .len(),
            paths: pairs().map(|(path, _)| path).collect::<HashSet<_>>().len(),
            watches: pairs().count(),
        }
    }

    /// The data watches, persistent ones included: what `wchc` and `wchp` list, in no particular order.
    pub fn data_watches(&self) -> impl Iterator<Item = (&str, ConnectionId)> {
        self.by_path.iter().flat_map(|(path, watchers)| {
            watchers
                .iter()
                .filter(|(_, modes)| in_data_table(*modes))
                .map(|&(connection, _)| (path.as_ref(), connection))
        })
    }
}

/// Java keeps two tables; all modes but one-shot child watches are in the one for data.
fn in_data_table(modes: Modes) -> bool {
    modes.intersects(Modes::DATA_ONCE.with(Modes::PERSISTENT).with(Modes::RECURSIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    fn told(of: Told) -> Vec<u64> {
        let mut ids: Vec<u64> = of.iter().map(|c| c.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn one_shot_watches_fire_once_each() {
        let mut watches = Watches::default();
        watches.add_data(A, "/x");
        watches.add_data(A, "/x");
        watches.add_child(B, "/x");
        assert_eq!(told(watches.fire_data("/x")), [1]);
        assert_eq!(told(watches.fire_data("/x")), [] as [u64; 0]);
        assert_eq!(told(watches.fire_child("/x")), [2]);
        assert_eq!(watches.count(), 0);
        assert!(watches.by_path.is_empty() && watches.by_connection.is_empty());
    }

    #[test]
    fn persistent_watches_stay_and_hear_of_children() {
        let mut watches = Watches::default();
        watches.add_lasting(A, "/x", AddWatchMode::Persistent);
        for _ in 0..2 {
            assert_eq!(told(watches.fire_data("/x")), [1]);
            assert_eq!(told(watches.fire_child("/x")), [1]);
        }
        assert!(watches.fire_data("/x/y").is_empty());
    }

    #[test]
    fn recursive_watches_hear_of_descendants_once_and_never_of_children_changing() {
        let mut watches = Watches::default();
        watches.add_lasting(A, "/", AddWatchMode::PersistentRecursive);
        watches.add_lasting(A, "/x", AddWatchMode::PersistentRecursive);
        watches.add_data(A, "/x/y");
        assert_eq!(told(watches.fire_data("/x/y")), [1]);
        assert_eq!(told(watches.fire_data("/x/y/z")), [1]);
        assert!(watches.fire_child("/x").is_empty());
        assert_eq!(told(watches.fire_data("/other")), [1]);
    }

    #[test]
    fn removal_takes_only_what_the_selector_means() {
        let mut watches = Watches::default();
        watches.add_data(A, "/x");
        watches.add_child(A, "/x");
        watches.add_lasting(A, "/x", AddWatchMode::Persistent);
        watches.add_lasting(A, "/x", AddWatchMode::PersistentRecursive);
        assert!(watches.remove(A, "/x", WatchSelector::Data));
        assert!(!watches.remove(A, "/x", WatchSelector::Data));
        assert!(watches.contains(A, "/x", WatchSelector::Persistent));
        assert!(watches.remove(A, "/x", WatchSelector::Any));
        assert!(!watches.contains(A, "/x", WatchSelector::Any));
        assert!(!watches.remove(B, "/x", WatchSelector::Any));
        assert_eq!(watches.recursive, 0);
    }

    #[test]
    fn a_dropped_connection_leaves_nothing() {
        let mut watches = Watches::default();
        for path in ["/x", "/y"] {
            watches.add_data(A, path);
            watches.add_lasting(A, path, AddWatchMode::PersistentRecursive);
            watches.add_child(B, path);
        }
        watches.drop_connection(A);
        assert_eq!(watches.recursive, 0);
        assert!(watches.fire_data("/x").is_empty());
        assert_eq!(told(watches.fire_child("/x")), [2]);
    }

    #[test]
    fn summaries_count_the_data_table() {
        let mut watches = Watches::default();
        watches.add_data(A, "/x");
        watches.add_child(B, "/y");
        watches.add_lasting(B, "/x", AddWatchMode::Persistent);
        assert_eq!(
            watches.summary(),
            WatchSummary {
                connections: 2,
                paths: 1,
                watches: 2
            }
        );
        assert_eq!(watches.count(), 4);
    }
}
