//! The command line's `key=value` words, checked.
//!
//! What it does not do: it ignores words that it does not know, such as the program's name.

use core::fmt;

use tidegate_protocol::DeviceName;

use crate::semihosting::value;

/// What the command line says.
pub struct Options<'l> {
    /// `port=`: the gateway's, on the emulator's host. Default 1883.
    pub port: u16,
    /// `device=`: its name. Default `qemu-1`.
    pub device: DeviceName<'l>,
    /// `password=`: of its user, which is called like the device. Default: none, and it connects
    /// without a user.
    pub password: Option<&'l str>,
    /// `count=`: after so many events it stops sampling, delivers and exits. Default: never.
    pub count: u32,
    /// `interval_ms=`: a reading every so many milliseconds. Default 1000.
    pub interval_ms: u32,
    /// `batch=`: a frame is sealed at this many events. Default 10.
    pub batch: u8,
    /// `batch_age_ms=`: a frame is sealed when its first event is this old. Default 1000.
    pub batch_age_ms: u32,
    /// `window=`: frames unacknowledged at most. Default 4.
    pub window: u8,
    /// `bootfile=`: a file of the host that holds the boot number. Default: none, and every boot is
    /// number 1.
    pub boot_file: Option<&'l str>,
}

/// A word that cannot be used.
pub struct Wrong(&'static str);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of {}= cannot be used", self.0)
    }
}

impl<'l> Options<'l> {
    /// Reads the command line.
    ///
    /// # Errors
    /// [`Wrong`] names the first word whose value cannot be used.
    pub fn parse(line: &'l str) -> Result<Self, Wrong> {
        let device = DeviceName::new(value(line, "device").unwrap_or("qemu-1"));
        Ok(Options {
            port: number(line, "port", 1883)?,
            device: device.map_err(|_| Wrong("device"))?,
            password: value(line, "password"),
            count: number(line, "count", u32::MAX)?,
            interval_ms: number(line, "interval_ms", 1000)?,
            batch: number(line, "batch", 10)?,
            batch_age_ms: number(line, "batch_age_ms", 1000)?,
            window: number(line, "window", 4)?,
            boot_file: value(line, "bootfile"),
        })
    }

    /// Differs from device to device and from boot to boot: the emulator has no source of entropy.
    /// FNV-1a, 64 bits.
    pub fn seed(&self, boot: u32) -> u64 {
        let name = self.device.as_str().bytes();
        name.chain(boot.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

fn number<N: core::str::FromStr>(line: &str, key: &'static str, default: N) -> Result<N, Wrong> {
    value(line, key).map_or(Ok(default), |text| text.parse().map_err(|_| Wrong(key)))
}
