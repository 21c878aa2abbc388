//! MQTT over WebSocket: MQTT 5 section 6, RFC 6455. What a browser, and whatever is set up for one,
//! can connect by.
//!
//! ```text
//!   accept loop ─▶ (TLS) ─▶ serve ─▶ handshake ──good──▶ stream ─▶ connection, as over TCP
//!                                      └ refused: an answer in words
//!   stream ─▶ frames: where they lie, without a buffer of their own
//! ```
//! Reading order: here, `handshake`, then the room `websocket`. One time limit, `connect_timeout`,
//! covers the HTTP request and CONNECT, and the connection's permit is the one it has until the
//! close handshake is over.
//!
//! Limits: an idle connection has about 1 KB more than a plain one. A frame may be as long
//! as it likes, for none is kept: the limits are those of the MQTT packets in it. A client that
//! breaks WebSocket's rules is closed with the code for it, told once for each address, and
//! counted. It judges no path and no Origin: any page that a browser shows may try to connect, and
//! gets in as far as access lets it. It compresses nothing.

mod handshake;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    access::origin::Origin,
    clock::now,
    ingest::{
        connection::{
            self, CLOSE_TIMEOUT, Shared, report,
            socket::{LINGER, Wire, linger},
        },
        limiter::Permit,
        registry::DisconnectHandle,
    },
    mqtt::fault::Fault,
    store::Intake,
    websocket::{End, Stream},
};
use handshake::{Refusal, shake};

impl<Io: Wire> Wire for Stream<Io> {
    fn acknowledge(&self) {
        self.below().acknowledge();
    }
}

/// Serves one client from the first byte of its request to its end.
pub(super) async fn serve<Io: Wire>(
    mut io: Io,
    origin: Origin,
    intake: Intake,
    shared: Arc<Shared>,
    disconnect: DisconnectHandle,
    permit: Permit,
) {
    let since = now();
    let token = disconnect.token().clone();
    let shaken = Box::pin(timeout(shared.settings.connect_timeout, shake(&mut io)));
    let shaken = tokio::select! {
        biased;
        () = token.cancelled() => return,
        shaken = shaken => shaken.unwrap_or(Err(Refusal::Timeout)),
    };
    let early = match shaken {
        Ok(early) => early,
        Err(refusal) => {
            let why = refusal.is_told().then_some(&refusal as &dyn fmt::Display);
            report::websocket(&shared.log_once, &origin, refusal.label(), why);
            return refuse(io, refusal).await;
        }
    };
    let mut stream = Stream::server(io, early);
    let permit = connection::serve(
        &mut stream,
        origin.clone(),
        intake,
        shared.clone(),
        disconnect.clone(),
        permit,
        since,
    )
    .await;
    if let Some(End::Violation(violation)) = stream.ended() {
        report::websocket(&shared.log_once, &origin, violation.label(), Some(&violation));
    }
    if disconnect.cause() != Some(Fault::PushedOut) {
        close(stream).await;
    }
    drop(permit);
}

/// Says why, and lets it be read.
async fn refuse<Io: AsyncRead + AsyncWrite + Unpin>(mut io: Io, refusal: Refusal) {
    let Some(response) = refusal.response() else { return };
    let last = async {
        io.write_all(response.as_bytes()).await?;
        io.shutdown().await
    };
    if matches!(timeout(CLOSE_TIMEOUT, last).await, Ok(Ok(()))) {
        // Whether the client closes or the time is over makes no difference here.
        let _ = timeout(LINGER, linger(&mut io)).await;
    }
}

/// The close handshake, unless the client is gone. It asks the client to answer and to close, and
/// waits for that for a while.
async fn close<Io: AsyncRead + AsyncWrite + Unpin>(mut stream: Stream<Io>) {
    if stream.ended() != Some(End::Lost)
        && matches!(timeout(CLOSE_TIMEOUT, stream.shutdown()).await, Ok(Ok(())))
    {
        let _ = timeout(LINGER, linger(stream.below_mut())).await;
    }
}
