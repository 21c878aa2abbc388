//! Large answers take turns: a list of all devices or kinds is megabytes, and a client may ask for
//! it and not read it.
//!
//! ```text
//!   request ─▶ turn, waited for 10 s ─▶ answer, in pieces of 64 KiB ─▶ read to its end or given up: the next one's turn
//! ```
//! Limits: [`ANSWERS_MAX`] answers at a time, and so in memory; a client beyond waits for
//! [`TURN_TIMEOUT`] and is told 503.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Error, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::answer::Refused;

/// Answers that are made or read at a time.
pub const ANSWERS_MAX: usize = 4;
/// How long a request waits for its turn.
pub const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// A piece is copied, so that the whole answer is gone when its last piece has been taken.
const PIECE_BYTES: usize = 64 * 1024;

/// These paths with turns.
pub(super) fn take<S: Clone + Send + Sync + 'static>(paths: Router<S>) -> Router<S> {
    paths.layer(from_fn_with_state(Arc::new(Semaphore::new(ANSWERS_MAX)), turn))
}

async fn turn(State(turns): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(Ok(turn)) = timeout(TURN_TIMEOUT, turns.acquire_owned()).await else {
        let why =
            format!("{ANSWERS_MAX} other answers are under way and their clients read slowly: ask again");
        return Refused { status: StatusCode::SERVICE_UNAVAILABLE, why }.into_response();
    };
    next.run(request).await.map(|body| Body::new(Turn { body, rest: Bytes::new(), _turn: turn }))
}

/// An answer whose turn it is, until it is dropped.
struct Turn {
    body: Body,
    rest: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl hyper::body::Body for Turn {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        while self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = Bytes::copy_from_slice(&self.rest.split_to(length));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
