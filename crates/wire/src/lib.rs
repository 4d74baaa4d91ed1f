//! ZooKeeper's frozen formats: bytes to values and back. Decoders are total (any bytes give a value or an
//! error) and bounded (no memory is taken for a length that was only claimed, B2). Nothing here knows what a
//! value is for.

mod client;
mod election;
mod jute;
mod learner;
mod reply;
mod snapshot;
mod txn;

pub use client::{
    ConnectRequest, FrameError, REQUEST_LENGTH_MAX_DEFAULT, Request, RequestHeader, decode_acl,
    decode_acl_list, decode_request, encode_acl_list, encode_request, frame, next_frame,
};
pub use election::{
    ElectionHello, ElectionNotification, NOTIFICATION_LENGTH_MAX, ServerState, notification_length,
};
pub use jute::{DecodeError, Decoder, Encoder};
pub use learner::{
    ForwardedRequest, LEARNER_PROTOCOL_VERSION, LearnerInfo, PacketBody, PacketKind, QuorumPacket,
    decode_ack_epoch, decode_packet_body, decode_revalidate, decode_revalidated, decode_touches,
    encode_ack_epoch, encode_packet_body, encode_revalidate, encode_revalidated, encode_touches,
};
pub use reply::{
    ConnectResponse, MultiReadResult, ReplyHeader, STAT_LENGTH, XID_PING, XID_WATCH_EVENT,
    decode_acl_and_stat, decode_client_infos, decode_data_and_stat, decode_error_code, decode_multi_read,
    decode_names, decode_outcome, decode_stat, decode_watch_event, encode_acl_and_stat, encode_client_infos,
    encode_data_and_stat, encode_multi_data, encode_multi_end, encode_multi_error, encode_multi_names,
    encode_names, encode_outcome, encode_stat, reply, reply_header, reply_undecodable, watch_event,
};
pub use snapshot::{
    ACL_KEY_OPEN, FILE_HEADER_LENGTH, FILE_VERSION, FileHeader, LOG_DBID, LOG_MAGIC, LOG_RECORD_END,
    SNAPSHOT_DBID, SNAPSHOT_END, SNAPSHOT_MAGIC, SNAPSHOT_SIGNATURE, SnapshotDigest, ZnodeRecord,
    decode_acl_entry, decode_seal, decode_session, decode_stored_stat, decode_znode, encode_acl_entry,
    encode_seal, encode_session, encode_stored_stat, encode_znode,
};
pub use txn::{decode_txn_entry, decode_txn_header, encode_txn_entry, txn_op};
