//! Sends a record that comes to several messages: one packet each, as the window has room.
//!
//! A part of a record that cannot be sent is set aside, with the whole of the record, before the rest is sent.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{format::Format, link::Broken, source::Source},
    Lane, ROOM, set_aside,
};
use crate::store::Record;

impl<S: Source, Io: AsyncRead + AsyncWrite + Unpin> Lane<'_, S, Io> {
    /// Writes all messages of the record into the outbox. False if not all of it can be sent, or on shutdown.
    pub(super) async fn put_described(&mut self, offset: u64, record: &Record<'_>) -> Result<bool, Broken> {
        let Format::Described(described) = &mut *self.shared.format else { return Ok(true) };
        let (messages, problem) = described.prepare(offset, record, &self.limits);
        let is_whole = problem.is_none();
        if let Some(why) = problem {
            self.set_aside_now.insert(offset);
            set_aside(&mut self.shared, offset, record, &why, 0).await?;
        }
        if messages == 0 {
            let id = self.window.push(offset, record.events, self.now).expect(ROOM);
            self.window.set_aside(id);
            self.release();
            return Ok(is_whole);
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
        Ok(is_whole)
    }
}
