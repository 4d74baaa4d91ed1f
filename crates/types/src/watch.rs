//! The vocabulary of watches (client spec, section 8).

/// What a watch event tells. Only these are ever sent by a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WatchEventKind {
    /// The znode was created.
    Created = 1,
    /// The znode was deleted.
    Deleted = 2,
    /// The data of the znode changed.
    DataChanged = 3,
    /// A child of the znode was created or deleted.
    ChildrenChanged = 4,
}

impl WatchEventKind {
    /// The number on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }
}

/// The modes of the operation addWatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum AddWatchMode {
    /// Stays armed; tells of the znode and of its children coming and going.
    Persistent = 0,
    /// Stays armed; tells of the znode and of all its descendants.
    PersistentRecursive = 1,
}

impl AddWatchMode {
    /// The mode of a number, if there is one.
    pub fn from_code(code: i32) -> Option<AddWatchMode> {
        match code {
            0 => Some(AddWatchMode::Persistent),
            1 => Some(AddWatchMode::PersistentRecursive),
            _ => None,
        }
    }
}

/// Which watches removeWatches and checkWatches mean (client spec, section 8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WatchSelector {
    /// One-shot child watches.
    Children = 1,
    /// One-shot data and exist watches.
    Data = 2,
    /// All of any mode.
    Any = 3,
    /// Persistent ones.
    Persistent = 4,
    /// Persistent recursive ones.
    PersistentRecursive = 5,
}

impl WatchSelector {
    /// The selector of a number, if there is one.
    pub fn from_code(code: i32) -> Option<WatchSelector> {
        match code {
            1 => Some(WatchSelector::Children),
            2 => Some(WatchSelector::Data),
            3 => Some(WatchSelector::Any),
            4 => Some(WatchSelector::Persistent),
            5 => Some(WatchSelector::PersistentRecursive),
            _ => None,
        }
    }
}
