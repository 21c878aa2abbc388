//! What goes into a session and comes out of it.

use std::sync::Arc;

use crate::{
    access::audit::Action,
    mqtt::{connect::Will, fault::Fault},
    store::{Batch, Record},
};

/// Where a session's records go: the store's batch, or a test's list. Every call takes one ticket.
pub trait Sink {
    /// QoS 0 and 1.
    fn push(&mut self, record: &Record<'_>);
    /// QoS 2.
    fn push_exactly_once(&mut self, record: &Record<'_>, packet_id: u16);
    /// PUBREL.
    fn push_release(&mut self, client: &str, packet_id: u16);
    /// Somebody waits for what was pushed last.
    fn hurry(&mut self) {}
}

impl Sink for Batch {
    fn push(&mut self, record: &Record<'_>) {
        Batch::push(self, record);
    }
    fn push_exactly_once(&mut self, record: &Record<'_>, packet_id: u16) {
        Batch::push_exactly_once(self, record, packet_id);
    }
    fn push_release(&mut self, client: &str, packet_id: u16) {
        Batch::push_release(self, client, packet_id);
    }
    fn hurry(&mut self) {
        Batch::hurry(self);
    }
}

/// What happened since it was last taken, to be counted in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events that came in, those that are refused included.
    pub events: u64,
    /// Bytes of their topics and payloads.
    pub bytes: u64,
    /// PUBLISH packets, whatever became of them.
    pub publishes: u64,
    /// Packets that came and are none.
    pub other_packets: u64,
    /// Packets that were written, publishes excepted.
    pub answers: u64,
    /// Publishes that no route takes.
    pub unrouted: u64,
    /// Payloads on a frame topic that are no frame.
    pub malformed_frames: u64,
    /// Payloads on a route for text that are no UTF-8.
    pub malformed_texts: u64,
    /// What the client may not do and tried, by [`Action`].
    pub denied: [u64; Action::ALL.len()],
    /// Events not stored because the store is full.
    pub refused_events: u64,
}

/// Something for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// No route takes this topic.
    Unrouted(String),
    /// The client may not do this with this topic or filter.
    Denied(Action, String),
    /// The client uses a packet id in flight for another publish.
    PacketIdReused(u16),
    /// What the client published on this topic is no UTF-8, and its route is for text.
    NoText(String),
    /// The store is full, and what the client publishes is not stored.
    StoreFull,
}

/// What is left to do for a session that has ended.
#[derive(Debug, Default)]
pub struct Ending {
    /// The will that went into the sink.
    pub will: Option<Arc<Will>>,
    /// The save after which a session or a will that was kept is gone for good.
    pub save: Option<u64>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client said so.
    Disconnect {
        /// And wants its will published.
        with_will: bool,
    },
    /// It was ended here.
    Fault(Fault),
    /// The connection broke.
    Lost,
}
