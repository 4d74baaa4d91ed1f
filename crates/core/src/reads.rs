//! Answers to what only reads: from the replica as it is, watches left under the same hold.

use oxkeeper_tree::{ConnectionId, Watches, check_permission, redact_digest};
use oxkeeper_types::{
    AddWatchMode, ErrorCode, Id, OpCode, Permissions, ReadRequest, SessionId, SubRead, WatchEventKind,
    WatchPaths, Zxid,
};
use oxkeeper_wire as wire;
use oxkeeper_wire::Request;

use crate::planted::PlantedBug;
use crate::{CoreSettings, Replica};

/// The zxid of events that make up for what a client missed while it was away.
const CATCH_UP: Zxid = Zxid(-1);

/// Who reads.
pub(crate) struct Reader<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionId,
    pub(crate) identities: &'a [Id],
    pub(crate) settings: &'a CoreSettings,
}

/// Appends the answer of a request that is no write to `out`: of a read, a ping, or what cannot be decoded. That of
/// setWatches begins with the events that were missed.
pub(crate) fn answer(
    replica: &Replica,
    reader: &Reader<'_>,
    xid: i32,
    op: OpCode,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let zxid = replica.last_processed;
    match wire::decode_request(op, body) {
        Ok(Request::Read(request)) => {
            if let Err(error) = try_answer(replica, reader, xid, &request, out) {
                wire::reply_header(out, xid, zxid, error.code());
            }
        }
        Ok(Request::Ping) => wire::reply_header(out, wire::XID_PING, zxid, 0),
        Ok(_) => unreachable!("{op:?} goes to the core"),
        Err(error) => wire::reply_undecodable(out, xid, zxid, &error),
    }
}

fn try_answer(
    replica: &Replica,
    reader: &Reader<'_>,
    xid: i32,
    request: &ReadRequest<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ErrorCode> {
    let zxid = replica.last_processed;
    let connection = reader.connection;
    match request {
        ReadRequest::Exists { path, watch } => {
            if path.contains('\0') {
                return Err(ErrorCode::BadArguments);
            }
            let znode = replica.tree.znode(path);
            if let Some(znode) = &znode {
                reader.may(znode.acl(), Permissions::READ)?;
            }
            if *watch {
                // Also when the znode is missing: that is what the watch waits for.
                replica.watches.lock().add_data(connection, path);
            }
            let stat = znode.ok_or(ErrorCode::NoNode)?.stat();
            wire::reply(out, xid, zxid, |encoder| wire::encode_stat(encoder, &stat));
        }
        ReadRequest::GetData { path, watch } => {
            let znode = replica.tree.znode(path).ok_or(ErrorCode::NoNode)?;
            reader.may(znode.acl(), Permissions::READ)?;
            if *watch {
                replica.watches.lock().add_data(connection, path);
            }
            wire::reply(out, xid, zxid, |encoder| {
                wire::encode_data_and_stat(encoder, znode.data(), &znode.stat());
            });
        }
        ReadRequest::GetChildren {
            path,
            watch,
            with_stat,
        } => {
            let znode = replica.tree.znode(path).ok_or(ErrorCode::NoNode)?;
            reader.may(znode.acl(), Permissions::READ)?;
            if *watch {
                replica.watches.lock().add_child(connection, path);
            }
            wire::reply(out, xid, zxid, |encoder| {
                wire::encode_names(encoder, znode.child_count(), znode.children());
                if *with_stat {
                    wire::encode_stat(encoder, &znode.stat());
                }
            });
        }
        ReadRequest::GetAcl { path } => {
            let znode = replica.tree.znode(path).ok_or(ErrorCode::NoNode)?;
            reader.may(znode.acl(), Permissions::READ.union(Permissions::ADMIN))?;
            let is_admin = reader.may(znode.acl(), Permissions::ADMIN).is_ok();
            wire::reply(out, xid, zxid, |encoder| match is_admin {
                true => wire::encode_acl_and_stat(encoder, znode.acl(), &znode.stat()),
                false => wire::encode_acl_and_stat(encoder, &redact_digest(znode.acl()), &znode.stat()),
            });
        }
        ReadRequest::GetAllChildrenNumber { path } => {
            let znode = replica.tree.znode(path).ok_or(ErrorCode::NoNode)?;
            reader.may(znode.acl(), Permissions::READ)?;
            // Asked by the root's alias, Java counts the alias itself too.
            let descendants = znode.descendants() + usize::from(path.is_empty());
            let descendants = i32::try_from(descendants).unwrap_or(i32::MAX);
            wire::reply(out, xid, zxid, |encoder| encoder.int(descendants));
        }
        ReadRequest::GetEphemerals { prefix } => {
            let prefix = prefix
                .as_deref()
                .filter(|prefix| !matches!(prefix.trim(), "" | "/"))
                .unwrap_or("");
            let mine: Vec<String> = replica
                .tree
                .ephemerals_of(reader.session)
                .into_iter()
                .filter(|path| path.starts_with(prefix))
                .collect();
            wire::reply(out, xid, zxid, |encoder| encoder.strings(&mine));
        }
        ReadRequest::MultiRead(parts) => {
            wire::reply(out, xid, zxid, |encoder| {
                for part in parts {
                    if let Err(error) = answer_part(replica, reader, part, encoder) {
                        wire::encode_multi_error(encoder, error.code());
                    }
                }
                wire::encode_multi_end(encoder);
            });
        }
        ReadRequest::CheckWatches { path, selector } => {
            if !replica.watches.lock().contains(connection, path, *selector) {
                return Err(ErrorCode::NoWatcher);
            }
            wire::reply_header(out, xid, zxid, 0);
        }
        ReadRequest::RemoveWatches { path, selector } => {
            if !replica.watches.lock().remove(connection, path, *selector) {
                return Err(ErrorCode::NoWatcher);
            }
            wire::reply_header(out, xid, zxid, 0);
        }
        ReadRequest::AddWatch { path, mode } => {
            replica.watches.lock().add_lasting(connection, path, *mode);
            // The body is an ErrorResponse of 0 (client spec, section 4.1).
            wire::reply(out, xid, zxid, |encoder| encoder.int(0));
        }
        ReadRequest::SetWatches(paths) => {
            set_watches(replica, reader, paths, out);
            wire::reply_header(out, xid, zxid, 0);
        }
        ReadRequest::WhoAmI => {
            wire::reply(out, xid, zxid, |encoder| {
                let infos = reader.identities.iter().map(|id| (&*id.scheme, user_of(id)));
                wire::encode_client_infos(encoder, reader.identities.len(), infos);
            });
        }
    }
    Ok(())
}

fn answer_part(
    replica: &Replica,
    reader: &Reader<'_>,
    part: &SubRead<'_>,
    encoder: &mut wire::Encoder<'_>,
) -> Result<(), ErrorCode> {
    let (SubRead::GetData(path) | SubRead::GetChildren(path)) = part;
    let znode = replica.tree.znode(path).ok_or(ErrorCode::NoNode)?;
    reader.may(znode.acl(), Permissions::READ)?;
    match part {
        SubRead::GetData(_) => wire::encode_multi_data(encoder, znode.data(), &znode.stat()),
        SubRead::GetChildren(_) => {
            wire::encode_multi_names(encoder, znode.child_count(), znode.children());
        }
    }
    Ok(())
}

/// The name by which an identity is shown: without the hash of a digest, and nothing of super.
fn user_of(id: &Id) -> &str {
    match &*id.scheme {
        "digest" => id.id.split_once(':').map_or(&*id.id, |(user, _)| user),
        "super" => "",
        _ => &id.id,
    }
}

/// Arms the watches of an earlier connection, or tells at once what it missed (client spec, section 8.5).
fn set_watches(replica: &Replica, reader: &Reader<'_>, paths: &WatchPaths, out: &mut Vec<u8>) {
    let connection = reader.connection;
    let watches: &mut Watches = &mut replica.watches.lock();
    let since = paths.relative_zxid;
    for path in &paths.data {
        match replica.tree.znode(path) {
            None => wire::watch_event(out, CATCH_UP, WatchEventKind::Deleted, path),
            Some(znode) if znode.stat().mzxid > since && reader.guards(PlantedBug::CatchUpForgotten) => {
                // An event that the client may not see is withheld, and its watch is gone all the same.
                if reader.may(znode.acl(), Permissions::READ).is_ok() {
                    wire::watch_event(out, CATCH_UP, WatchEventKind::DataChanged, path);
                }
            }
            Some(_) => watches.add_data(connection, path),
        }
    }
    for path in &paths.exist {
        match replica.tree.znode(path) {
            None => watches.add_data(connection, path),
            Some(znode) => {
                if reader.may(znode.acl(), Permissions::READ).is_ok() {
                    wire::watch_event(out, CATCH_UP, WatchEventKind::Created, path);
                }
            }
        }
    }
    for path in &paths.child {
        match replica.tree.znode(path) {
            None => wire::watch_event(out, CATCH_UP, WatchEventKind::Deleted, path),
            Some(znode) if znode.stat().pzxid > since => {
                if reader.may(znode.acl(), Permissions::READ).is_ok() {
                    wire::watch_event(out, CATCH_UP, WatchEventKind::ChildrenChanged, path);
                }
            }
            Some(_) => watches.add_child(connection, path),
        }
    }
    for path in &paths.persistent {
        watches.add_lasting(connection, path, AddWatchMode::Persistent);
    }
    for path in &paths.persistent_recursive {
        watches.add_lasting(connection, path, AddWatchMode::PersistentRecursive);
    }
}

impl Reader<'_> {
    fn guards(&self, bug: PlantedBug) -> bool {
        self.settings.planted.guards(bug)
    }

    fn may(&self, acl: &[oxkeeper_types::Acl], wanted: Permissions) -> Result<(), ErrorCode> {
        match check_permission(acl, wanted, self.identities, &self.settings.tree) {
            true => Ok(()),
            false => Err(ErrorCode::NoAuth),
        }
    }
}
