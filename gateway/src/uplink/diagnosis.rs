//! Whether an upstream can be reached, step by step: what `tidegate uplinks test` says.
//!
//! It connects as the uplink itself would, by the same name and the same files, says what each step
//! found in the words of the log, and leaves. Nothing is read from the store. An upstream throws a
//! client out for another of its name: a gateway that is connected loses its connection for a
//! moment and makes it anew, and loses no event.

use std::{future::poll_fn, time::Duration};

use tokio::time::timeout;

use super::{
    engine::{
        Answer, Capabilities, Connection, Engine, Lost, Verdict,
        dial::{Dialer, Step},
        upstream::with_engine,
    },
    message::Message,
    settings::Settings,
};

/// How long the last packet may take to leave.
const GOODBYE: Duration = Duration::from_millis(500);
/// What a probe says.
const PROBE: &[u8] = b"tidegate uplinks test";

/// What was found, and at which step it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// A line for each step that went well, in their order.
    pub found: Vec<String>,
    /// What is wrong, and what to do; `None`: nothing is.
    pub failure: Option<String>,
}

/// Connects as this uplink does, and publishes a probe on `topic` if there is one.
pub async fn diagnose(settings: &Settings, topic: Option<&str>) -> Diagnosis {
    with_engine!(settings.upstream.clone(), engine => Box::pin(look(engine, settings, topic)).await)
}

async fn look<E: Engine>(engine: E, settings: &Settings, topic: Option<&str>) -> Diagnosis {
    let limit = settings.connect_timeout;
    let mut dialer = Dialer::new(limit);
    let opened = timeout(limit, engine.connect(&mut dialer)).await;
    let mut found: Vec<String> = dialer.done().iter().map(ToString::to_string).collect();
    let failed = |found, why| Diagnosis { found, failure: Some(why) };
    let (mut connection, can) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(lost)) => return failed(found, explain(&lost, dialer.step())),
        Err(_) => {
            return failed(found, format!("no connection within {limit:?}: no answer {}", dialer.step()));
        }
    };
    found.push(granted(&can, connection.granted()));
    let published = match topic {
        Some(topic) => {
            let probing = timeout(settings.ack_timeout, publish(&mut connection, topic)).await;
            probing.unwrap_or_else(|_| Err(format!("no acknowledgement within {:?}", settings.ack_timeout)))
        }
        None => Ok(()),
    };
    // Whether the goodbye gets through makes no difference here.
    let _ = timeout(GOODBYE, connection.close()).await;
    match (published, topic) {
        (Err(why), topic) => {
            failed(found, format!("nothing can be published on {:?}: {why}", topic.unwrap_or_default()))
        }
        (Ok(()), Some(topic)) => {
            found.push(format!("a probe was published on {topic:?} and acknowledged"));
            Diagnosis { found, failure: None }
        }
        (Ok(()), None) => Diagnosis { found, failure: None },
    }
}

/// What went wrong, and what it mostly means where the upstream says nothing.
fn explain(lost: &Lost, step: &Step) -> String {
    match (lost, step) {
        (Lost::Closed, Step::Handshake(_)) => format!(
            "{lost} without a word: it may want TLS at this port, another protocol version, or another user or client id"
        ),
        _ => lost.to_string(),
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

async fn publish(connection: &mut impl Connection, topic: &str) -> Result<(), String> {
    let message = Message { topic, payload: PROBE, ..Message::default() };
    connection.send(0, &message).map_err(|unsendable| unsendable.to_string())?;
    loop {
        while let Some(answer) = connection.answer().map_err(|lost| lost.to_string())? {
            match answer {
                Answer::Settled(_, Verdict::Accepted | Verdict::Duplicate) => return Ok(()),
                Answer::Settled(_, Verdict::Rejected(refusal) | Verdict::Retry(refusal)) => {
                    return Err(format!("the upstream refuses it: {refusal}"));
                }
                Answer::Stray(_) | Answer::Pong => {}
            }
        }
        poll_fn(|context| connection.poll(context)).await.map_err(|lost| lost.to_string())?;
    }
}
