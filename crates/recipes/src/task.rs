//! A task that ends with who started it.

use tokio::task::AbortHandle;

/// Stops its task when it is dropped, at the next await of the task.
#[derive(Debug)]
pub(crate) struct Task(pub(crate) AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
