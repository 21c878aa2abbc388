//! The end of a connection: the will and the session's end are appended, the slot is given up, and
//! the rest of the output is written under a time limit.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt as _,
    time::{timeout, timeout_at},
};

use super::Connection;
use crate::{
    clock::{self, now},
    ingest::{
        connection::{
            backpressure::Last,
            report,
            socket::{LINGER, Socket, Wire, linger},
        },
        session::{End, Ending},
    },
    mqtt::fault::Fault,
};

/// Longest wait for room for a session's last records.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The same while the gateway stops: a stop has to end within ten seconds, draining included.
const END_TIMEOUT_STOPPING: Duration = Duration::from_secs(1);
/// Longest wait for the last output to be written.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

impl<Io: Wire> Connection<Io> {
    /// The last records, the slot, the last output.
    pub(super) async fn finish(&mut self) {
        let Some(end) = self.session.end() else { return };
        report::end(
            &self.shared.metrics,
            &self.shared.log_once,
            self.session.client(),
            self.origin.peer,
            self.slot.is_some(),
            end,
        );
        self.report_disconnected(end);
        if let Some(slot) = self.slot.take() {
            let save = self.append_end().await;
            drop(slot);
            self.shared.metrics.disconnected();
            if let Some(number) = save.filter(|_| matches!(end, End::Disconnect { .. })) {
                // The client may take the close for its session's end.
                self.wait_saved(number).await;
            }
        }
        self.report();
        let Connection { socket: Socket { io, .. }, session, .. } = self;
        if end == End::Lost {
            return;
        }
        let last = async {
            while !session.output().is_empty() {
                let bytes = session.output().len();
                io.write_all(session.output()).await?;
                session.handle_written(now(), bytes);
            }
            io.shutdown().await
        };
        let is_told = matches!(end, End::Fault(fault) if fault != Fault::PushedOut);
        if matches!(timeout(CLOSE_TIMEOUT, last).await, Ok(Ok(()))) && is_told {
            // Whether the client closes or the time is over makes no difference here.
            let _ = timeout(LINGER, linger(io)).await;
        }
    }

    /// Gives the save after which what ended is gone for good.
    async fn append_end(&mut self) -> Option<u64> {
        let pending = self.backpressure.has_pending(self.session.client());
        let Ending { will, save } = self.session.handle_end(now(), pending, &mut self.backpressure.batch);
        let is_stopping = self.disconnect.cause() == Some(Fault::Stopping);
        let until = clock::monotonic() + if is_stopping { END_TIMEOUT_STOPPING } else { END_TIMEOUT };
        let last = loop {
            let session = &mut self.session;
            let appended = self.backpressure.append_last(|refused| {
                session.handle_refused(refused);
                session.note_store_full();
            });
            match appended {
                Ok(Last::NoRoom) => {}
                Ok(last) => break last,
                Err(_) => return save,
            }
            if timeout_at(until.into(), self.backpressure.intake_room()).await.is_err() {
                tracing::warn!(client = %self.session.client(), "no room for the last records of a session");
                break Last::NoRoom;
            }
        };
        if let Last::Appended { committed_at } = last {
            // Before its client is back, and publishes on its will's topic.
            self.session.handle_in_log(committed_at);
        }
        let (client, broker) = (self.session.client(), &self.shared.broker);
        match (will, last) {
            (None, _) => {}
            (Some(will), Last::Appended { committed_at }) => {
                broker.will_published(client, &will, committed_at)
            }
            // It is published as soon as there is room.
            (Some(will), _) => broker.leave_will(client, &will, clock::steady_ms()),
        }
        save
    }
}
