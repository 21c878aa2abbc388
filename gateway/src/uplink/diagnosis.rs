//! Whether an upstream can be reached, step by step: what `tidegate uplinks test` says.
//!
//! It connects as the uplink itself would, by the same name and the same files, says what each step
//! found in the words of the log, and leaves. Nothing is read from the store. An upstream throws a
//! client out for another of its name: a gateway that is connected loses its connection for a
//! moment and makes it anew, and loses no event.

use std::{future::poll_fn, time::Duration};

use tokio::time::timeout;

use super::{
    delivery::{
        attempt::{connect, explain},
        broken::Broken,
    },
    engine::{
        Answer, Capabilities, Connection, Engine, Lost, Notice, Silence, Verdict,
        dial::{Dialer, Done},
        upstream::with_engine,
    },
    format::{EventContext, Format},
    message::Message,
    settings::Settings,
};
use crate::{clock, store::StoreIds};

/// How long the last packet may take to leave.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long an upstream that has accepted the client has to answer a ping. One that does not is not
/// blamed for it.
const LINGER: Duration = Duration::from_secs(1);
/// What a probe says.
const PROBE: &[u8] = b"tidegate uplinks test";

/// What was found, and at which step it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// What each step found, in their order.
    pub found: Vec<Found>,
    /// What is wrong, and what to do; `None`: nothing is.
    pub failure: Option<String>,
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// It went well; else it was tried in vain, and another was tried in its place.
    pub is_good: bool,
    /// What it found.
    pub words: String,
}

impl Found {
    fn good(words: String) -> Self {
        Self { is_good: true, words }
    }
}

impl From<&Done> for Found {
    fn from(done: &Done) -> Self {
        Self { is_good: !matches!(done, Done::Failed(..)), words: done.to_string() }
    }
}

/// Connects as this uplink does, and publishes a probe on `topic` if there is one.
pub async fn diagnose(settings: &Settings, topic: Option<&str>) -> Diagnosis {
    with_engine!(settings.upstream.clone(), engine => Box::pin(look(engine, settings, topic)).await)
}

async fn look<E: Engine>(mut engine: E, settings: &Settings, topic: Option<&str>) -> Diagnosis {
    if settings.has_will {
        // A broker that forbids it refuses the connection.
        let mut format = Format::new(settings, &StoreIds::one(0), &EventContext::default());
        engine.set_will(format.will(&settings.gateway_id, clock::wall_ms()));
    }
    let mut dialer = Dialer::new(settings.connect_timeout);
    let mut opened = connect(&engine, &mut dialer, settings.connect_timeout).await;
    let mut tried = None;
    if let Some(why) = opened.as_ref().err().filter(|why| settings.has_will && why.refuses_client()) {
        // As the uplink itself does.
        engine.set_will(None);
        let refused = explain(&engine, settings.platform, why, None);
        let again = connect(&engine, &mut dialer, settings.connect_timeout).await;
        if again.is_ok() {
            let words = format!("without a last will, for with one {refused}");
            (opened, tried) = (again, Some(Found { is_good: false, words }));
        }
    }
    let mut found: Vec<Found> = dialer.done().iter().map(Found::from).chain(tried).collect();
    let (mut connection, can) = match opened {
        Ok(opened) => opened,
        Err(why) => {
            return Diagnosis { found, failure: Some(explain(&engine, settings.platform, &why, None)) };
        }
    };
    found.push(Found::good(granted(&can, connection.granted())));
    let began = clock::monotonic();
    let closed = |sent: bool| {
        let lasted = clock::monotonic() - began;
        Some(Silence::Closed { lasted, sent, took: false, in_a_row: 1 })
    };
    if let Ok(Err(lost)) = timeout(LINGER, answers(&mut connection)).await {
        let failure = explain(&engine, settings.platform, &lost.into(), closed(false));
        return Diagnosis { found, failure: Some(failure) };
    }
    let Some(topic) = topic else {
        goodbye(&mut connection).await;
        return Diagnosis { found, failure: None };
    };
    let probing = timeout(settings.ack_timeout, publish(&mut connection, topic)).await;
    let published = probing.unwrap_or(Err(NotPublished::Broken(Broken::AckTimeout(settings.ack_timeout))));
    goodbye(&mut connection).await;
    let failure = match published {
        Ok(()) => None,
        Err(NotPublished::Refused(why)) => Some(why),
        Err(NotPublished::Broken(why)) => Some(explain(&engine, settings.platform, &why, closed(true))),
    };
    match failure {
        Some(why) => {
            let failure = Some(format!("nothing can be published on \"{topic}\": {why}"));
            Diagnosis { found, failure }
        }
        None => {
            found.push(Found::good(format!("a probe was published on \"{topic}\" and acknowledged")));
            Diagnosis { found, failure: None }
        }
    }
}

/// Waits until the upstream answers a ping: some accept a client and close at once.
async fn answers(connection: &mut impl Connection) -> Result<(), Lost> {
    connection.ping();
    loop {
        while let Some(answer) = connection.answer()? {
            if answer == Answer::Pong {
                return Ok(());
            }
        }
        poll_fn(|context| connection.poll(context)).await?;
    }
}

/// Whether it gets through makes no difference here.
async fn goodbye(connection: &mut impl Connection) {
    let _ = timeout(GOODBYE, connection.close()).await;
}

/// Why a probe was not taken.
enum NotPublished {
    /// For what it is.
    Refused(String),
    /// The connection failed.
    Broken(Broken),
}

impl From<Lost> for NotPublished {
    fn from(lost: Lost) -> Self {
        Self::Broken(lost.into())
    }
}

/// What the upstream lets this client do.
fn granted(can: &Capabilities, said: &str) -> String {
    let alive = match can.keep_alive.as_secs() {
        0 => "no sign of life".to_owned(),
        s => format!("a sign of life every {s} s"),
    };
    let retains = if can.retains { "retained messages" } else { "no retained messages" };
    let said = if said.is_empty() { String::new() } else { format!("; it says: {said}") };
    format!(
        "the upstream accepts this client: {} messages in flight, {alive}, {retains}{said}",
        can.in_flight_max
    )
}

async fn publish(connection: &mut impl Connection, topic: &str) -> Result<(), NotPublished> {
    let message = Message { topic, payload: PROBE, ..Message::default() };
    connection.send(0, &message).map_err(|unsendable| NotPublished::Refused(unsendable.to_string()))?;
    loop {
        while let Some(answer) = connection.answer()? {
            match answer {
                Answer::Settled(_, Verdict::Accepted | Verdict::Duplicate) => return Ok(()),
                Answer::Settled(_, Verdict::Rejected(refusal) | Verdict::Retry(refusal)) => {
                    return Err(NotPublished::Refused(format!(
                        "the upstream refuses it: {}",
                        Notice::from(refusal)
                    )));
                }
                Answer::Stray(_) | Answer::Pong => {}
            }
        }
        poll_fn(|context| connection.poll(context)).await?;
    }
}
