//! Publishing a will from the broker, as its client would have: into the log, or to those who take
//! it.

use super::{Broker, Incoming, Staged, Wanted, message::Message};
use crate::{
    clock::Now,
    mqtt::topics,
    routing::{self, Verdict},
    store::{AppendError, Batch, Intake, Record},
};

impl Broker {
    /// Publishes a will as its client would have, and gives the watermark at which it is durable.
    /// `None` if there is no room for it now.
    pub(super) fn publish_will(&self, intake: &Intake, will: &Message, now: Now) -> Option<u64> {
        // One that an earlier version took.
        if topics::is_reserved(&will.topic) {
            return Some(0);
        }
        let routes = &self.0.settings.routes;
        let properties = will.all_properties();
        let published = will.record(now.wall_ms, &properties);
        let (mut batch, mut in_log) = (Batch::default(), None);
        match routing::judge(&will.topic, &will.payload, routes) {
            Verdict::Store { kind, events, urgent, device_level, .. } => {
                batch.push(&Record { kind, events, urgent, device_level, ..published });
            }
            Verdict::NoRoute => match self.wants(&incoming(will), &Staged::new()) {
                Wanted::No => return Some(0),
                Wanted::Stored { pair, is_hurried } => {
                    batch.push(&Record { local: true, events: 0, ..published });
                    in_log = Some(pair);
                    if is_hurried {
                        batch.hurry();
                    }
                }
                Wanted::Transient => {
                    self.route_transient(Message::of(&published, now.steady_ms));
                    return Some(0);
                }
            },
        }
        match intake.append(&mut batch) {
            Ok(ticket) => {
                self.note_in_log(in_log, ticket + 1);
                Some(ticket + 1)
            }
            Err(AppendError::Full | AppendError::StoreFull | AppendError::Closed) => None,
        }
    }
}

/// A will has no packet id.
fn incoming(will: &Message) -> Incoming<'_> {
    Incoming {
        client: &will.publisher,
        topic: &will.topic,
        qos: will.qos,
        retain: will.retain,
        is_id_kept: false,
    }
}
