//! The zookeeper-client crate against a standalone server, which the script `run` starts, kills and starts again.

mod harness;
mod sessions;
mod watches;
mod znodes;

use futures::future::BoxFuture;
use harness::Context;

/// A test's name and body; a failing test panics.
type Test = (&'static str, fn(Context) -> BoxFuture<'static, ()>);

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), |context| Box::pin($module::$name(context)))),*]
    };
}

#[tokio::main]
async fn main() {
    let tests: &[Test] = &tests![
        znodes::create_modes,
        znodes::containers_and_ttl_znodes_are_deleted_by_the_server,
        znodes::versions_stats_and_errors,
        znodes::unicode_names,
        znodes::large_data_up_to_the_limit_and_refusal_beyond_it,
        znodes::pipelined_requests_are_answered_in_order,
        znodes::racing_clients,
        znodes::descendants_are_counted_and_ephemerals_listed,
        znodes::multi_writes,
        znodes::multi_reads,
        znodes::acls_and_authentication,
        znodes::chroots,
        znodes::configuration,
        watches::one_shots_fire_once_with_the_zxid_of_their_change,
        watches::persistent_watches_stay,
        watches::recursive_watches_see_the_whole_subtree,
        watches::several_watches_of_one_client_get_each_their_events,
        watches::a_dropped_watch_is_removed_from_the_server,
        watches::watches_are_armed_again_after_a_reconnection,
        watches::watches_are_armed_again_after_a_kill,
        sessions::handshake,
        sessions::the_timeout_is_clamped,
        sessions::a_dropped_client_closes_its_session_at_once,
        sessions::a_detached_session_is_taken_up_again,
        sessions::a_silent_session_expires,
        sessions::sessions_and_acknowledged_writes_survive_a_kill,
        sessions::locks_are_held_by_one_client_at_a_time,
        sessions::a_lock_passes_on_and_guards_its_writes,
    ];
    std::process::exit(harness::run(tests).await);
}
