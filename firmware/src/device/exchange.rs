//! The outer half of the loop, while a connection stands: publish what the window allows, take what
//! comes in, ping.
//!
//! Purpose: the birth first, then frames, and a status now and then. The one place where a frame
//! becomes acknowledged. A PUBACK with a reason code of 0x80 or more (0x97: the gateway's disk is
//! full) is not one: the frame stays, and sending pauses with back-off.
//!
//! Limits: at most the window's frames are unacknowledged. The birth goes before all frames but
//! those that must be sent again, where the gateway takes no more publishes than those. A PUBACK
//! may be late without end, as long as pings are answered.
//!
//! What it does not do: it makes no connection and waits for none.

use tidegate_protocol::limits::{STATUS_BYTES_MAX, TOPIC_BYTES_MAX};
use tidegate_protocol::{Leaf, State};

use super::about::About;
use super::{ANSWER_MS_MAX, Board, Line, Settings, topic_of};
use crate::board::{Dialer, Entropy, Progress};
use crate::device::intake::Intake;
use crate::keepalive::{KeepAlive, Verdict};
use crate::link::{Granted, Incoming, Link, LinkError, Said, WINDOW_MAX};
use crate::select::Either3;

/// The command that asks for the birth once more.
const ASK_FOR_BIRTH: &[u8] = b"birth";

/// What one connection still has to do, and when.
struct Duties {
    keep_alive: KeepAlive,
    /// The gateway is to hear the birth.
    birth: bool,
    /// The gateway is to be asked for commands.
    subscribe: bool,
    status_ms: u64,
    /// Nothing is published before this uptime, for the gateway has refused something.
    hold_until_ms: u64,
}

/// Exchanges packets until the run is over (`Ok`) or the connection is.
pub(super) async fn exchange<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_, '_>,
    entropy: &mut B::Entropy,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
    settings: &Settings<'_>,
    granted: Granted,
) -> Result<(), LinkError>
where
    B::Dialer: 'd,
{
    let mut text = [0; TOPIC_BYTES_MAX];
    let topic = topic_of(settings.device, Leaf::Events, &mut text);
    let window = usize::from(settings.window).clamp(1, WINDOW_MAX).min(usize::from(granted.receive_max));
    let status_every_ms = u64::from(settings.status_every_ms.max(1));
    let mut duties = Duties {
        keep_alive: KeepAlive::new(granted.keep_alive_s, intake.now_ms()),
        birth: true,
        subscribe: true,
        status_ms: intake.now_ms() + status_every_ms,
        hold_until_ms: 0,
    };
    loop {
        if intake.is_due() {
            intake.turn().await;
        }
        let held = intake.now_ms() < duties.hold_until_ms;
        if !held && say_one(intake, line, link, &mut duties, status_every_ms).await? {
            duties.keep_alive.sent(intake.now_ms());
            continue;
        }
        if intake.is_drained() {
            return Ok(());
        }
        let mut wake_ms = duties.status_ms;
        if held {
            wake_ms = wake_ms.min(duties.hold_until_ms);
        } else if publish_one(intake, line, link, topic, window).await? {
            duties.keep_alive.sent(intake.now_ms());
            continue;
        }
        match duties.keep_alive.judge(intake.now_ms()) {
            Verdict::Dead => return Err(LinkError::Silent),
            Verdict::WaitUntil(at_ms) => wake_ms = wake_ms.min(at_ms),
            Verdict::Ping => {
                let until_ms = intake.now_ms() + ANSWER_MS_MAX;
                intake.alongside(until_ms, link.ping()).await.ok_or(LinkError::Silent)??;
                duties.keep_alive.pinged(intake.now_ms());
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
        duties.keep_alive.heard(intake.now_ms());
        heed(intake, line, entropy, &mut duties, incoming);
    }
}

/// Does what an incoming packet asks for.
fn heed<B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_, '_>,
    entropy: &mut B::Entropy,
    duties: &mut Duties,
    incoming: Incoming<'_>,
) {
    let refused = match incoming {
        Incoming::Acked(id) => {
            line.backoff.reset();
            return intake.acked(id);
        }
        Incoming::Heard(Said::Birth) => return intake.note(Progress::Born),
        Incoming::Command(ASK_FOR_BIRTH) => return duties.birth = true,
        Incoming::Command(payload) => return intake.command(payload),
        Incoming::Heard(Said::Status) | Incoming::Other => return,
        Incoming::Refused(id, reason) => {
            intake.queue.refused(id);
            reason
        }
        Incoming::Unheard(said, reason) => {
            duties.birth |= said == Said::Birth;
            reason
        }
    };
    intake.note(Progress::Refused { reason: refused });
    // The other publishes of the window are refused in the same breath: one step back for all of
    // them.
    if intake.now_ms() >= duties.hold_until_ms {
        let wait_ms = line.backoff.next_ms(entropy.random_u32());
        duties.hold_until_ms = intake.now_ms() + u64::from(wait_ms);
    }
}

/// Says what the device has to say of itself, if anything and if there is room. False: there was
/// nothing.
async fn say_one<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_, '_>,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
    duties: &mut Duties,
    status_every_ms: u64,
) -> Result<bool, LinkError>
where
    B::Dialer: 'd,
{
    if duties.birth && link.may_say(Said::Birth) {
        duties.birth = false;
        say_birth(intake, line, link).await?;
        return Ok(true);
    }
    if duties.subscribe && !duties.birth {
        duties.subscribe = false;
        let mut text = [0; TOPIC_BYTES_MAX];
        let topic = topic_of(line.about.settings.device, Leaf::Command, &mut text);
        let until_ms = intake.now_ms() + ANSWER_MS_MAX;
        intake.alongside(until_ms, link.subscribe(topic)).await.ok_or(LinkError::Silent)??;
        return Ok(true);
    }
    if intake.now_ms() >= duties.status_ms {
        // A status that finds no room is left out, not made up for.
        duties.status_ms = intake.now_ms() + status_every_ms;
        if link.may_say(Said::Status) {
            say_status(intake, &line.about, link, State::Online, None).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

async fn say_birth<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_, '_>,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
) -> Result<(), LinkError>
where
    B::Dialer: 'd,
{
    let mut text = [0; TOPIC_BYTES_MAX];
    let topic = topic_of(line.about.settings.device, Leaf::Birth, &mut text);
    let birth = line.about.birth(intake.now_ms(), intake.wall_ms(), line.outgoing);
    let until_ms = intake.now_ms() + ANSWER_MS_MAX;
    match intake.alongside(until_ms, link.say(topic, birth, Said::Birth)).await {
        Some(Err(LinkError::TooLarge)) => {
            intake.note(Progress::BirthTooLarge);
            Ok(())
        }
        Some(said) => said,
        None => Err(LinkError::Silent),
    }
}

/// Says a status. One that the gateway can never take is left out.
pub(super) async fn say_status<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    about: &About<'_>,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
    state: State,
    next_contact_s: Option<u32>,
) -> Result<(), LinkError>
where
    B::Dialer: 'd,
{
    let mut text = [0; TOPIC_BYTES_MAX];
    let topic = topic_of(about.settings.device, Leaf::Status, &mut text);
    let mut out = [0; STATUS_BYTES_MAX];
    let status = about.status(state, intake.now_ms(), intake.wall_ms(), next_contact_s, &mut out);
    let until_ms = intake.now_ms() + ANSWER_MS_MAX;
    match intake.alongside(until_ms, link.say(topic, status, Said::Status)).await {
        Some(Err(LinkError::TooLarge)) => Ok(()),
        Some(said) => said,
        None => Err(LinkError::Silent),
    }
}

/// Publishes the next frame, if the window allows one. False: there was nothing to publish.
async fn publish_one<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_, '_>,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
    topic: &str,
    window: usize,
) -> Result<bool, LinkError>
where
    B::Dialer: 'd,
{
    let Some(next) = intake.queue.next(window) else { return Ok(false) };
    let (slot, resend) = (next.slot, next.resend);
    if resend.is_none() && !link.has_quota() {
        return Ok(false);
    }
    let frame = &mut line.outgoing[..next.bytes.len()];
    frame.copy_from_slice(next.bytes);
    let before = link.in_flight();
    intake.queue.begin(slot);
    let until_ms = intake.now_ms() + ANSWER_MS_MAX;
    let published = intake.alongside(until_ms, link.publish(topic, frame, resend)).await;
    // Also after a write that broke off: the gateway may have all of it, and the session says that
    // it is in flight.
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
