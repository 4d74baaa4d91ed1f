//! The queue of sequential ephemerals that locks and elections have in common.

use zookeeper_client::{CreateMode, Error as ClientError};

use crate::error::Result;
use crate::hold::Hold;
use crate::session::Moment;
use crate::znode::{self, Protected, create_protected, join, retry, split};
use crate::{FencingToken, Session, sequence};

/// Reads the sequence of a name that may go before ours; `None` for names that do not matter to us.
pub(crate) type Rival = fn(&str) -> Option<i32>;

/// A queue, and how to stand in it.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// The directory of the znodes.
    pub(crate) dir: String,
    /// What stands between the UUID and the sequence in our names.
    pub(crate) prefix: &'static str,
    /// Whom we wait for.
    pub(crate) rival: Rival,
}

impl Queue {
    /// Queues up and waits until no rival is before us. When the future is dropped, we leave the queue.
    ///
    /// Each waits for the one rival next before it, so that one departure wakes one waiter.
    pub(crate) async fn contend(&self, session: &Session, data: &[u8]) -> Result<Hold> {
        loop {
            let made = create_protected(
                session,
                &self.dir,
                self.prefix,
                data,
                CreateMode::EphemeralSequential,
            );
            let mut place = Place::new(session, made.await?);
            if let Some(hold) = self.wait(&mut place).await? {
                return Ok(hold);
            }
            // Somebody removed our znode, or the whole directory: queue up again.
        }
    }

    async fn wait(&self, place: &mut Place<'_>) -> Result<Option<Hold>> {
        let session = place.session;
        let client = session.client();
        let own = split(&place.node.path).1.to_owned();
        let mut is_absent = false;
        loop {
            session.connected().await?;
            let moment = session.moment();
            let children = match retry(|| client.list_children(&self.dir)).await {
                Err(ClientError::NoNode) => Vec::new(),
                children => children?,
            };
            match turn(
                in_order(session, &self.dir, self.rivals(children, &own)).await?,
                &own,
            ) {
                Turn::Ours if session.disturbance_since(moment).is_none() => {
                    return Ok(Some(place.held_since(moment)));
                }
                Turn::Ours => {}
                Turn::Absent if is_absent => return Ok(None),
                Turn::Absent => {
                    is_absent = true;
                    retry(|| client.sync(&self.dir)).await?;
                }
                Turn::Behind(rival) => {
                    // Not `exists`: its watch would stay behind when the rival is gone by now. Whatever wakes us,
                    // it is the children that decide.
                    match retry(|| client.get_and_watch_data(&join(&self.dir, &rival))).await {
                        Ok((_, _, watcher)) => {
                            watcher.changed().await;
                        }
                        Err(ClientError::NoNode) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Ourselves and all whom we may have to wait for.
    fn rivals(&self, children: Vec<String>, own: &str) -> Vec<(i32, String)> {
        let numbered = children.into_iter().filter_map(|name| {
            let sequence = match name == own {
                true => sequence::of(&name, self.prefix),
                false => (self.rival)(&name),
            };
            Some((sequence?, name))
        });
        numbered.collect()
    }

    /// The paths of all who stand in the queue, in its order; the first one holds it.
    pub(crate) async fn participants(&self, session: &Session) -> Result<Vec<String>> {
        let children = match retry(|| session.client().list_children(&self.dir)).await {
            Err(ClientError::NoNode) => Vec::new(),
            children => children?,
        };
        let rivals = children
            .into_iter()
            .filter_map(|name| Some(((self.rival)(&name)?, name)));
        let queue = in_order(session, &self.dir, rivals.collect()).await?;
        Ok(queue.into_iter().map(|name| join(&self.dir, &name)).collect())
    }
}

/// The children of `dir` with these names in the order of their creation. Some may be missing that are gone by now.
pub(crate) async fn in_order(
    session: &Session,
    dir: &str,
    mut names: Vec<(i32, String)>,
) -> Result<Vec<String>> {
    sequence::sort(&mut names);
    let in_order = names.partition_point(|(sequence, _)| !sequence::is_exhausted(*sequence));
    let exhausted = names.split_off(in_order);
    let mut names: Vec<String> = names.into_iter().map(|(_, name)| name).collect();
    let mut created = Vec::with_capacity(exhausted.len());
    for (_, name) in exhausted {
        let path = join(dir, &name);
        if let Some(stat) = retry(|| session.client().check_stat(&path)).await? {
            created.push((stat.czxid, name));
        }
    }
    created.sort_unstable();
    names.extend(created.into_iter().map(|(_, name)| name));
    Ok(names)
}

fn turn(mut queue: Vec<String>, own: &str) -> Turn {
    match queue.iter().position(|name| name == own) {
        None => Turn::Absent,
        Some(0) => Turn::Ours,
        Some(index) => Turn::Behind(queue.swap_remove(index - 1)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Ours,
    Behind(String),
    Absent,
}

/// Our znode, until it is a hold; dropped before, it is deleted in the background.
pub(crate) struct Place<'a> {
    pub(crate) session: &'a Session,
    pub(crate) node: Protected,
    is_held: bool,
}

impl Place<'_> {
    pub(crate) fn new(session: &Session, node: Protected) -> Place<'_> {
        Place {
            session,
            node,
            is_held: false,
        }
    }

    /// What we waited for is ours since `moment` at the latest.
    pub(crate) fn held_since(&mut self, moment: Moment) -> Hold {
        self.is_held = true;
        let path = std::mem::take(&mut self.node.path);
        Hold::new(self.session, path, FencingToken(self.node.stat.czxid), moment)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_held {
            // Detached: it goes on.
            drop(znode::delete(self.session, std::mem::take(&mut self.node.path)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(children: &[&str], own: &str) -> Turn {
        let queue = Queue {
            dir: "/q".to_owned(),
            prefix: "lock-",
            rival: |name| sequence::of(name, "lock-").or_else(|| sequence::of(name, "__lock__")),
        };
        let mut rivals = queue.rivals(children.iter().map(|name| (*name).to_owned()).collect(), own);
        sequence::sort(&mut rivals);
        super::turn(rivals.into_iter().map(|(_, name)| name).collect(), own)
    }

    #[test]
    fn one_waits_for_the_rival_next_before_oneself() {
        let children = [
            "_c_b-lock-0000000004",
            "_c_a-lock-0000000009",
            "d__lock__0000000007",
            "lease",
            "_c_c-lock-0000000002",
        ];
        let behind = |name: &str| Turn::Behind(name.to_owned());
        assert_eq!(
            turn(&children, "_c_a-lock-0000000009"),
            behind("d__lock__0000000007")
        );
        assert_eq!(
            turn(&children, "_c_b-lock-0000000004"),
            behind("_c_c-lock-0000000002")
        );
        assert_eq!(turn(&children, "_c_c-lock-0000000002"), Turn::Ours);
        assert_eq!(turn(&children, "_c_x-lock-0000000003"), Turn::Absent);
    }
}
