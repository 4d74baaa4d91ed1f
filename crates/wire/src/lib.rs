//! ZooKeeper's frozen formats: bytes to values and back. Decoders are total (any bytes give a value or an
//! error) and bounded (no memory is taken for a length that was only claimed, B2). Nothing here knows what a
//! value is for.

mod client;
mod jute;
mod reply;

pub use client::{
    ConnectRequest, FrameError, REQUEST_LENGTH_MAX_DEFAULT, Request, RequestHeader, decode_acl_list,
    decode_request, encode_acl_list, encode_request, frame, next_frame,
};
pub use jute::{DecodeError, Decoder, Encoder};
pub use reply::{
    ConnectResponse, MultiReadResult, ReplyHeader, STAT_LENGTH, XID_PING, XID_WATCH_EVENT,
    decode_acl_and_stat, decode_client_infos, decode_data_and_stat, decode_error_code, decode_multi_read,
    decode_names, decode_outcome, decode_stat, decode_watch_event, encode_acl_and_stat, encode_client_infos,
    encode_data_and_stat, encode_multi_data, encode_multi_end, encode_multi_error, encode_multi_names,
    encode_names, encode_outcome, encode_stat, reply, reply_header, reply_undecodable, watch_event,
};
