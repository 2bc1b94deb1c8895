//! Work of the runtime for which a thread waits that may not be the runtime's to block on.

use std::sync::mpsc::sync_channel;

use farthing_types::Span;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Carries out `work` on the runtime and waits for it; `None`: not within this time, and it is not known what becomes of it. Not `block_on`: whoever asks may be
/// on a thread of the runtime.
pub fn wait_for<T: Send + 'static>(
    (runtime, tasks): (&Handle, &TaskTracker),
    within: Span,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (done, answer) = sync_channel(1);
    let carry_out = async move {
        let _nobody_waits = done.send(work.await);
    };
    drop(tasks.spawn_on(carry_out, runtime));
    answer.recv_timeout(within).ok()
}
