//! The connections that are open now: for the limits on their number, and for the words that list them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oxkeeper_core::Client;
use oxkeeper_tree::ConnectionId;
use parking_lot::Mutex;

/// The open connections of one server.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    open: Mutex<Open>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    clients: BTreeMap<ConnectionId, Arc<Client>>,
    refuses_all: bool,
    per_address: HashMap<IpAddr, u32>,
}

/// Why a connection is refused: there is to be none, or a limit, by the name of its key in `zoo.cfg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Everybody,
    PerAddress,
    Total,
}

/// A place among the open connections; it is given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    registry: Arc<Registry>,
    id: ConnectionId,
    address: IpAddr,
}

impl Registry {
    /// Takes a place for a connection from `peer`, if the limits allow one more.
    pub(crate) fn admit(
        self: &Arc<Registry>,
        peer: SocketAddr,
        per_address_max: Option<u32>,
        total_max: Option<u32>,
        client: impl FnOnce(ConnectionId) -> Arc<Client>,
    ) -> Result<(Arc<Client>, Place), Refused> {
        let address = peer.ip().to_canonical();
        let mut open = self.open.lock();
        if open.refuses_all {
            return Err(Refused::Everybody);
        }
        if total_max.is_some_and(|max| open.clients.len() >= max as usize) {
            return Err(Refused::Total);
        }
        let from_address = open.per_address.entry(address).or_insert(0);
        if per_address_max.is_some_and(|max| *from_address >= max) {
            return Err(Refused::PerAddress);
        }
        *from_address += 1;
        let id = ConnectionId(self.next_id.fetch_add(1, Relaxed));
        let client = client(id);
        open.clients.insert(id, client.clone());
        Ok((
            client,
            Place {
                registry: self.clone(),
                id,
                address,
            },
        ))
    }

    /// The open connections, oldest first.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        self.open.lock().clients.values().cloned().collect()
    }

    /// Refuses every further connection, or admits them again, and says which are open.
    pub(crate) fn refuse_all(&self, refuse: bool) -> Vec<Arc<Client>> {
        let mut open = self.open.lock();
        open.refuses_all = refuse;
        open.clients.values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().clients.len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.registry.open.lock();
        open.clients.remove(&self.id);
        if let Some(from_address) = open.per_address.get_mut(&self.address) {
            *from_address -= 1;
            if *from_address == 0 {
                open.per_address.remove(&self.address);
            }
        }
    }
}
