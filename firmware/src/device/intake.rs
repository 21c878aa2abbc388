//! The inner half of the loop: sensors, the open frame, the queue, the losses.
//!
//! Purpose: everything that goes on whether or not there is a gateway. [`Intake::alongside`] runs
//! it beside anything that the link waits for.
//!
//! Limits: each sensor is read once per interval; an interval that was missed is left out, not made
//! up for.
//!
//! What it does not do: no link. It knows of the gateway only what was acknowledged.

use core::future::Future;
use core::pin::pin;

use tidegate_protocol::events::{LOSS_KIND, LossReason};
use tidegate_protocol::{EventType, PushError, kind_index, schema_set};

use super::{Board, Outcome, Settings};
use crate::batcher::{Batcher, Due};
use crate::board::{Clock, Ending, Progress, Watcher};
use crate::loss::Ledger;
use crate::queue::{Gone, PacketId, Queue, SlotId};
use crate::select::{Either3, select3};
use crate::sensor::{BODY_BYTES_MAX, Body, Fault, Reading, SensorFault, Sensors};

/// Most sensors whose faults are counted each on its own.
const SENSORS_MAX: usize = 8;

pub(super) struct Intake<'s, B: Board, const SLOTS: usize, const BYTES: usize> {
    clock: B::Clock,
    sensors: B::Sensors,
    ending: B::Ending,
    watcher: B::Watcher,
    batcher: Batcher<'s>,
    pub(super) queue: &'s mut Queue<SLOTS, BYTES>,
    ledger: Ledger,
    /// Of sensor faults, if the device announces them.
    fault_kind: Option<u8>,
    faults_in_a_row: [u32; SENSORS_MAX],
    sample_every_ms: u64,
    sample_at_ms: u64,
    /// Nothing is sampled any more.
    ended: bool,
    numbers_used_up: bool,
}

impl<'s, B: Board, const SLOTS: usize, const BYTES: usize> Intake<'s, B, SLOTS, BYTES> {
    pub(super) fn new(
        clock: B::Clock,
        sensors: B::Sensors,
        ending: B::Ending,
        watcher: B::Watcher,
        settings: &Settings<'_>,
        queue: &'s mut Queue<SLOTS, BYTES>,
        gathered: &'s mut [u8],
    ) -> Self {
        const { assert!(<B::Sensors as Sensors>::COUNT <= SENSORS_MAX) }
        let sample_at_ms = clock.uptime_ms();
        Intake {
            clock,
            sensors,
            ending,
            watcher,
            batcher: Batcher::new(gathered, settings.batch, settings.boot, schema_set(B::KINDS)),
            queue,
            ledger: Ledger::default(),
            fault_kind: const { kind_index(B::KINDS, &SensorFault::KIND) },
            faults_in_a_row: [0; SENSORS_MAX],
            sample_every_ms: u64::from(settings.sample_every_ms.max(1)),
            sample_at_ms,
            ended: false,
            numbers_used_up: false,
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.uptime_ms()
    }

    pub(super) fn wall_ms(&self) -> Option<u64> {
        self.clock.wall_ms()
    }

    pub(super) fn next_contact_s(&self) -> Option<u32> {
        self.ending.next_contact_s()
    }

    /// A command that the core does not know.
    pub(super) fn command(&mut self, payload: &[u8]) {
        self.watcher.command(payload);
    }

    pub(super) fn note(&mut self, progress: Progress) {
        self.watcher.note(progress);
    }

    /// Drives `future` to its end, and the intake beside it; `None` when it is not there by
    /// `until_ms`. It is then dropped.
    pub(super) async fn alongside<F: Future>(&mut self, until_ms: u64, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        loop {
            match self.wait(until_ms, future.as_mut()).await {
                Either3::First(out) => return Some(out),
                Either3::Second(()) | Either3::Third(()) if self.now_ms() >= until_ms => return None,
                Either3::Second(()) | Either3::Third(()) => self.turn().await,
            }
        }
    }

    /// Waits for `future`, the intake's next duty (or `until_ms`), or the end being asked for.
    /// In the last two cases [`turn`](Intake::turn) has something to do.
    pub(super) async fn wait<F: Future>(&self, until_ms: u64, future: F) -> Either3<F::Output, (), ()> {
        let timer = self.clock.sleep_until(self.due_ms().min(until_ms));
        let ending = async {
            match self.ended {
                true => core::future::pending().await,
                false => self.ending.wait().await,
            }
        };
        select3(future, timer, ending).await
    }

    /// Whether [`turn`](Intake::turn) has something to do.
    pub(super) fn is_due(&self) -> bool {
        self.now_ms() >= self.due_ms()
    }

    /// Does what is due: sampling, sealing, the end.
    pub(super) async fn turn(&mut self) {
        if !self.ended && self.now_ms() >= self.sample_at_ms {
            self.sample_at_ms += self.sample_every_ms;
            if self.sample_at_ms <= self.now_ms() {
                self.sample_at_ms = self.now_ms() + self.sample_every_ms;
            }
            self.sample().await;
        }
        self.ended |= self.ending.requested();
        self.seal_if_due();
        self.report_losses();
    }

    /// Whether the run is over: ended, and nothing is left to deliver.
    pub(super) fn is_drained(&self) -> bool {
        let told = self.ledger.is_empty() || self.numbers_used_up;
        self.ended && told && self.batcher.is_empty() && self.queue.is_empty()
    }

    pub(super) fn outcome(&self) -> Outcome {
        if self.numbers_used_up { Outcome::NumbersUsedUp } else { Outcome::Ended }
    }

    pub(super) fn reconnected(&mut self, resumed: bool) {
        self.queue.reconnected(resumed);
        self.note(Progress::Connected { resumed });
    }

    /// The gateway has the frame under `id`.
    pub(super) fn acked(&mut self, id: PacketId) {
        if let Some(gone) = self.queue.acked(id) {
            self.note(Progress::Acked { events: u32::from(gone.events) });
            self.report_losses();
        }
    }

    /// The gateway can never take the frame in `slot`.
    pub(super) fn discard(&mut self, slot: SlotId) {
        if let Some(gone) = self.queue.discard(slot) {
            self.lose(gone, LossReason::TooLarge);
        }
    }

    fn due_ms(&self) -> u64 {
        let sample_ms = if self.ended { u64::MAX } else { self.sample_at_ms };
        // A frame that is due while others wait is looked at when they are sent.
        let seal_ms = if self.queue.is_waiting() { None } else { self.batcher.due_ms() };
        sample_ms.min(seal_ms.unwrap_or(u64::MAX))
    }

    async fn sample(&mut self) {
        for sensor in 0..<B::Sensors as Sensors>::COUNT {
            if self.ended || self.ending.requested() {
                return;
            }
            let mut body = [0; BODY_BYTES_MAX];
            match self.sensors.read(sensor, &mut body).await {
                Ok(reading) => {
                    self.faults_in_a_row[sensor] = 0;
                    self.enter(reading, &body);
                }
                Err(fault) => self.fault(sensor, fault),
            }
        }
    }

    fn fault(&mut self, sensor: usize, fault: Fault) {
        let in_a_row = self.faults_in_a_row[sensor].saturating_add(1);
        self.faults_in_a_row[sensor] = in_a_row;
        let sensor = sensor as u8;
        self.note(Progress::Faulted { sensor });
        let mut body = [0; BODY_BYTES_MAX];
        let event = SensorFault { sensor, in_a_row, fault };
        if in_a_row.is_power_of_two()
            && let Some(kind) = self.fault_kind
            && let Ok(reading) = Reading::new(kind, &event, &mut body)
        {
            self.enter(reading, &body);
        }
    }

    /// Numbers an event and puts it into the open frame. False: no frame takes it. It then has no
    /// number, and so it is no loss; the board's code is at fault.
    fn enter(&mut self, reading: Reading, body: &Body) -> bool {
        let now_ms = self.now_ms();
        let Reading { kind, len, urgent } = reading;
        let body = &body[..len.min(BODY_BYTES_MAX)];
        let mut pushed = self.batcher.push(now_ms, kind, body, urgent);
        if pushed == Err(PushError::Full) {
            self.seal();
            pushed = self.batcher.push(now_ms, kind, body, urgent);
        }
        match pushed {
            Ok(seq) => self.note(Progress::Sampled { seq }),
            Err(PushError::SequenceOver) => {
                self.numbers_used_up = true;
                self.ended = true;
            }
            Err(_) => self.note(Progress::Unusable { kind }),
        }
        self.seal_if_due();
        pushed.is_ok()
    }

    fn seal_if_due(&mut self) {
        let seal = match self.batcher.judge(self.now_ms()) {
            Due::No => self.ended,
            Due::IfWanted => self.ended || !self.queue.is_waiting(),
            Due::Now => true,
        };
        if seal {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let Some(sealed) = self.batcher.seal() else { return };
        if let Some(gone) = self.queue.push(sealed) {
            self.lose(gone, LossReason::QueueFull);
        }
    }

    fn lose(&mut self, gone: Gone, reason: LossReason) {
        self.ledger.enter(gone, reason);
        let events = u32::from(gone.events);
        self.note(Progress::Lost { first_seq: gone.first_seq, events });
    }

    /// Turns losses into events as long as there is room: telling of a loss must not cost further
    /// events.
    fn report_losses(&mut self) {
        while self.queue.has_room() && !self.numbers_used_up {
            // Out of the ledger first: sealing may lose a frame that would join this very run.
            let Some(loss) = self.ledger.take() else { return };
            let mut body = [0; BODY_BYTES_MAX];
            let reading = Reading::new(LOSS_KIND, &loss, &mut body);
            if !reading.is_ok_and(|reading| self.enter(reading.urgent(), &body)) {
                return self.ledger.put_back(loss);
            }
        }
    }
}
