//! Identifiers that are numbers, each with a type of its own.

use std::fmt;

/// The id of a txn: the epoch of the leader that proposed it in the high 32 bits, its place in that epoch in the
/// low 32. Ordered as ZAB orders txns. Zero means "before the first txn".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before the first txn.
    pub const ZERO: Zxid = Zxid(0);

    /// The zxid of txn `counter` of `epoch`.
    pub fn new(epoch: u32, counter: u32) -> Zxid {
        Zxid((i64::from(epoch) << 32) | i64::from(counter))
    }

    /// The epoch of the leader that proposed the txn.
    pub fn epoch(self) -> u32 {
        u32::try_from((self.0 >> 32) & 0xffff_ffff).unwrap_or_default()
    }

    /// The place of the txn in its epoch, counted from 1.
    pub fn counter(self) -> u32 {
        u32::try_from(self.0 & 0xffff_ffff).unwrap_or_default()
    }

    /// The zxid after this one. Whoever leads must have begun a new epoch before the counter is used up.
    ///
    /// # Panics
    /// When the counter of the epoch is used up: going on would forge a txn of the next epoch.
    pub fn next(self) -> Zxid {
        assert!(
            self.counter() != u32::MAX,
            "the zxid counter of epoch {} is used up",
            self.epoch()
        );
        Zxid(self.0 + 1)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::LowerHex for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// The id of a session. Zero means "no session": the caller of what the server does by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl SessionId {
    /// No session.
    pub const NONE: SessionId = SessionId(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// The number of a server in its ensemble, from `myid` and the `server.N` lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub i64);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zxid_packs_epoch_above_counter() {
        let zxid = Zxid::new(5, 7);
        assert_eq!((zxid.epoch(), zxid.counter(), zxid.0), (5, 7, 0x5_0000_0007));
        assert!(Zxid::new(5, u32::MAX) < Zxid::new(6, 0));
        assert_eq!(zxid.next(), Zxid::new(5, 8));
    }

    #[test]
    #[should_panic(expected = "used up")]
    fn zxid_never_runs_over_into_the_next_epoch() {
        let _ = Zxid::new(1, u32::MAX).next();
    }
}
