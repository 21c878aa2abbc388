//! Waiting for whichever of three futures is ready first.
//!
//! Purpose: the loop's only tool of concurrency. The futures that lose are dropped, so only
//! cancel-safe ones are given by value (reads of a packet's header, timers); a write is given as a
//! pinned reference and so goes on afterwards.
//!
//! What it does not do: it is not fair. The earlier argument wins when several are ready.

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

/// Which of three came first.
pub(crate) enum Either3<A, B, C> {
    /// The first argument.
    First(A),
    /// The second argument.
    Second(B),
    /// The third argument.
    Third(C),
}

/// The first of three to be ready.
pub(crate) async fn select3<A: Future, B: Future, C: Future>(
    a: A,
    b: B,
    c: C,
) -> Either3<A::Output, B::Output, C::Output> {
    let (mut a, mut b, mut c) = (pin!(a), pin!(b), pin!(c));
    poll_fn(|cx| {
        if let Poll::Ready(out) = a.as_mut().poll(cx) {
            return Poll::Ready(Either3::First(out));
        }
        if let Poll::Ready(out) = b.as_mut().poll(cx) {
            return Poll::Ready(Either3::Second(out));
        }
        c.as_mut().poll(cx).map(Either3::Third)
    })
    .await
}
