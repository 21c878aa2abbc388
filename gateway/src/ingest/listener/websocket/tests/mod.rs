//! The handshake, and what a connection over WebSocket costs.

mod handshake;

use std::sync::Arc;

use super::Shared;
use crate::{
    access::origin::Origin,
    ingest::{connection::buffer::IDLE_BYTES, limiter::Permit, registry::DisconnectHandle},
    store::Intake,
};

#[test]
fn an_idle_websocket_fits_in_its_memory() {
    fn size_of_task<F: Future>(
        _: impl Fn(tokio::net::TcpStream, Origin, Intake, Arc<Shared>, DisconnectHandle, Permit) -> F,
    ) -> usize {
        size_of::<F>()
    }
    let task = size_of_task(super::serve);
    assert!(task + IDLE_BYTES < 8 * 1024, "the task alone has {task} bytes");
}
