//! What commands run on, until they end or are interrupted.

use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::output::Output;

/// A runtime; when there cannot be one, that is told.
pub(crate) fn runtime(output: Output) -> Option<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(2).enable_all().build();
    let told = |error| {
        let message = format!("the runtime cannot be started: {error}");
        output.failure(&Failure::new("Unexpected", message));
    };
    built.map_err(told).ok()
}

/// Runs a future until it ends or Ctrl-C is pressed.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        outcome = work => Some(outcome),
        // Without a handler Ctrl-C ends the process, which is what is asked for as well.
        Ok(()) = tokio::signal::ctrl_c() => None,
    }
}
