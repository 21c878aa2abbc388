//! What local clients had before the start, taken up before any of them is let in.

use std::{collections::HashSet, sync::Arc};

use super::{Broker, StoreHandles};
use crate::{
    clock,
    store::{LOCAL_SUBSCRIBERS, View},
};

/// Takes up what was kept, and gives the offset from which to follow the log: to be called before a
/// client is let in, whose session might be among what was kept.
pub(crate) async fn restore(broker: &Broker, ends: &StoreHandles) -> u64 {
    let position = load(broker, &ends.view).await;
    ends.view.hold(LOCAL_SUBSCRIBERS, position);
    broker.expire_sessions(clock::steady_ms());
    // What "session present" would not be said of begins anew.
    let known: HashSet<_> = broker.0.sessions.lock().keys().cloned().collect();
    let pending = ends.pending_clients.iter().map(|client| Arc::<str>::from(&**client));
    pending.filter(|client| !known.contains(client)).for_each(|client| broker.end_packet_ids(&client));
    position
}

async fn load(broker: &Broker, view: &View) -> u64 {
    let end = view.end().offset;
    broker.note_file_room(view.session_bytes_max());
    let loading = {
        let view = view.clone();
        tokio::task::spawn_blocking(move || view.load_sessions(&clock::reading())).await
    };
    match loading {
        Ok(Ok(Some(kept))) => {
            let position = kept.position;
            tracing::info!(
                sessions = kept.sessions.len(),
                retained = kept.retained.len(),
                "local subscribers' sessions are taken up again"
            );
            broker.restore(kept, clock::steady_ms(), view.timeline().journal().off_ms());
            position
        }
        Ok(Ok(None)) => {
            // What is retained from now on is found again behind this position, however soon the
            // power goes.
            let view = view.clone();
            let made = tokio::task::spawn_blocking(move || view.save_sessions(vec![], end)).await;
            if let Ok(Err(error)) = made {
                tracing::error!("local subscribers' sessions cannot be saved: {error}; trying on");
            }
            end
        }
        Ok(Err(error)) => {
            tracing::error!("clients begin without their sessions: {error}");
            // Should the file be readable again: what it says is not so any more.
            broker.note_not_saved();
            end
        }
        Err(_) => end,
    }
}
