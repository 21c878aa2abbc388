//! The one thread on which all simulated devices of a process run.
//!
//! Purpose: the core is made for a single-threaded executor and its future cannot move between
//! threads (`rust-mqtt` keeps a plain `dyn Fn`). So it is made and driven here, and [`drive`] is
//! what can move.
//!
//! Limits: one thread, started with the first device and kept for the life of the process;
//! [`STARTING_MAX`] devices that wait to be started, the next callers wait.
//!
//! What it does not do: no clock of its own. A test with a paused clock does not pause the devices.

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::thread;

use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tracing::error;

const STARTING_MAX: usize = 64;

type Start = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

static STARTS: LazyLock<io::Result<mpsc::Sender<Start>>> = LazyLock::new(|| {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (starts, mut started) = mpsc::channel::<Start>(STARTING_MAX);
    thread::Builder::new().name("simulated-devices".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            while let Some(start) = started.recv().await {
                tokio::task::spawn_local(start());
            }
        });
    })?;
    Ok(starts)
});

/// Makes a future on the devices' thread and waits for its end there. When this is dropped, the
/// other goes on: the caller sees to its end.
pub(crate) async fn drive<F, Fut>(make: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let starts = match &*STARTS {
        Ok(starts) => starts,
        Err(reason) => return error!(%reason, "the thread for simulated devices did not start"),
    };
    let (ended, wait) = oneshot::channel();
    let start: Start = Box::new(move || {
        Box::pin(async move {
            make().await;
            // Nobody waits any more: then nobody needs to know.
            let _ = ended.send(());
        })
    });
    if starts.send(start).await.is_ok() {
        // An error is a device that panicked: the runtime has reported it, and there is nothing to
        // wait for.
        let _ = wait.await;
    }
}
