//! Plain counters; the shell shows them. They take no part in any decision.

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::Relaxed};

use oxkeeper_types::OpCode;

/// How many requests, and how long they took.
#[derive(Debug)]
pub struct RequestStats {
    received: AtomicU64,
    sent: AtomicU64,
    latency_count: AtomicU64,
    latency_ms_total: AtomicU64,
    latency_ms_max: AtomicU64,
    latency_ms_min: AtomicU64,
}

impl Default for RequestStats {
    fn default() -> RequestStats {
        RequestStats {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            latency_count: AtomicU64::new(0),
            latency_ms_total: AtomicU64::new(0),
            latency_ms_max: AtomicU64::new(0),
            latency_ms_min: AtomicU64::new(u64::MAX),
        }
    }
}

impl RequestStats {
    /// Counts `packets` frames that came in.
    pub fn count_received(&self, packets: u64) {
        self.received.fetch_add(packets, Relaxed);
    }

    /// Counts `packets` frames that went out.
    pub fn count_sent(&self, packets: u64) {
        self.sent.fetch_add(packets, Relaxed);
    }

    /// Counts `requests` that were answered, each `latency_ms` after it came in.
    pub fn count_latency(&self, requests: u64, latency_ms: u64) {
        self.latency_count.fetch_add(requests, Relaxed);
        self.latency_ms_total.fetch_add(latency_ms * requests, Relaxed);
        self.latency_ms_max.fetch_max(latency_ms, Relaxed);
        self.latency_ms_min.fetch_min(latency_ms, Relaxed);
    }

    /// Frames that came in.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Frames that went out.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// The shortest time from a request to its answer, ms; 0 before the first.
    pub fn latency_ms_min(&self) -> u64 {
        match self.latency_ms_min.load(Relaxed) {
            u64::MAX => 0,
            ms => ms,
        }
    }

    /// The longest, ms.
    pub fn latency_ms_max(&self) -> u64 {
        self.latency_ms_max.load(Relaxed)
    }

    /// The mean, ms.
    pub fn latency_ms_average(&self) -> f64 {
        match self.latency_count.load(Relaxed) {
            0 => 0.0,
            #[allow(clippy::cast_precision_loss, reason = "a mean for people")]
            count => self.latency_ms_total.load(Relaxed) as f64 / count as f64,
        }
    }

    /// Begins anew (`srst`, `crst`).
    pub fn reset(&self) {
        self.received.store(0, Relaxed);
        self.sent.store(0, Relaxed);
        self.latency_count.store(0, Relaxed);
        self.latency_ms_total.store(0, Relaxed);
        self.latency_ms_max.store(0, Relaxed);
        self.latency_ms_min.store(u64::MAX, Relaxed);
    }
}

/// What the whole server counts.
#[derive(Debug)]
pub struct ServerStats {
    /// All requests of all connections.
    pub requests: RequestStats,
    /// Txns applied whose digest was not the predicted one: the tree differs from the leader's.
    pub digest_mismatches: AtomicU64,
    /// Connections closed for malformed input or an operation that clients must not send.
    pub malformed: AtomicU64,
    /// Failed authentications.
    pub auth_failed: AtomicU64,
    /// Size of the last reply, bytes; -1 before the first.
    pub response_bytes_last: AtomicI64,
    /// Size of the smallest reply, bytes; -1 before the first.
    pub response_bytes_min: AtomicI64,
    /// Size of the largest reply, bytes; -1 before the first.
    pub response_bytes_max: AtomicI64,
}

impl Default for ServerStats {
    fn default() -> ServerStats {
        ServerStats {
            requests: RequestStats::default(),
            digest_mismatches: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            auth_failed: AtomicU64::new(0),
            response_bytes_last: AtomicI64::new(-1),
            response_bytes_min: AtomicI64::new(-1),
            response_bytes_max: AtomicI64::new(-1),
        }
    }
}

impl ServerStats {
    /// Counts a reply of `bytes`.
    pub fn count_response(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.response_bytes_last.store(bytes, Relaxed);
        self.response_bytes_max.fetch_max(bytes, Relaxed);
        let smallest = self.response_bytes_min.load(Relaxed);
        if smallest < 0 || bytes < smallest {
            self.response_bytes_min.store(bytes, Relaxed);
        }
    }

    /// Begins anew (`srst`).
    pub fn reset(&self) {
        self.requests.reset();
        for size in [
            &self.response_bytes_last,
            &self.response_bytes_min,
            &self.response_bytes_max,
        ] {
            size.store(-1, Relaxed);
        }
    }
}

/// What is counted of one connection, for `cons` and `stat`.
#[derive(Debug)]
pub struct ConnectionStats {
    /// Its requests.
    pub requests: RequestStats,
    /// Requests in work or waiting.
    pub queued: AtomicU64,
    /// The last operation, as its code; 0 before the first.
    last_op: AtomicI32,
    /// The xid of the last request; -1 before the first.
    pub last_cxid: AtomicI64,
    /// The zxid of the last reply.
    pub last_zxid: AtomicI64,
    /// When the last reply was made, monotonic ms.
    pub last_response_ms: AtomicU64,
    /// How long that request took, ms.
    pub last_latency_ms: AtomicU64,
}

impl Default for ConnectionStats {
    fn default() -> ConnectionStats {
        ConnectionStats {
            requests: RequestStats::default(),
            queued: AtomicU64::new(0),
            last_op: AtomicI32::new(0),
            last_cxid: AtomicI64::new(-1),
            last_zxid: AtomicI64::new(0),
            last_response_ms: AtomicU64::new(0),
            last_latency_ms: AtomicU64::new(0),
        }
    }
}

impl ConnectionStats {
    /// Notes an answered request; a write that failed has no operation (`NA`), as in Java.
    pub fn note(&self, op: Option<OpCode>, cxid: i32, zxid: i64, at_ms: u64, latency_ms: u64) {
        self.last_op.store(op.map_or(0, OpCode::code), Relaxed);
        if cxid >= 0 {
            // Pings and the like have xids of their own, which are no count.
            self.last_cxid.store(i64::from(cxid), Relaxed);
        }
        self.last_zxid.store(zxid, Relaxed);
        self.last_response_ms.store(at_ms, Relaxed);
        self.last_latency_ms.store(latency_ms, Relaxed);
    }

    /// Begins anew (`crst`).
    pub fn reset(&self) {
        self.requests.reset();
        self.last_op.store(0, Relaxed);
        self.last_cxid.store(-1, Relaxed);
        self.last_zxid.store(-1, Relaxed);
        self.last_response_ms.store(0, Relaxed);
        self.last_latency_ms.store(0, Relaxed);
    }

    /// The name of the last operation.
    pub fn last_op(&self) -> &'static str {
        OpCode::from_code(self.last_op.load(Relaxed)).map_or("NA", OpCode::short_name)
    }
}
