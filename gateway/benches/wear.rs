//! What the wear budget does to acknowledgements: `cargo bench -p tidegate --bench wear` prints a
//! table.
//!
//! Days of simulated time pass in seconds: events come at random (Poisson, from a fixed seed), the
//! store's own [`Pacer`] says how long each commit lingers, and a commit takes and writes what is
//! measured (see "Commits" in docs/benchmarks.md), with the sync of an SD card. So the figures are
//! the same on every machine.

use std::time::Duration;

use tidegate::{clock, store::pace::Pacer};

/// Events per second.
const RATES: [f64; 4] = [1.0, 10.0, 100.0, 1_000.0];
/// A working day: this rate for so long, and the lowest of [`RATES`] for the rest of the day.
const WORK_RATE: f64 = 100.0;
const WORK_S: f64 = 8.0 * 3_600.0;
const GB: u64 = 1_000_000_000;
/// Budget per day and `linger_max`, which is 1 s unless told otherwise.
const SETTINGS: [(Option<u64>, Duration); 5] = [
    (Some(GB), Duration::from_secs(10)),
    (Some(GB), Duration::from_secs(1)),
    (Some(5 * GB), Duration::from_secs(1)),
    (Some(20 * GB), Duration::from_secs(1)),
    (None, Duration::from_secs(1)),
];
/// A sync of an SD card takes 5 to 30 ms.
const SYNC_S: f64 = 0.010;
/// What a transaction of the segment writes, and what each event in it adds.
const TRANSACTION_BYTES: u64 = 28_500;
const EVENT_BYTES: u64 = 75;
/// The journal: what a small commit is a multiple of, what fits one, and how many there are before
/// all of them go into the segment.
const PAGE_BYTES: u64 = 4_096;
const SLOT_BYTES: u64 = 16 * 1024;
const SLOTS: u64 = 254;
/// What a commit has besides its events, in bytes: the heads of the frame and of its row.
const HEADS_BYTES: u64 = 100;
/// A row this full is committed without lingering.
const ROW_EVENTS_MAX: usize = 64 * 1024 / EVENT_BYTES as usize;
const DAY_S: f64 = 86_400.0;
/// Until what was there at the start is spent, or saved.
const SETTLING_DAYS: f64 = 1.0;
const MEASURED_DAYS: f64 = 2.0;
/// What the card bears.
const ENDURANCE_BYTES: f64 = 30e12;
const DAYS_PER_YEAR: f64 = 365.25;

fn main() {
    println!("### Wear budget: what it does to acknowledgements\n");
    println!(
        "| events/s | budget, GB/day | linger_max, s | acknowledged after, ms: mean / p99 | commits/day | written, GB/day | a card of 30 TBW lasts, years |"
    );
    println!("|---|---|---|---|---|---|---|");
    for rate in RATES {
        SETTINGS.iter().for_each(|setting| print_row(&format!("{rate}"), *setting, &|_| rate));
    }
    let work = |at_s: f64| if at_s % DAY_S < WORK_S { WORK_RATE } else { RATES[0] };
    let name = format!("{WORK_RATE} by day, {} by night", RATES[0]);
    SETTINGS.iter().for_each(|setting| print_row(&name, *setting, &work));
    println!();
}

fn print_row(load: &str, (budget, linger_max): (Option<u64>, Duration), rate: &dyn Fn(f64) -> f64) {
    let mut seen = simulate(Pacer::new(budget, linger_max, clock::monotonic()), rate);
    let bytes_per_day = seen.written_bytes as f64 / MEASURED_DAYS;
    println!(
        "| {load} | {} | {} | {:.0} / {:.0} | {:.0} | {:.2} | {:.1} |",
        budget.map_or("unlimited".into(), |bytes| (bytes / GB).to_string()),
        linger_max.as_secs(),
        seen.mean_ms(),
        seen.p99_ms(),
        seen.commits as f64 / MEASURED_DAYS,
        bytes_per_day / 1e9,
        ENDURANCE_BYTES / bytes_per_day / DAYS_PER_YEAR,
    );
}

/// What was seen in the measured days.
#[derive(Default)]
struct Seen {
    commits: u64,
    written_bytes: u64,
    events: u64,
    waited_s: f64,
    /// How many events were acknowledged within so many milliseconds.
    waits_ms: Vec<u64>,
}

impl Seen {
    fn note(&mut self, wait_s: f64) {
        let ms = (wait_s * 1000.0).ceil() as usize;
        if self.waits_ms.len() <= ms {
            self.waits_ms.resize(ms + 1, 0);
        }
        self.waits_ms[ms] += 1;
        self.events += 1;
        self.waited_s += wait_s;
    }

    fn mean_ms(&self) -> f64 {
        self.waited_s / self.events as f64 * 1000.0
    }

    fn p99_ms(&mut self) -> usize {
        let mut below = 0;
        let enough = |count: &u64| {
            below += count;
            below >= self.events * 99 / 100
        };
        self.waits_ms.iter().position(enough).unwrap_or_default()
    }
}

/// The commit thread's loop, as in `store/commit.rs`: wait for an event, let it linger, commit all
/// there is.
fn simulate(mut pacer: Pacer, rate: &dyn Fn(f64) -> f64) -> Seen {
    let start = clock::monotonic();
    let mut arrivals = Arrivals { at_s: 0.0, seed: 1, rate };
    let (mut seen, mut waiting, mut free_at_s) = (Seen::default(), Vec::new(), 0.0_f64);
    let mut journal = Journal::default();
    arrivals.pass();
    while free_at_s < (SETTLING_DAYS + MEASURED_DAYS) * DAY_S {
        let begun_s = free_at_s.max(arrivals.at_s);
        let mut taken_at_s = begun_s + pacer.linger(start + Duration::from_secs_f64(begun_s)).as_secs_f64();
        while arrivals.at_s <= taken_at_s {
            waiting.push(arrivals.at_s);
            if waiting.len() == ROW_EVENTS_MAX {
                taken_at_s = arrivals.at_s.max(begun_s);
            }
            arrivals.pass();
        }
        free_at_s = taken_at_s + SYNC_S;
        let bytes = journal.commit(waiting.len() as u64);
        pacer.spend(bytes);
        if taken_at_s > SETTLING_DAYS * DAY_S {
            waiting.iter().for_each(|came_s| seen.note(free_at_s - came_s));
            seen.commits += 1;
            seen.written_bytes += bytes;
        }
        waiting.clear();
    }
    seen
}

/// What is in the journal and in no segment.
#[derive(Default)]
struct Journal {
    commits: u64,
    bytes: u64,
}

impl Journal {
    /// What a commit of so many events writes.
    fn commit(&mut self, events: u64) -> u64 {
        let bytes = HEADS_BYTES + EVENT_BYTES * events;
        if bytes <= SLOT_BYTES && self.commits < SLOTS {
            (self.commits, self.bytes) = (self.commits + 1, self.bytes + bytes);
            return bytes.next_multiple_of(PAGE_BYTES);
        }
        let Journal { bytes: before, .. } = std::mem::take(self);
        TRANSACTION_BYTES + before + bytes
    }
}

/// Events at random.
struct Arrivals<'a> {
    /// When the next one comes.
    at_s: f64,
    seed: u64,
    /// Events per second at a moment.
    rate: &'a dyn Fn(f64) -> f64,
}

impl Arrivals<'_> {
    /// Goes on to the next one.
    fn pass(&mut self) {
        // xorshift64* (Vigna 2016).
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        let random = self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D);
        let part = ((random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        self.at_s += -part.ln() / (self.rate)(self.at_s);
    }
}
