//! Sends a record that comes to several messages: one packet each, as the window has room.
//!
//! If a part of a record cannot be sent, the whole of it is set aside before an answer about the rest is looked at.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Lane, ROOM};
use crate::{
    store::Record,
    uplink::{engine::mqtt::transport::Broken, format::Format, source::Source},
};

impl<S: Source, Io: AsyncRead + AsyncWrite + Unpin> Lane<'_, S, Io> {
    /// Writes all messages of the record into the outbox, or sets it aside. False on shutdown.
    pub(super) async fn put_described(&mut self, offset: u64, record: &Record<'_>) -> Result<bool, Broken> {
        let Format::Described(described) = &mut *self.shared.format else { return Ok(true) };
        let (messages, problem) = described.prepare(offset, record, &self.limits);
        if messages == 0 {
            let id = self.window.push(offset, record.events, self.now).expect(ROOM);
            match problem {
                Some(why) => self.set_aside(Some(id), offset, record, why, 0).await?,
                None => {
                    self.window.set_aside(id);
                    self.release();
                }
            }
            return Ok(true);
        }
        if let Some(why) = problem {
            self.set_aside(None, offset, record, why, 0).await?;
        }
        for index in 0..messages {
            while !self.may_fill() {
                let event = self.wait(false).await?;
                if !self.handle(event).await? {
                    return Ok(false);
                }
            }
            let id = self.window.push_part(offset, 1, index + 1 == messages, self.now).expect(ROOM);
            if let Format::Described(described) = &*self.shared.format {
                described.write(index, id, self.link.outbox());
            }
        }
        Ok(true)
    }
}
