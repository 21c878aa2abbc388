//! A clock that jumps when there is nothing else to do, and a connection to a gateway that says as
//! little as it is told.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::task::Poll;

use embedded_io_async::{ErrorType, Read, Write};
use tidegate_firmware::board::{Clock, Connection};

/// CONNACK of MQTT 5: taken, no session, no properties.
pub const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];
/// The wall clock at the uptime 0, in milliseconds.
pub const BOOTED_MS: u64 = 1_763_000_000_000;

/// Its sleep ends when it is polled a second time, and brings the time with it: nothing else was
/// ready by then.
#[derive(Clone, Default)]
pub struct JumpingClock(Rc<Cell<u64>>);

impl Clock for JumpingClock {
    fn uptime_ms(&self) -> u64 {
        self.0.get()
    }

    async fn sleep_until(&self, uptime_ms: u64) {
        let mut polled = false;
        std::future::poll_fn(|_| {
            let ready = std::mem::replace(&mut polled, true) || self.0.get() >= uptime_ms;
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.0.set(self.0.get().max(uptime_ms));
    }

    fn wall_ms(&self) -> Option<u64> {
        Some(BOOTED_MS + self.0.get())
    }
}

/// A connection that gives its answer and then nothing, and takes all that is written.
pub struct Stream {
    answer: Vec<u8>,
    pub written: Rc<RefCell<Vec<u8>>>,
}

impl Stream {
    pub fn answering(answer: &[u8]) -> Self {
        Stream { answer: answer.to_vec(), written: Rc::default() }
    }
}

impl ErrorType for Stream {
    type Error = Infallible;
}

impl Read for Stream {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Infallible> {
        if self.answer.is_empty() {
            std::future::pending().await
        }
        let bytes = out.len().min(self.answer.len());
        out[..bytes].copy_from_slice(&self.answer[..bytes]);
        self.answer.drain(..bytes);
        Ok(bytes)
    }
}

impl Write for Stream {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.written.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Connection for Stream {
    async fn close(&mut self) {}
}
