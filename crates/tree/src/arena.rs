//! Where znodes live: slots addressed by 32-bit ids, in chunks that never move.
//!
//! Growing takes one more chunk and copies nothing, so a tree of millions of znodes grows without a pause.

use oxkeeper_types::StoredStat;

use crate::name::Name;

/// The number of slots in a chunk.
const CHUNK_SLOTS: usize = 1 << 12;

/// The place of a znode. Places of deleted znodes are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ZnodeId(u32);

impl ZnodeId {
    /// No znode.
    pub(crate) const NONE: ZnodeId = ZnodeId(u32::MAX);

    /// `None` for [`ZnodeId::NONE`].
    pub(crate) fn some(self) -> Option<ZnodeId> {
        (self != ZnodeId::NONE).then_some(self)
    }

    /// The number, to be kept in an atomic.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// The opposite of [`ZnodeId::number`].
    pub(crate) fn from_number(number: u32) -> ZnodeId {
        ZnodeId(number)
    }

    fn position(self) -> (usize, usize) {
        let at = self.0 as usize;
        (at / CHUNK_SLOTS, at % CHUNK_SLOTS)
    }
}

/// A znode: what is stored of it, and its links to parent, siblings and children.
#[derive(Debug)]
pub(crate) struct Znode {
    /// The last component of the path; empty for the root alone.
    pub(crate) name: Name,
    pub(crate) data: Option<Box<[u8]>>,
    pub(crate) stat: StoredStat,
    /// The slot of the ACL table.
    pub(crate) acl: crate::acl_table::AclSlot,
    pub(crate) parent: ZnodeId,
    pub(crate) first_child: ZnodeId,
    pub(crate) next_sibling: ZnodeId,
    pub(crate) previous_sibling: ZnodeId,
    pub(crate) child_count: u32,
    /// CRC-32 of path and data, from which the digest goes on when only the stat changed.
    pub(crate) content_crc: u32,
    /// The znode's part of the tree digest; 0 when it has none.
    pub(crate) digest: u32,
}

impl Znode {
    /// Length of the data in bytes, 0 for null.
    pub(crate) fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }
}

#[derive(Debug)]
enum Slot {
    Used(Znode),
    Free { next: ZnodeId },
}

/// All znodes of a tree.
#[derive(Debug)]
pub(crate) struct Arena {
    /// All but the last are full.
    chunks: Vec<Vec<Slot>>,
    /// The list of free slots.
    free: ZnodeId,
    len: usize,
}

impl Arena {
    pub(crate) fn new() -> Arena {
        Arena {
            chunks: Vec::new(),
            free: ZnodeId::NONE,
            len: 0,
        }
    }

    /// The number of znodes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, znode: Znode) -> ZnodeId {
        self.len += 1;
        if let Some(id) = self.free.some() {
            let (chunk, at) = id.position();
            let slot = &mut self.chunks[chunk][at];
            let Slot::Free { next } = *slot else {
                unreachable!("used slot {id:?} in the free list")
            };
            self.free = next;
            *slot = Slot::Used(znode);
            return id;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_SLOTS) {
            self.chunks.push(Vec::with_capacity(CHUNK_SLOTS));
        }
        let full = (self.chunks.len() - 1) * CHUNK_SLOTS;
        let chunk = self.chunks.last_mut().expect("a chunk was just made sure of");
        let number = u32::try_from(full + chunk.len()).ok().filter(|&n| n != u32::MAX);
        chunk.push(Slot::Used(znode));
        ZnodeId(number.expect("a tree has fewer than 2^32 - 1 znodes"))
    }

    pub(crate) fn remove(&mut self, id: ZnodeId) -> Znode {
        let (chunk, at) = id.position();
        let slot = std::mem::replace(&mut self.chunks[chunk][at], Slot::Free { next: self.free });
        let Slot::Used(znode) = slot else {
            unreachable!("znode {id:?} removed twice")
        };
        self.free = id;
        self.len -= 1;
        znode
    }
}

impl std::ops::Index<ZnodeId> for Arena {
    type Output = Znode;

    fn index(&self, id: ZnodeId) -> &Znode {
        let (chunk, at) = id.position();
        match &self.chunks[chunk][at] {
            Slot::Used(znode) => znode,
            Slot::Free { .. } => unreachable!("znode {id:?} is gone"),
        }
    }
}

impl std::ops::IndexMut<ZnodeId> for Arena {
    fn index_mut(&mut self, id: ZnodeId) -> &mut Znode {
        let (chunk, at) = id.position();
        match &mut self.chunks[chunk][at] {
            Slot::Used(znode) => znode,
            Slot::Free { .. } => unreachable!("znode {id:?} is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl_table::AclSlot;

    fn znode(name: &str) -> Znode {
        Znode {
            name: Name::new(name),
            data: None,
            stat: StoredStat::default(),
            acl: AclSlot::OPEN,
            parent: ZnodeId::NONE,
            first_child: ZnodeId::NONE,
            next_sibling: ZnodeId::NONE,
            previous_sibling: ZnodeId::NONE,
            child_count: 0,
            content_crc: 0,
            digest: 0,
        }
    }

    #[test]
    fn a_slot_costs_little_more_than_two_cache_lines() {
        assert_eq!(size_of::<Slot>(), 136);
    }

    #[test]
    fn freed_places_are_used_again_and_others_stay() {
        let mut arena = Arena::new();
        let ids: Vec<ZnodeId> = (0..CHUNK_SLOTS + 3)
            .map(|n| arena.insert(znode(&n.to_string())))
            .collect();
        assert_eq!(arena.remove(ids[7]).name.as_str(), "7");
        assert_eq!(
            arena.remove(ids[CHUNK_SLOTS]).name.as_str(),
            CHUNK_SLOTS.to_string()
        );
        assert_eq!(arena.len(), CHUNK_SLOTS + 1);
        assert_eq!(arena.insert(znode("new")), ids[CHUNK_SLOTS]);
        assert_eq!(arena.insert(znode("newer")), ids[7]);
        assert_eq!(arena[ids[7]].name.as_str(), "newer");
        assert_eq!(
            arena[ids[CHUNK_SLOTS + 2]].name.as_str(),
            (CHUNK_SLOTS + 2).to_string()
        );
    }
}
