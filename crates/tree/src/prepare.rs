//! What a request becomes: a txn that fits the tree, or the txn of an error.
//!
//! Requests are checked against the tree as it will be once all txns in flight are applied (see `overlay.rs`), but
//! for quotas, which count what is applied. The first check that fails decides; their order is that of the client
//! specification, section 4.3. Besides, requests are refused that Java's server could not apply, for they would
//! end every Java server that reads our log (section 10, "poison requests").

use oxkeeper_types::{
    Acl, CONFIG_PATH, CreateMode, CreateRequest, CreateTxn, ErrorCode, Id, OpCode, Permissions, QUOTA_PATH,
    RESERVED_PATH, SessionId, StoredOwner, StoredStat, TTL_MS_MAX, Txn, TxnDigest, VERSION_ANY, WriteRequest,
    ZnodeKind, Zxid, is_builtin_path, split_path, validate_path,
};

use crate::acl::{check_permission, fix_acl};
use crate::apply::raise_child_counters;
use crate::digest::DIGEST_VERSION;
use crate::overlay::{Mark, Overlay, Record};
use crate::quota::{LIMITS_NAME, QuotaExceeded, QuotaText, STATS_NAME, quota_target};
use crate::settings::TreeSettings;
use crate::tree::Tree;

/// How long a list of the ephemerals that end with their session may be, in bytes as it is logged. Without a longer one
/// the txn means the same, and can be read again: no log takes a txn of more than 64 MiB.
const CLOSED_EPHEMERALS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What `auth` may stand for in all ACLs of one request, in bytes as they are logged. A connection may have shown long
/// identities, and a multi name them many times: without a limit a small request would become a txn that no log gives
/// back. A request that exceeds it fails with [`ErrorCode::InvalidAcl`].
const AUTH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The session, [`SessionId::NONE`] for what the server does by itself.
    pub session: SessionId,
    /// The identities of the connection when the request arrived.
    pub ids: &'a [Id],
    /// Wall clock of this server, ms since the Unix epoch; the time of the txn's header must be the same.
    pub time: i64,
    /// What the check of the session and its owner said. Reported where its turn is among the other checks.
    pub session_check: Result<(), ErrorCode>,
    /// What that check says when the request makes an ephemeral, which local sessions may not.
    pub ephemeral_check: Result<(), ErrorCode>,
}

impl<'a> Caller<'a> {
    /// A caller whose session is in order.
    pub fn new(session: SessionId, ids: &'a [Id], time: i64) -> Caller<'a> {
        Caller {
            session,
            ids,
            time,
            session_check: Ok(()),
            ephemeral_check: Ok(()),
        }
    }
}

/// A request that became a txn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What to log and apply: [`Txn::Error`], or a multi with one, when the request failed.
    pub txn: Txn,
    /// The digest of the tree after it; none for errors, and when digests are switched off.
    pub digest: Option<TxnDigest>,
    /// The limits that the request exceeds or, when hard, would have. Empty unless quotas are enforced.
    pub quota_exceeded: Vec<QuotaExceeded>,
}

impl Tree {
    /// Checks a request and turns it into the txn `zxid`. What it changes is pending from here on, until
    /// [`Overlay::committed`] says that it was applied.
    pub fn prepare(
        &self,
        pending: &mut Overlay,
        settings: &TreeSettings,
        caller: &Caller<'_>,
        zxid: Zxid,
        request: WriteRequest,
    ) -> Prepared {
        let mark = pending.mark();
        let mut preparation = Preparation {
            tree: self,
            pending,
            mark,
            settings,
            caller,
            zxid,
            quota_exceeded: Vec::new(),
            auth_bytes_left: AUTH_BYTES_MAX,
        };
        let txn = match request {
            WriteRequest::Multi(parts) => preparation.multi(parts),
            // A log with a check outside of a multi cannot be read by Java.
            WriteRequest::Check { .. } => Txn::error(ErrorCode::Unimplemented),
            request => preparation.single(request).unwrap_or_else(Txn::error),
        };
        let quota_exceeded = preparation.quota_exceeded;
        let has_digest = settings.digest_enabled && !matches!(txn, Txn::Error { .. });
        let digest = has_digest.then(|| TxnDigest {
            version: DIGEST_VERSION,
            tree_digest: pending.digest(self),
        });
        Prepared {
            txn,
            digest,
            quota_exceeded,
        }
    }
}

/// One request on its way to a txn.
struct Preparation<'a> {
    tree: &'a Tree,
    pending: &'a mut Overlay,
    mark: Mark,
    settings: &'a TreeSettings,
    caller: &'a Caller<'a>,
    zxid: Zxid,
    quota_exceeded: Vec<QuotaExceeded>,
    /// What is left of [`AUTH_BYTES_MAX`].
    auth_bytes_left: usize,
}

impl Preparation<'_> {
    fn multi(&mut self, parts: Vec<WriteRequest>) -> Txn {
        let mut failed = false;
        let mut txns = Vec::with_capacity(parts.len());
        for part in parts {
            if failed {
                txns.push(Txn::error(ErrorCode::RuntimeInconsistency));
                continue;
            }
            let txn = match part {
                WriteRequest::Create(_)
                | WriteRequest::Delete { .. }
                | WriteRequest::SetData { .. }
                | WriteRequest::Check { .. }
                | WriteRequest::Invalid(_) => self.single(part),
                // The decoder lets no other part through.
                _ => Err(ErrorCode::MarshallingError),
            };
            if txn == Err(ErrorCode::MarshallingError) {
                // What cannot be understood is no failed check: it fails the request, not a part of it.
                let now = self.pending.mark();
                self.pending.roll_back(std::mem::replace(&mut self.mark, now));
                return Txn::error(ErrorCode::MarshallingError);
            }
            txns.push(txn.unwrap_or_else(|code| {
                failed = true;
                Txn::error(code)
            }));
        }
        if failed {
            let now = self.pending.mark();
            self.pending.roll_back(std::mem::replace(&mut self.mark, now));
        }
        Txn::Multi(txns)
    }

    fn single(&mut self, request: WriteRequest) -> Result<Txn, ErrorCode> {
        match request {
            WriteRequest::Create(create) => self.create(create),
            WriteRequest::Delete { path, version } => self.delete(path, version),
            WriteRequest::DeleteContainer { path } => self.delete_container(path),
            WriteRequest::SetData { path, data, version } => self.set_data(path, data, version),
            WriteRequest::SetAcl { path, acl, version } => self.set_acl(path, acl, version),
            WriteRequest::Check { path, version } => self.check(path, version),
            WriteRequest::Reconfig(_) => Err(self.reconfig()),
            WriteRequest::SetConfig { config } => self.set_config(config),
            WriteRequest::CreateSession { timeout_ms } => Ok(Txn::CreateSession { timeout_ms }),
            WriteRequest::CloseSession => Ok(self.close_session()),
            WriteRequest::Invalid(code) => Err(code),
            WriteRequest::Multi(_) => Err(ErrorCode::MarshallingError),
        }
    }

    /// What a path will be when this txn is applied.
    fn record(&self, path: &str) -> Result<Record, ErrorCode> {
        self.pending.record(self.tree, path).ok_or(ErrorCode::NoNode)
    }

    fn put(&mut self, path: &str, old_digest: u32, record: Option<Record>) {
        self.pending
            .put(self.tree, &mut self.mark, self.zxid, path, old_digest, record);
    }

    fn check_permission(&self, record: &Record, wanted: Permissions) -> Result<(), ErrorCode> {
        if check_permission(&record.acl, wanted, self.caller.ids, self.settings) {
            Ok(())
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    /// Checks a change against the quotas as far as they are enforced.
    fn check_quota(&mut self, path: &str, count: i64, bytes: i64) -> Result<(), ErrorCode> {
        if !self.settings.enforce_quota {
            return Ok(());
        }
        self.tree
            .check_quota(path, count, bytes, &mut self.quota_exceeded)
    }

    fn create(&mut self, request: CreateRequest) -> Result<Txn, ErrorCode> {
        let CreateRequest {
            op,
            mut path,
            data,
            acl,
            flags,
            ttl,
        } = request;
        let mode = CreateMode::from_flags(flags).ok_or(ErrorCode::BadArguments)?;
        if mode.has_ttl() && !self.settings.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        // Java lets createTTL of another mode pass with a negative time to live, and dies of applying it.
        let ttl_fits = if mode.has_ttl() {
            (1..=TTL_MS_MAX).contains(&ttl)
        } else {
            ttl < 0
        };
        if !ttl_fits || op == OpCode::CreateTtl && !mode.has_ttl() {
            return Err(ErrorCode::BadArguments);
        }
        if mode.is_ephemeral() {
            self.caller.ephemeral_check
        } else {
            self.caller.session_check
        }?;
        let parent_end = path
            .rfind('/')
            .filter(|_| !path.contains('\0'))
            .ok_or(ErrorCode::BadArguments)?;
        let acl = fix_acl(acl, self.caller.ids, &mut self.auth_bytes_left, self.settings)?;
        let parent_path = if parent_end == 0 {
            "/".to_owned()
        } else {
            path[..parent_end].to_owned()
        };
        let mut parent = self.record(&parent_path)?;
        self.check_permission(&parent, Permissions::CREATE)?;
        if mode.is_sequential() {
            path.push_str(&format!("{:010}", parent.stat.cversion));
        }
        validate_path(&path).map_err(|_| ErrorCode::BadArguments)?;
        if self.pending.exists(self.tree, &path) {
            return Err(ErrorCode::NodeExists);
        }
        if self.tree.is_ephemeral(&parent.stat) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let data_len = data.as_ref().map_or(0, |data| data.len());
        self.check_quota(&path, 1, as_difference(data_len))?;
        let kind = match op {
            OpCode::CreateContainer => ZnodeKind::Container,
            OpCode::CreateTtl => ZnodeKind::Ttl(ttl),
            _ if mode.is_ephemeral() => ZnodeKind::Ephemeral,
            // Container flags with the plain operations make a plain znode, as in Java.
            _ => ZnodeKind::Persistent,
        };
        let name = &path[parent_end + 1..];
        if is_poison_create(&parent_path, name, kind) {
            return Err(ErrorCode::BadArguments);
        }

        let parent_digest = parent.digest;
        let parent_cversion = parent.stat.cversion.wrapping_add(1);
        raise_child_counters(&mut parent.stat, parent_cversion, self.zxid);
        parent.child_count += 1;
        self.put(&parent_path, parent_digest, Some(parent));
        let stat = StoredStat {
            czxid: self.zxid,
            mzxid: self.zxid,
            ctime: self.caller.time,
            mtime: self.caller.time,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: StoredOwner::of(kind, self.caller.session).0,
            pzxid: self.zxid,
        };
        let content_crc = self.tree.content_crc_of(&path, data.as_deref());
        let record = Record {
            stat,
            child_count: 0,
            acl: acl.as_slice().into(),
            data_len,
            content_crc,
            digest: 0,
        };
        self.put(&path, 0, Some(record));
        let with_stat = op != OpCode::Create;
        Ok(Txn::Create(CreateTxn {
            path,
            data,
            acl,
            kind,
            parent_cversion,
            with_stat,
        }))
    }

    fn delete(&mut self, path: String, version: i32) -> Result<Txn, ErrorCode> {
        self.caller.session_check?;
        let (parent_path, name) = deletable(&path)?;
        let parent = self.record(parent_path)?;
        self.check_permission(&parent, Permissions::DELETE)?;
        let record = self.record(&path)?;
        next_version(record.stat.version, version)?;
        if record.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        if is_poison_delete(parent_path, name) {
            return Err(ErrorCode::BadArguments);
        }
        self.put_deleted(parent_path, parent, &path, record.digest);
        Ok(Txn::Delete {
            path,
            by_server: false,
        })
    }

    /// Unlike Java's, this looks again whether the znode is one to be removed: it may have been written, or
    /// replaced by another, since the server picked it.
    fn delete_container(&mut self, path: String) -> Result<Txn, ErrorCode> {
        let (parent_path, name) = deletable(&path)?;
        let record = self.record(&path)?;
        if record.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        if !self
            .tree
            .is_expired(&record.stat, 0, self.caller.time, self.settings)
        {
            return Err(ErrorCode::BadVersion);
        }
        let parent = self.record(parent_path)?;
        if is_poison_delete(parent_path, name) {
            return Err(ErrorCode::BadArguments);
        }
        self.put_deleted(parent_path, parent, &path, record.digest);
        Ok(Txn::Delete {
            path,
            by_server: true,
        })
    }

    fn put_deleted(&mut self, parent_path: &str, mut parent: Record, path: &str, digest: u32) {
        let parent_digest = parent.digest;
        parent.child_count -= 1;
        parent.stat.pzxid = parent.stat.pzxid.max(self.zxid);
        self.put(parent_path, parent_digest, Some(parent));
        self.put(path, digest, None);
    }

    fn set_data(&mut self, path: String, data: Option<Box<[u8]>>, version: i32) -> Result<Txn, ErrorCode> {
        self.caller.session_check?;
        validate_path(&path).map_err(|_| ErrorCode::BadArguments)?;
        let mut record = self.record(&path)?;
        self.check_permission(&record, Permissions::WRITE)?;
        let data_len = data.as_ref().map_or(0, |data| data.len());
        self.check_quota(&path, 0, as_difference(data_len) - as_difference(record.data_len))?;
        let version = next_version(record.stat.version, version)?;
        if is_poison_data(&path, data.as_deref()) {
            return Err(ErrorCode::BadArguments);
        }
        let digest = record.digest;
        record.stat.version = version;
        record.stat.mzxid = self.zxid;
        record.stat.mtime = self.caller.time;
        record.data_len = data_len;
        record.content_crc = self.tree.content_crc_of(&path, data.as_deref());
        self.put(&path, digest, Some(record));
        Ok(Txn::SetData { path, data, version })
    }

    fn set_acl(&mut self, path: String, acl: Vec<Acl>, version: i32) -> Result<Txn, ErrorCode> {
        self.caller.session_check?;
        validate_path(&path).map_err(|_| ErrorCode::BadArguments)?;
        let acl = fix_acl(acl, self.caller.ids, &mut self.auth_bytes_left, self.settings)?;
        let mut record = self.record(&path)?;
        self.check_permission(&record, Permissions::ADMIN)?;
        let version = next_version(record.stat.aversion, version)?;
        let digest = record.digest;
        record.stat.aversion = version;
        // Java's pending record keeps the old list until the txn is applied; that is no rule to rely on.
        record.acl = acl.as_slice().into();
        self.put(&path, digest, Some(record));
        Ok(Txn::SetAcl { path, acl, version })
    }

    fn check(&mut self, path: String, version: i32) -> Result<Txn, ErrorCode> {
        self.caller.session_check?;
        validate_path(&path).map_err(|_| ErrorCode::BadArguments)?;
        let record = self.record(&path)?;
        self.check_permission(&record, Permissions::READ)?;
        let version = next_version(record.stat.version, version)?;
        Ok(Txn::Check { path, version })
    }

    /// Why a reconfig is refused; a server alone cannot do it.
    fn reconfig(&self) -> ErrorCode {
        if !self.settings.reconfig_enabled {
            return ErrorCode::ReconfigDisabled;
        }
        self.caller
            .session_check
            .err()
            .unwrap_or(ErrorCode::Unimplemented)
    }

    /// A leader has found that the membership may become this; what is left is whether its client may change it.
    fn set_config(&mut self, config: Box<[u8]>) -> Result<Txn, ErrorCode> {
        self.caller.session_check?;
        let mut record = self.record(CONFIG_PATH)?;
        self.check_permission(&record, Permissions::WRITE)?;
        let digest = record.digest;
        record.stat.version = VERSION_ANY;
        record.stat.mzxid = self.zxid;
        record.stat.mtime = self.caller.time;
        record.data_len = config.len();
        record.content_crc = self.tree.content_crc_of(CONFIG_PATH, Some(&config));
        self.put(CONFIG_PATH, digest, Some(record));
        Ok(Txn::Reconfig {
            path: CONFIG_PATH.to_owned(),
            data: Some(config),
            version: VERSION_ANY,
        })
    }

    fn close_session(&mut self) -> Txn {
        let paths = self.pending.ephemerals_of(self.tree, self.caller.session);
        for path in &paths {
            let (Some((parent_path, _)), Ok(record)) = (split_path(path), self.record(path)) else {
                unreachable!("the ephemeral {path} of {} does not exist", self.caller.session)
            };
            let parent = self.record(parent_path);
            let parent = parent.unwrap_or_else(|_| unreachable!("the parent of {path} does not exist"));
            self.put_deleted(parent_path, parent, path, record.digest);
        }
        let bytes: usize = paths.iter().map(|path| path.len() + 4).sum();
        let is_listed = self.settings.close_session_txn && bytes <= CLOSED_EPHEMERALS_BYTES_MAX;
        Txn::CloseSession {
            ephemerals: is_listed.then_some(paths),
        }
    }
}

fn as_difference(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// The version after the present one, when the present one is what the client expects.
fn next_version(present: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected != VERSION_ANY && expected != present {
        return Err(ErrorCode::BadVersion);
    }
    Ok(present.wrapping_add(1))
}

/// Parent and name of a path that may be deleted. The path need not be valid otherwise.
fn deletable(path: &str) -> Result<(&str, &str), ErrorCode> {
    if path.contains('\0') || is_builtin_path(path) {
        return Err(ErrorCode::BadArguments);
    }
    split_path(path).ok_or(ErrorCode::BadArguments)
}

/// Whether Java's server cannot apply the create of `name` below `parent`, or the delete that its kind brings.
fn is_poison_create(parent: &str, name: &str, kind: ZnodeKind) -> bool {
    name == LIMITS_NAME
        && (parent == QUOTA_PATH || kind != ZnodeKind::Persistent && is_poison_delete(parent, name))
}

/// Whether Java's server cannot apply the delete of `name` below `parent`: it takes the parent for a path below
/// `/zookeeper/quota` and cuts that off.
fn is_poison_delete(parent: &str, name: &str) -> bool {
    name == LIMITS_NAME
        && parent.starts_with(RESERVED_PATH)
        && parent.encode_utf16().count() <= QUOTA_PATH.len()
}

/// Whether Java's server cannot apply the next change below a quota after this data was set.
fn is_poison_data(path: &str, data: Option<&[u8]>) -> bool {
    split_path(path).is_some_and(|(parent, name)| {
        name == STATS_NAME
            // The usage of the root is never charged.
            && quota_target(parent).is_some_and(|target| !target.is_empty())
            && QuotaText::parse(data).is_none()
    })
}
