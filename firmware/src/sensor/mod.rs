//! Sensors: what is read, and what happens when it cannot be read.
//!
//! Purpose: a [`Sensor`] turns a measurement into the postcard body of an event. A device reads a
//! set of them ([`Sensors`]): a tuple of up to four, or an array of one kind.
//!
//! Limits: a body has at most [`BODY_BYTES_MAX`] bytes. A reading is never cancelled half-way, so a
//! bus is never left in the middle of a transfer; a driver must come to an end by itself.
//!
//! What it does not do: it does not say when to read. A fault does not stop the others: it is
//! counted, and told as an event at the first of a row and again at the 2nd, 4th, 8th and so on.

mod sht4x;
mod simulated;

use core::future::Future;

use serde::{Deserialize, Serialize};
use tidegate_protocol::Schema;
use tidegate_protocol::events::EventType;

pub use sht4x::{Humidity, Sht4x};
pub use simulated::SimulatedClimate;

/// Longest body of a reading, in bytes.
pub const BODY_BYTES_MAX: usize = 64;

/// Where a sensor writes the body of its event.
pub type Body = [u8; BODY_BYTES_MAX];

/// A sensor.
pub trait Sensor {
    /// Measures once, and writes the event's body to the start of `body`.
    ///
    /// # Errors
    /// A [`Fault`]; the sensor is read again at the next time as if nothing had been.
    fn read(&mut self, body: &mut Body) -> impl Future<Output = Result<Reading, Fault>>;
}

/// A measurement in a [`Body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Reading {
    /// The event's kind index in the device's list.
    pub kind: u8,
    /// How many bytes of the body it uses.
    pub len: usize,
    /// It is sent at once, and kept when telemetry is dropped.
    pub urgent: bool,
}

impl Reading {
    /// Writes `event` to `body` as an event of the device's `kind`.
    ///
    /// # Errors
    /// [`Fault::Body`] when it is longer than a body.
    pub fn new<E: EventType>(kind: u8, event: &E, body: &mut Body) -> Result<Self, Fault> {
        let len = postcard::to_slice(event, body).map_err(|_| Fault::Body)?.len();
        Ok(Reading { kind, len, urgent: false })
    }

    /// The same reading, urgent.
    pub fn urgent(self) -> Self {
        Reading { urgent: true, ..self }
    }
}

/// Why a sensor could not be read. The number on the wire is the variant's place, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, thiserror::Error)]
pub enum Fault {
    /// It did not answer to its address: not there, not powered, or busy.
    #[error("the sensor does not answer")]
    Absent,
    /// The bus failed: arbitration, overrun, a line that is held.
    #[error("the sensor's bus failed")]
    Bus,
    /// What came does not match its checksum.
    #[error("the checksum does not match")]
    Checksum,
    /// The reading is longer than a body may be: the sensor's code is at fault.
    #[error("the reading is longer than an event's body")]
    Body,
}

/// The event that tells of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(
    name = "sensor-fault",
    version = 1,
    owner = "tidegate",
    description = "a sensor that could not be read"
)]
pub struct SensorFault {
    /// The sensor's place in the device's set, from 0.
    pub sensor: u8,
    /// How often in a row it could not be read, this time included.
    pub in_a_row: u32,
    /// Why.
    pub fault: Fault,
}

/// A device's sensors, numbered from 0.
pub trait Sensors {
    /// How many there are.
    const COUNT: usize;

    /// Reads the sensor with this number, which is below [`COUNT`](Sensors::COUNT).
    ///
    /// # Errors
    /// As [`Sensor::read`].
    fn read(&mut self, sensor: usize, body: &mut Body) -> impl Future<Output = Result<Reading, Fault>>;
}

impl<S: Sensor, const N: usize> Sensors for [S; N] {
    const COUNT: usize = N;

    fn read(&mut self, sensor: usize, body: &mut Body) -> impl Future<Output = Result<Reading, Fault>> {
        self[sensor].read(body)
    }
}

macro_rules! sensors_of_a_tuple {
    ($count:literal: $($place:tt $sensor:ident),+) => {
        impl<$($sensor: Sensor),+> Sensors for ($($sensor,)+) {
            const COUNT: usize = $count;

            async fn read(&mut self, sensor: usize, body: &mut Body) -> Result<Reading, Fault> {
                match sensor {
                    $($place => self.$place.read(body).await,)+
                    _ => Err(Fault::Absent),
                }
            }
        }
    };
}

sensors_of_a_tuple!(1: 0 A);
sensors_of_a_tuple!(2: 0 A, 1 B);
sensors_of_a_tuple!(3: 0 A, 1 B, 2 C);
sensors_of_a_tuple!(4: 0 A, 1 B, 2 C, 3 D);

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    struct Fixed(u8);

    impl Sensor for Fixed {
        async fn read(&mut self, body: &mut Body) -> Result<Reading, Fault> {
            let fault = SensorFault { sensor: self.0, in_a_row: 1, fault: Fault::Bus };
            Reading::new(self.0, &fault, body)
        }
    }

    fn now<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(out) => out,
            Poll::Pending => panic!("the future waits"),
        }
    }

    #[test]
    fn a_tuple_reads_the_sensor_that_is_named() {
        let mut sensors = (Fixed(7), Fixed(8));
        let mut body = [0; BODY_BYTES_MAX];
        assert_eq!(now(sensors.read(1, &mut body)), Ok(Reading { kind: 8, len: 3, urgent: false }));
        assert_eq!(body[..3], [8, 1, 1]);
        assert_eq!(now(sensors.read(0, &mut body)).map(|reading| reading.kind), Ok(7));
        assert_eq!(now(sensors.read(2, &mut body)), Err(Fault::Absent));
    }

    #[test]
    fn an_array_reads_the_sensor_that_is_named() {
        let mut sensors = [Fixed(3), Fixed(4), Fixed(5)];
        let mut body = [0; BODY_BYTES_MAX];
        assert_eq!(now(sensors.read(2, &mut body)).map(|reading| reading.kind), Ok(5));
    }

    #[test]
    fn an_event_longer_than_a_body_is_a_fault() {
        #[derive(Serialize, Schema, EventType)]
        #[event(name = "long", version = 1, owner = "a test", description = "longer than a body")]
        struct Long {
            bytes: [[u8; 32]; 3],
        }
        let mut body = [0; BODY_BYTES_MAX];
        assert_eq!(Reading::new(1, &Long { bytes: [[0; 32]; 3] }, &mut body), Err(Fault::Body));
    }
}
