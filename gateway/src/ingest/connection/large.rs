//! Room for packets that are large: there is some for all clients together, taken for a whole
//! packet once its header says how long it is, and waited for in the order of their coming.
//!
//! ```text
//!   header ─▶ up to SMALL_PACKET_BYTES ─────────────────────────────────▶ read
//!          └▶ longer ─▶ Waiting, nothing is read ─▶ Coming, read ─▶ whole, in the intake: the room is given back
//!                                                     └ no more of it for STALL_MAX: the connection ends
//! ```
//! Who sends small packets never waits here. Limits: [`LARGE_ROOM_BYTES`], and of a packet that has
//! room [`STEP_BYTES`] more in each [`STALL_MAX`]: who sends the rest of it too slowly keeps others
//! from the room.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::mqtt::limits::SMALL_PACKET_BYTES;

/// Bytes of all packets beyond [`SMALL_PACKET_BYTES`] that are being read, and of those whose
/// record waits for the intake.
pub const LARGE_ROOM_BYTES: usize = 16 * 1024 * 1024;
/// Longest wait for more of a large packet.
pub const STALL_MAX: Duration = Duration::from_secs(10);
/// How much more that is, in bytes: a radio link of 256 kbit/s does it.
pub const STEP_BYTES: usize = 256 * 1024;
/// What a client may be held to at the least, in bytes per second, that sends large packets.
pub const BYTES_PER_S_LEAST: u64 = (STEP_BYTES as u64).div_ceil(STALL_MAX.as_secs());
/// What is counted: a semaphore's permits are 32 bits.
const UNIT_BYTES: usize = 1024;

/// The room of all connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LargeRoom(Arc<Semaphore>);

impl Default for LargeRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_ROOM_BYTES / UNIT_BYTES)))
    }
}

type Reserved = Option<OwnedSemaphorePermit>;

/// One connection's large packet.
pub(super) struct Large {
    room: LargeRoom,
    state: State,
}

enum State {
    None,
    Waiting(Pin<Box<dyn Future<Output = Reserved> + Send + Sync>>),
    Coming(Coming),
}

/// A packet that has room.
struct Coming {
    _permit: Reserved,
    read_bytes: usize,
    /// Once so many are here, there is more time.
    next_bytes: usize,
    /// `None` for one that is whole.
    until: Option<Instant>,
}

impl State {
    fn coming(now: Instant, permit: Reserved) -> Self {
        let until = Some(now + STALL_MAX);
        Self::Coming(Coming { _permit: permit, read_bytes: 0, next_bytes: STEP_BYTES, until })
    }
}

impl Large {
    pub fn new(room: LargeRoom) -> Self {
        Self { room, state: State::None }
    }

    /// The packet that is being read has `bytes` in all, as far as is known, and `read_bytes` of it
    /// are here; 0 between packets, once all is in the intake.
    #[inline]
    pub fn note(&mut self, now: Instant, bytes: usize, read_bytes: usize) {
        match (&mut self.state, bytes > SMALL_PACKET_BYTES) {
            (State::None, false) | (State::Waiting(_), true) => {}
            (State::None, true) => self.enter(now, bytes),
            (State::Coming(_) | State::Waiting(_), false) => self.state = State::None,
            (State::Coming(coming), true) if read_bytes < coming.read_bytes => {
                // The next one, right behind.
                self.state = State::None;
                self.enter(now, bytes);
            }
            (State::Coming(coming), true) => {
                coming.read_bytes = read_bytes;
                if read_bytes >= coming.next_bytes {
                    (coming.until, coming.next_bytes) = (Some(now + STALL_MAX), read_bytes + STEP_BYTES);
                }
            }
        }
    }

    /// The packet is whole, and its record waits for the intake.
    pub fn note_whole(&mut self) {
        if let State::Coming(coming) = &mut self.state {
            coming.until = None;
        }
    }

    fn enter(&mut self, now: Instant, bytes: usize) {
        // No packet is longer than the room; if one were, it would have all of it.
        let units = bytes.div_ceil(UNIT_BYTES).min(LARGE_ROOM_BYTES / UNIT_BYTES) as u32;
        let room = self.room.0.clone();
        self.state = match room.clone().try_acquire_many_owned(units) {
            Ok(permit) => State::coming(now, Some(permit)),
            Err(_) => State::Waiting(Box::pin(async move { room.acquire_many_owned(units).await.ok() })),
        };
    }

    /// Whether room is waited for.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Waits for room; for ever if none is waited for. Cancel-safe: the place in the queue is kept.
    pub async fn entered(&mut self) -> Entered {
        match &mut self.state {
            State::Waiting(permit) => Entered(permit.await),
            _ => std::future::pending().await,
        }
    }

    /// There is room.
    pub fn handle_entered(&mut self, now: Instant, Entered(permit): Entered) {
        if self.is_waiting() {
            self.state = State::coming(now, permit);
        }
    }

    /// When more of the packet has to be here.
    #[inline]
    pub fn due(&self) -> Option<Instant> {
        if let State::Coming(coming) = &self.state { coming.until } else { None }
    }
}

/// Room that was waited for.
#[derive(Debug)]
pub(super) struct Entered(Reserved);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, ingest::limits::PACKET_BYTES_LIMIT};

    const _: () = assert!(PACKET_BYTES_LIMIT <= LARGE_ROOM_BYTES);

    #[tokio::test]
    async fn large_packets_wait_for_their_room_in_turn_and_small_ones_never() {
        let (room, now) = (LargeRoom::default(), clock::monotonic());
        let mut all: Vec<_> = (0..4).map(|_| Large::new(room.clone())).collect();
        let half = LARGE_ROOM_BYTES / 2;
        for large in &mut all[..3] {
            large.note(now, half, 0);
        }
        assert_eq!(all.iter().map(Large::is_waiting).collect::<Vec<_>>(), [false, false, true, false]);
        all[3].note(now, SMALL_PACKET_BYTES, 0);
        assert!(!all[3].is_waiting() && all[3].due().is_none());

        // The first in the queue keeps its place although it looked away, and though a shorter one
        // comes.
        let again = tokio::time::timeout(Duration::from_millis(1), all[2].entered()).await;
        assert!(again.is_err());
        all[3].note(now, SMALL_PACKET_BYTES + 1, 0);
        all[0].note(now, 0, 0);
        let entered = all[2].entered().await;
        all[2].handle_entered(now, entered);
        assert!(!all[2].is_waiting() && all[3].is_waiting());
        all[1].note(now, 0, 0);
        let entered = all[3].entered().await;
        all[3].handle_entered(now, entered);
        drop(all);
        assert_eq!(room.0.available_permits(), LARGE_ROOM_BYTES / UNIT_BYTES);
    }

    #[test]
    fn more_of_a_large_packet_has_to_come_in_time_and_a_little_is_not_more() {
        let (mut large, start) = (Large::new(LargeRoom::default()), clock::monotonic());
        let at = |s| start + Duration::from_secs(s);
        large.note(at(0), 10 * STEP_BYTES, 10);
        for (second, read_bytes, due) in [
            (5, STEP_BYTES - 1, 10),
            (9, STEP_BYTES, 19),
            (18, 2 * STEP_BYTES - 1, 19),
            (19, 5 * STEP_BYTES, 29),
        ] {
            large.note(at(second), 10 * STEP_BYTES, read_bytes);
            assert_eq!(large.due(), Some(at(due)), "{second} s");
        }
        // Another one, right behind.
        large.note(at(30), 10 * STEP_BYTES, 10);
        assert_eq!(large.due(), Some(at(40)));
        large.note_whole();
        assert_eq!(large.due(), None);
    }
}
