//! Sensirion SHT40, SHT41, SHT43, SHT45: temperature and humidity on I2C.
//!
//! Purpose: the `sht4x` driver as a [`Sensor`] that gives [`Humidity`] events. One measurement of
//! high precision takes 8.3 ms at the most (datasheet SHT4x, table 5); the bus is free meanwhile.
//!
//! Limits: address 0x44. The formula is the datasheet's (section 4.6), in integers: no floating
//! point on a small core.
//!
//! What it does not do: the heater stays off.

use embedded_hal_async::delay::DelayNs;
use embedded_hal_async::i2c::{Error as _, ErrorKind, I2c};
use sht4x::{Error, Precision, SensorData, Sht4xAsync};
use tidegate_protocol::{Deserialize, EventType, Schema, Serialize};

use super::{Body, Fault, Reading, Sensor};

/// Temperature and humidity, of a sensor that has no barometer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema, EventType)]
#[event(name = "humidity", version = 1, owner = "tidegate", description = "temperature and humidity")]
pub struct Humidity {
    /// Temperature in 0.01 degrees Celsius.
    #[unit("Cel", scale = -2)]
    pub temperature: i16,
    /// Relative humidity in 0.01 %.
    #[unit("%RH", scale = -2)]
    pub humidity: u16,
}

/// An SHT4x on the bus `I`, waiting with `D`.
#[derive(Debug)]
pub struct Sht4x<I, D> {
    driver: Sht4xAsync<I, D>,
    delay: D,
    kind: u8,
}

impl<I: I2c, D: DelayNs> Sht4x<I, D> {
    /// The sensor at address 0x44, whose events have the device's `kind` index.
    pub fn new(i2c: I, delay: D, kind: u8) -> Self {
        Sht4x { driver: Sht4xAsync::new(i2c), delay, kind }
    }

    /// Gives the bus back.
    pub fn release(self) -> I {
        self.driver.destroy()
    }
}

impl<I: I2c, D: DelayNs> Sensor for Sht4x<I, D> {
    async fn read(&mut self, body: &mut Body) -> Result<Reading, Fault> {
        let measured = self.driver.measure_raw(Precision::High, &mut self.delay).await;
        let raw = measured.map_err(|error| match error {
            Error::Crc => Fault::Checksum,
            Error::I2c(bus) if matches!(bus.kind(), ErrorKind::NoAcknowledge(_)) => Fault::Absent,
            _ => Fault::Bus,
        })?;
        Reading::new(self.kind, &converted(raw), body)
    }
}

/// T = -45 + 175 * S / 65535 in Celsius, RH = -6 + 125 * S / 65535 in percent, cut to 0..=100
/// (datasheet, 4.6).
fn converted(raw: SensorData) -> Humidity {
    let temperature = -4500 + rounded(17_500, raw.temperature);
    let humidity = (-600 + rounded(12_500, raw.humidity)).clamp(0, 10_000);
    Humidity { temperature: temperature as i16, humidity: humidity as u16 }
}

/// `span * raw / 65535`, rounded to the nearest.
fn rounded(span: u32, raw: u16) -> i32 {
    ((span * u32::from(raw) + 32_767) / 65_535) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_hal_async::i2c::NoAcknowledgeSource;
    use embedded_hal_mock::eh1::delay::NoopDelay;
    use embedded_hal_mock::eh1::i2c::{Mock, Transaction};

    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};
    use std::vec;

    use crate::sensor::BODY_BYTES_MAX;

    const ADDRESS: u8 = 0x44;
    const MEASURE_HIGH: u8 = 0xfd;

    fn measure(transactions: &[Transaction]) -> (Result<Reading, Fault>, Body) {
        let mut sensor = Sht4x::new(Mock::new(transactions), NoopDelay, 2);
        let mut body = [0; BODY_BYTES_MAX];
        let read = match pin!(sensor.read(&mut body)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read,
            Poll::Pending => panic!("the mock never waits"),
        };
        sensor.release().done();
        (read, body)
    }

    #[test]
    fn a_measurement_becomes_the_body_of_an_event() {
        // 0xbeef has the check value 0x92 (datasheet, 4.4).
        let (read, body) = measure(&[
            Transaction::write(ADDRESS, vec![MEASURE_HIGH]),
            Transaction::read(ADDRESS, vec![0xbe, 0xef, 0x92, 0xbe, 0xef, 0x92]),
        ]);
        let reading = read.unwrap();
        assert_eq!((reading.kind, reading.urgent), (2, false));
        let event: Humidity = postcard::from_bytes(&body[..reading.len]).unwrap();
        // 48879 / 65535 of 175 less 45, and of 125 less 6.
        assert_eq!(event, Humidity { temperature: 8552, humidity: 8723 });
    }

    #[test]
    fn a_wrong_check_value_is_a_fault() {
        let (read, _) = measure(&[
            Transaction::write(ADDRESS, vec![MEASURE_HIGH]),
            Transaction::read(ADDRESS, vec![0xbe, 0xef, 0x92, 0xbe, 0xef, 0x93]),
        ]);
        assert_eq!(read, Err(Fault::Checksum));
    }

    #[test]
    fn a_sensor_that_does_not_acknowledge_is_absent() {
        let nack = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
        let (read, _) = measure(&[Transaction::write(ADDRESS, vec![MEASURE_HIGH]).with_error(nack)]);
        assert_eq!(read, Err(Fault::Absent));
    }

    #[test]
    fn a_failing_bus_is_told_apart_from_an_absent_sensor() {
        let (read, _) = measure(&[
            Transaction::write(ADDRESS, vec![MEASURE_HIGH]),
            Transaction::read(ADDRESS, vec![0; 6]).with_error(ErrorKind::ArbitrationLoss),
        ]);
        assert_eq!(read, Err(Fault::Bus));
    }

    #[test]
    fn the_ends_of_the_range_are_those_of_the_datasheet() {
        let lowest = converted(SensorData { temperature: 0, humidity: 0 });
        assert_eq!(lowest, Humidity { temperature: -4500, humidity: 0 });
        let highest = converted(SensorData { temperature: u16::MAX, humidity: u16::MAX });
        assert_eq!(highest, Humidity { temperature: 13_000, humidity: 10_000 });
    }
}
