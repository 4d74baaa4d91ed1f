//! ACL lists, each kept once.
//!
//! A znode knows its list by a slot. Slots are used again; the keys that snapshots show are not, as in Java: a key
//! must not change its meaning while a snapshot is being written.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;
use hashbrown::HashTable;
use oxkeeper_types::{Acl, Permissions};

/// The key of the open ACL in snapshots; it is never in their tables.
pub(crate) const OPEN_KEY: i64 = -1;
/// A key that no snapshot has in its table, for a list that was missing when the tree was restored.
pub(crate) const MISSING_KEY: i64 = 0;

/// The place of an ACL list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AclSlot(u32);

impl AclSlot {
    /// Everybody may do everything; not counted.
    pub(crate) const OPEN: AclSlot = AclSlot(u32::MAX);
    /// The list was not in the snapshot: nobody may do anything until the log brings the list. Not counted.
    pub(crate) const MISSING: AclSlot = AclSlot(u32::MAX - 1);

    fn is_counted(self) -> bool {
        self != AclSlot::OPEN && self != AclSlot::MISSING
    }
}

#[derive(Debug)]
struct Entry {
    key: i64,
    list: Arc<[Acl]>,
    /// The number of znodes that have it.
    users: u32,
}

/// All ACL lists in use.
#[derive(Debug)]
pub(crate) struct AclTable {
    entries: Vec<Option<Entry>>,
    free: Vec<AclSlot>,
    /// Slots by the hash of the list.
    by_list: HashTable<AclSlot>,
    hash_state: FixedState,
    last_key: i64,
    open: Arc<[Acl]>,
    missing: Arc<[Acl]>,
    /// Slots by key, only while a tree is restored.
    restoring: HashMap<i64, AclSlot>,
}

fn hash(state: &FixedState, list: &[Acl]) -> u64 {
    state.hash_one(list)
}

impl AclTable {
    pub(crate) fn new(hash_seed: u64) -> AclTable {
        AclTable {
            entries: Vec::new(),
            free: Vec::new(),
            by_list: HashTable::new(),
            hash_state: FixedState::with_seed(hash_seed),
            last_key: 0,
            open: Arc::new([Acl::world(Permissions::ALL)]),
            missing: Arc::new([Acl::world(Permissions(0))]),
            restoring: HashMap::new(),
        }
    }

    fn entry(&self, slot: AclSlot) -> &Entry {
        self.entries[slot.0 as usize]
            .as_ref()
            .unwrap_or_else(|| unreachable!("ACL {slot:?} is gone"))
    }

    fn entry_mut(&mut self, slot: AclSlot) -> &mut Entry {
        self.entries[slot.0 as usize]
            .as_mut()
            .unwrap_or_else(|| unreachable!("ACL {slot:?} is gone"))
    }

    /// The list of a slot.
    pub(crate) fn list(&self, slot: AclSlot) -> &Arc<[Acl]> {
        match slot {
            AclSlot::OPEN => &self.open,
            AclSlot::MISSING => &self.missing,
            _ => &self.entry(slot).list,
        }
    }

    /// The key of a slot in snapshots.
    pub(crate) fn key(&self, slot: AclSlot) -> i64 {
        match slot {
            AclSlot::OPEN => OPEN_KEY,
            AclSlot::MISSING => MISSING_KEY,
            _ => self.entry(slot).key,
        }
    }

    /// The slot of a list for one more znode.
    pub(crate) fn intern(&mut self, list: &[Acl]) -> AclSlot {
        let hash = hash(&self.hash_state, list);
        if let Some(&slot) = self.by_list.find(hash, |&slot| *self.entry(slot).list == *list) {
            self.entry_mut(slot).users += 1;
            return slot;
        }
        self.last_key += 1;
        self.insert(
            hash,
            Entry {
                key: self.last_key,
                list: list.into(),
                users: 1,
            },
        )
    }

    fn insert(&mut self, hash: u64, entry: Entry) -> AclSlot {
        let slot = self.free.pop().unwrap_or_else(|| {
            let number = u32::try_from(self.entries.len())
                .ok()
                .map(AclSlot)
                .filter(|slot| slot.is_counted());
            self.entries.push(None);
            number.expect("there are fewer than 2^32 - 2 different ACL lists")
        });
        self.entries[slot.0 as usize] = Some(entry);
        let (entries, state) = (&self.entries, &self.hash_state);
        self.by_list.insert_unique(hash, slot, |slot| {
            entries[slot.0 as usize]
                .as_ref()
                .map_or(0, |entry| self::hash(state, &entry.list))
        });
        slot
    }

    /// One more znode has a list that is already known.
    pub(crate) fn add_user(&mut self, slot: AclSlot) {
        if slot.is_counted() {
            self.entry_mut(slot).users += 1;
        }
    }

    /// A znode does not have the list any more; the last one takes the list with it.
    pub(crate) fn release(&mut self, slot: AclSlot) {
        if !slot.is_counted() {
            return;
        }
        let entry = self.entry_mut(slot);
        entry.users -= 1;
        if entry.users == 0 {
            self.remove(slot);
        }
    }

    fn remove(&mut self, slot: AclSlot) {
        let hash = hash(&self.hash_state, &self.entry(slot).list);
        self.by_list
            .find_entry(hash, |&other| other == slot)
            .unwrap_or_else(|_| unreachable!("ACL {slot:?} was never entered"))
            .remove();
        self.entries[slot.0 as usize] = None;
        self.free.push(slot);
    }

    /// The lists by key, in the order of keys.
    pub(crate) fn by_key(&self) -> Vec<(i64, Arc<[Acl]>)> {
        let mut table: Vec<(i64, Arc<[Acl]>)> = self
            .entries
            .iter()
            .flatten()
            .map(|entry| (entry.key, Arc::clone(&entry.list)))
            .collect();
        table.sort_unstable_by_key(|&(key, _)| key);
        table
    }

    /// Enters a list of a snapshot, without users so far. False when the key is not one of a list, or came before.
    pub(crate) fn restore(&mut self, key: i64, list: Vec<Acl>) -> bool {
        if key < 1 || self.restoring.contains_key(&key) {
            return false;
        }
        let hash = hash(&self.hash_state, &list);
        let slot = self.insert(
            hash,
            Entry {
                key,
                list: list.into(),
                users: 0,
            },
        );
        self.restoring.insert(key, slot);
        self.last_key = self.last_key.max(key);
        true
    }

    /// The slot of a key of a snapshot, for one more znode.
    pub(crate) fn restored(&mut self, key: i64) -> AclSlot {
        if key == OPEN_KEY {
            return AclSlot::OPEN;
        }
        let slot = self.restoring.get(&key).copied().unwrap_or(AclSlot::MISSING);
        self.add_user(slot);
        slot
    }

    /// Drops the lists that no znode turned out to have.
    pub(crate) fn finish_restore(&mut self) {
        self.restoring = HashMap::new();
        for at in 0..self.entries.len() {
            if self.entries[at].as_ref().is_some_and(|entry| entry.users == 0) {
                self.remove(AclSlot(
                    u32::try_from(at).unwrap_or_else(|_| unreachable!("slots are 32-bit")),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(permissions: i32) -> Vec<Acl> {
        vec![Acl::world(Permissions(permissions))]
    }

    #[test]
    fn equal_lists_share_a_slot_until_the_last_user_goes() {
        let mut table = AclTable::new(0);
        let first = table.intern(&list(1));
        let second = table.intern(&list(2));
        assert_eq!(table.intern(&list(1)), first);
        assert_eq!((table.key(first), table.key(second)), (1, 2));
        table.release(first);
        assert_eq!(**table.list(first), *list(1));
        table.release(first);
        assert_eq!(table.by_key().len(), 1);
        let third = table.intern(&list(3));
        assert_eq!(third, first, "the slot is used again");
        assert_eq!(table.key(third), 3, "the key is not");
    }

    #[test]
    fn restored_lists_keep_their_keys_and_unused_ones_go() {
        let mut table = AclTable::new(0);
        assert!(table.restore(7, list(1)));
        assert!(table.restore(3, list(2)));
        assert!(table.restore(5, list(1)), "the same list may come under two keys");
        assert!(!table.restore(3, list(4)));
        assert!(!table.restore(0, list(4)) && !table.restore(-1, list(4)));
        let used = table.restored(7);
        assert_eq!(table.restored(OPEN_KEY), AclSlot::OPEN);
        assert_eq!(table.restored(99), AclSlot::MISSING);
        table.finish_restore();
        assert_eq!(
            table.by_key().iter().map(|&(key, _)| key).collect::<Vec<_>>(),
            [7]
        );
        assert_eq!(table.intern(&list(1)), used);
        let new = table.intern(&list(9));
        assert_eq!(table.key(new), 8);
    }
}
