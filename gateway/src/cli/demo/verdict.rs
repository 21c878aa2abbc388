//! The verdict: what the devices were promised against what the cloud has. Pure.

use std::fmt;

use super::witness::Arrived;
use crate::cli::{fleet::Totals, people};

/// Both ends, counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// By the firmware.
    devices: Totals,
    /// By the witness: distinct events.
    delivered: u64,
    /// By the witness: copies of an event that had arrived before.
    duplicates: u64,
    /// By the witness: payloads that are no frame.
    unreadable: u64,
    /// Devices that miss something, with how much.
    missing: Vec<(String, u64)>,
}

impl Verdict {
    /// Compares, device by device, so that one device's surplus never hides another's loss.
    pub(super) fn count<'a>(
        devices: Totals,
        acknowledged: impl Iterator<Item = (&'a str, u64)>,
        arrived: &Arrived,
    ) -> Self {
        let missing = acknowledged
            .map(|(device, acknowledged)| {
                (device.to_owned(), acknowledged.saturating_sub(arrived.of(device)))
            })
            .filter(|(_, missing)| *missing > 0)
            .collect();
        Self {
            devices,
            delivered: arrived.events,
            duplicates: arrived.duplicates,
            unreadable: arrived.unreadable,
            missing,
        }
    }

    /// Nothing is under way any more: the devices hold nothing, and all that they had is in the
    /// cloud.
    pub(super) fn complete(&self) -> bool {
        self.devices.queued == 0 && self.lost() == 0
    }

    /// Events that were acknowledged to a device and are not in the cloud, and payloads that were
    /// altered.
    pub(super) fn lost(&self) -> u64 {
        self.missing.iter().map(|(_, missing)| missing).sum::<u64>() + self.unreadable
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: u64| format!("{:>9}", people::count(n));
        writeln!(f, "Verdict, counted at both ends")?;
        writeln!(f, "  sampled       {}   by the firmware of the devices", count(self.devices.sampled))?;
        writeln!(
            f,
            "  acknowledged  {}   to the devices: on disk at the gateway",
            count(self.devices.acknowledged)
        )?;
        writeln!(f, "  delivered     {}   seen by a subscriber of the cloud", count(self.delivered))?;
        writeln!(f, "  lost          {}   of the acknowledged", count(self.lost()))?;
        write!(f, "  duplicates    {}   each with the identity of its first copy", count(self.duplicates))?;
        for (device, missing) in &self.missing {
            write!(f, "\n  {device} misses {missing}")?;
        }
        if self.unreadable > 0 {
            write!(f, "\n  {} payloads arrived altered", self.unreadable)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::FrameWriter;

    use super::*;

    /// A frame of `count` events of boot 1 from `first_seq` on.
    fn frame(first_seq: u32, count: u8) -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut frame = FrameWriter::new(&mut buffer, 1, first_seq, 0, false);
        for uptime_ms in 0..count {
            frame.push(uptime_ms.into(), 0, &[1, 2, 3]).unwrap();
        }
        frame.finish().to_vec()
    }

    #[test]
    fn one_devices_surplus_does_not_hide_anothers_loss() {
        let mut arrived = Arrived::default();
        arrived.take("tg/a/e", &frame(0, 5));
        arrived.take("tg/b/e", &frame(0, 5));
        arrived.take("tg/b/e", &frame(3, 4));
        for (acknowledged, lost) in
            [([("a", 5), ("b", 7)], 0), ([("a", 6), ("b", 7)], 1), ([("a", 8), ("b", 5)], 3)]
        {
            let verdict = Verdict::count(Totals::default(), acknowledged.into_iter(), &arrived);
            assert_eq!(
                (verdict.lost(), verdict.delivered, verdict.duplicates),
                (lost, 12, 2),
                "{acknowledged:?}"
            );
        }
    }

    #[test]
    fn an_altered_payload_counts_as_lost() {
        let mut arrived = Arrived::default();
        arrived.take("tg/a/e", b"not a frame");
        let verdict = Verdict::count(Totals::default(), [("a", 0)].into_iter(), &arrived);
        assert_eq!(verdict.lost(), 1);
        assert!(verdict.to_string().contains("1 payloads arrived altered"), "{verdict}");
    }
}
