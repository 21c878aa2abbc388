//! Sends a record that comes to several messages, as the window has room.
//!
//! If a part of a record cannot be sent, the whole of it becomes a dead letter before an answer
//! about the rest is looked at.

use super::{super::broken::Broken, Lane, ROOM};
use crate::{
    clock,
    store::Record,
    uplink::{engine::Connection, format::Format, source::Source},
};

impl<S: Source, C: Connection> Lane<'_, S, C> {
    /// Puts all messages of the record into the connection, or sets it aside. False on shutdown.
    pub(super) async fn put_parts(&mut self, offset: u64, record: &Record<'_>) -> Result<bool, Broken> {
        let Format::Decoded(decoded) = &mut *self.shared.format else { return Ok(true) };
        let connection = &mut self.connection;
        let (messages, problem) =
            decoded.prepare(offset, record, &self.can, |message| connection.check(message));
        if messages == 0 {
            let token = self.window.push(offset, record.events, self.now).expect(ROOM);
            match problem {
                Some(why) => self.dead_letter(Some(token), offset, record, why, 0).await?,
                None => {
                    self.window.give_up(token);
                    self.release();
                }
            }
            return Ok(true);
        }
        if let Some(why) = problem {
            self.dead_letter(None, offset, record, why, 0).await?;
        }
        for index in 0..messages {
            let Format::Decoded(decoded) = &*self.shared.format else { continue };
            let bytes = decoded.message(index).bytes();
            while !self.may_fill(bytes) {
                let event = self.wait(false).await?;
                if !self.handle(event).await? {
                    return Ok(false);
                }
            }
            let token = self.window.push_part(offset, 1, index + 1 == messages, self.now).expect(ROOM);
            let Format::Decoded(decoded) = &*self.shared.format else { continue };
            let message = decoded.message(index).aged(record.received_ms, clock::wall_ms);
            match self.connection.send(token, &message) {
                Ok(()) if self.is_paced => self.note_sent(bytes),
                Ok(()) => {}
                Err(why) => self.dead_letter(Some(token), offset, record, why.into(), 0).await?,
            }
        }
        Ok(true)
    }
}
