//! The outer half of the loop, while a connection stands: publish what the window allows, take what comes in, ping.
//!
//! Purpose: the one place where a frame becomes acknowledged. A PUBACK with a reason code of 0x80 or more (0x97: the
//! gateway's disk is full) is not one: the frame stays, and sending pauses with back-off.
//!
//! Limits: at most the window's frames are unacknowledged. A PUBACK may be late without end, as long as pings are answered.
//!
//! What it does not do: it makes no connection and waits for none.

use super::{ANSWER_MS_MAX, Board, Line};
use crate::board::{Dialer, Entropy, Progress};
use crate::device::intake::Intake;
use crate::keepalive::{KeepAlive, Verdict};
use crate::link::{Granted, Incoming, Link, LinkError, WINDOW_MAX};
use crate::select::Either3;

/// Exchanges packets until the run is over (`Ok`) or the connection is.
pub(super) async fn exchange<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_>,
    entropy: &mut B::Entropy,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
    topic: &str,
    window: u8,
    granted: Granted,
) -> Result<(), LinkError>
where
    B::Dialer: 'd,
{
    let window = usize::from(window).clamp(1, WINDOW_MAX).min(usize::from(granted.receive_max));
    let mut keep_alive = KeepAlive::new(granted.keep_alive_s, intake.now_ms());
    let mut hold_until_ms = 0;
    loop {
        if intake.is_due() {
            intake.turn().await;
        }
        if intake.is_drained() {
            return Ok(());
        }
        let mut wake_ms = u64::MAX;
        if intake.now_ms() < hold_until_ms {
            wake_ms = hold_until_ms;
        } else if publish_one(intake, line, link, topic, window).await? {
            keep_alive.sent(intake.now_ms());
            continue;
        }
        match keep_alive.judge(intake.now_ms()) {
            Verdict::Dead => return Err(LinkError::Silent),
            Verdict::WaitUntil(at_ms) => wake_ms = wake_ms.min(at_ms),
            Verdict::Ping => {
                let until_ms = intake.now_ms() + ANSWER_MS_MAX;
                intake.alongside(until_ms, link.ping()).await.ok_or(LinkError::Silent)??;
                keep_alive.pinged(intake.now_ms());
                continue;
            }
        }
        let header = match intake.wait(wake_ms, link.header()).await {
            Either3::First(header) => header?,
            Either3::Second(()) | Either3::Third(()) => {
                intake.turn().await;
                continue;
            }
        };
        let until_ms = intake.now_ms() + ANSWER_MS_MAX;
        let incoming = intake.alongside(until_ms, link.body(header)).await.ok_or(LinkError::Silent)??;
        keep_alive.heard(intake.now_ms());
        match incoming {
            Incoming::Acked(id) => {
                line.backoff.reset();
                intake.acked(id);
            }
            Incoming::Refused(id, reason) => {
                intake.queue.refused(id);
                intake.note(Progress::Refused { reason });
                // The other frames of the window are refused in the same breath: one step back for all of them.
                if intake.now_ms() >= hold_until_ms {
                    let wait_ms = line.backoff.next_ms(entropy.random_u32());
                    hold_until_ms = intake.now_ms() + u64::from(wait_ms);
                }
            }
            Incoming::Other => {}
        }
    }
}

/// Publishes the next frame, if the window allows one. False: there was nothing to publish.
async fn publish_one<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_>,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
    topic: &str,
    window: usize,
) -> Result<bool, LinkError>
where
    B::Dialer: 'd,
{
    let Some(next) = intake.queue.next(window) else { return Ok(false) };
    let (slot, resend) = (next.slot, next.resend);
    let frame = &mut line.outgoing[..next.bytes.len()];
    frame.copy_from_slice(next.bytes);
    let before = link.in_flight();
    intake.queue.begin(slot);
    let until_ms = intake.now_ms() + ANSWER_MS_MAX;
    let published = intake.alongside(until_ms, link.publish(topic, frame, resend)).await;
    // Also after a write that broke off: the gateway may have all of it, and the session says that it is in flight.
    let id = if link.in_flight() > before { link.newest() } else { resend };
    match id {
        Some(id) => intake.queue.sent(slot, id),
        None => intake.queue.unsent(slot),
    }
    match published {
        Some(Err(LinkError::TooLarge)) => {
            intake.discard(slot);
            if resend.is_some() {
                // The session still counts it as in flight: let the gateway forget the session.
                line.clean_start = true;
                return Err(LinkError::TooLarge);
            }
            Ok(true)
        }
        Some(done) => done.map(|()| true),
        None => Err(LinkError::Silent),
    }
}
