//! The firmware core on an emulated board: QEMU's `mps2-an386`, a Cortex-M4F with LAN9118 Ethernet.
//!
//! Purpose: the same binary that a microcontroller would run, against a real gateway, in a test. It
//! also holds the figures for flash and RAM.
//!
//! ```text
//!  reset ─ console, clock ─▶ arguments (semihosting) ─▶ boot number (a file of the host)
//!        └▶ Ethernet ─ DHCP ─▶ tidegate_firmware::device::run ─▶ exit code 0
//! ```
//!
//! Limits: [`FRAMES_MAX`] frames of [`FRAME_BYTES_MAX`] bytes; the gateway is on the emulator's
//! host.
//!
//! What it does not do: no watchdog, no storage but the boot number, a simulated sensor.
#![no_std]
#![no_main]

mod console;
mod executor;
mod lan9118;
mod options;
mod registers;
mod semihosting;
mod tcp;
mod time_driver;
mod vectors;

use core::num::NonZeroU16;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m_rt::{ExceptionFrame, entry, exception};
use embassy_executor::{Spawner, raw};
use embassy_net::{IpEndpoint, Ipv4Address, Runner, Stack, StackResources};
use embassy_time::{Duration, Instant, Timer};
use static_cell::StaticCell;
use tidegate_firmware::batcher::BatchLimits;
use tidegate_firmware::board::{Clock, Ending, Progress, Watcher};
use tidegate_firmware::device::{self, Board, Firmware, Parts, Settings, Storage};
use tidegate_firmware::link::Password;
use tidegate_firmware::random::SplitMix;
use tidegate_firmware::sensor::{SensorFault, SimulatedClimate};
use tidegate_protocol::events::{Climate, EventType, Loss};
use tidegate_protocol::{Kind, ResetReason};

use console::say;
use lan9118::Lan9118;
use options::Options;
use semihosting::LINE_BYTES_MAX;
use tcp::TcpDialer;

const FRAMES_MAX: usize = 24;
const FRAME_BYTES_MAX: usize = 512;
const CLIMATE_KIND: u8 = 1;
const KINDS: &[Kind] = &[Loss::KIND, Climate::KIND, SensorFault::KIND];
const FIRMWARE: Firmware<'static> =
    Firmware::new("tidegate-board-qemu", env!("CARGO_PKG_VERSION"), "mps2-an386");
const OUTGOING_BYTES: usize = device::outgoing_bytes(FRAME_BYTES_MAX, KINDS);
const KEEP_ALIVE_S: NonZeroU16 = NonZeroU16::new(30).expect("invariant: not zero");
/// The emulator's host, as its network shows it.
const HOST: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
/// DHCP and one TCP connection, and one that is still closing.
const SOCKETS_MAX: usize = 3;
const TICK: Duration = Duration::from_millis(5);

static SAMPLED: AtomicU32 = AtomicU32::new(0);
static ACKED: AtomicU32 = AtomicU32::new(0);
static LOST: AtomicU32 = AtomicU32::new(0);

#[entry]
fn main() -> ! {
    console::init();
    time_driver::init();
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    executor::run(executor, |spawner| match app(spawner) {
        Ok(app) => spawner.spawn(app),
        Err(_) => fail(format_args!("no room for the first task")),
    })
}

#[embassy_executor::task]
async fn app(spawner: Spawner) {
    static LINE: StaticCell<[u8; LINE_BYTES_MAX]> = StaticCell::new();
    let line = semihosting::command_line(LINE.init([0; LINE_BYTES_MAX]));
    let options = match Options::parse(line) {
        Ok(options) => options,
        Err(wrong) => fail(format_args!("{wrong}")),
    };
    let boot = match options.boot_file.map(semihosting::next_boot) {
        None => 1,
        Some(Some(boot)) => boot,
        Some(None) => fail(format_args!("bootfile= cannot be written: no boot number")),
    };
    say!("booted {boot}");
    let seed = options.seed(boot);
    let stack = network(spawner, seed);
    stack.wait_config_up().await;

    let parts = Parts::<Mps2> {
        clock: Uptime,
        entropy: SplitMix::new(seed),
        dialer: TcpDialer::new(stack, IpEndpoint::new(HOST.into(), options.port)),
        sensors: (SimulatedClimate::new(seed, CLIMATE_KIND),),
        ending: AfterCount(options.count),
        watcher: Printing { every: (options.count / 10).max(1), next: 1 },
    };
    let settings = Settings {
        device: options.device,
        password: options.password.map(Password),
        boot,
        // The emulator has no register that tells why it started.
        reset: ResetReason::Unknown,
        firmware: FIRMWARE,
        sample_every_ms: options.interval_ms,
        batch: BatchLimits { events_max: options.batch, age_ms_max: options.batch_age_ms },
        window: options.window,
        keep_alive_s: KEEP_ALIVE_S,
        status_every_ms: device::STATUS_EVERY_MS,
    };
    static STORAGE: StaticCell<Storage<FRAMES_MAX, FRAME_BYTES_MAX, OUTGOING_BYTES>> = StaticCell::new();
    let storage = STORAGE.init_with(Storage::new);
    device::run(parts, &settings, storage).await;
    let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    say!("done sampled={} acked={} lost={}", count(&SAMPLED), count(&ACKED), count(&LOST));
    semihosting::exit(true)
}

/// Starts Ethernet and TCP/IP.
fn network(spawner: Spawner, seed: u64) -> Stack<'static> {
    let ethernet = match Lan9118::start() {
        Ok(ethernet) => ethernet,
        Err(lan9118::NotFound { id_rev }) => fail(format_args!("no LAN9118 (it says {id_rev:#010x})")),
    };
    static RESOURCES: StaticCell<StackResources<SOCKETS_MAX>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let config = embassy_net::Config::dhcpv4(embassy_net::DhcpConfig::default());
    let (stack, runner) = embassy_net::new(ethernet, config, resources, seed);
    match (net(runner), tick()) {
        (Ok(net), Ok(tick)) => {
            spawner.spawn(net);
            spawner.spawn(tick);
        }
        _ => fail(format_args!("no room for the network's tasks")),
    }
    stack
}

#[embassy_executor::task]
async fn net(mut runner: Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

/// Keeps the emulator awake. QEMU 7.2 looks at a connection that its network has just opened only
/// when something else wakes it, up to a second later; an interrupt of the guest's timer does.
#[embassy_executor::task]
async fn tick() -> ! {
    loop {
        Timer::after(TICK).await;
    }
}

struct Mps2;

impl Board for Mps2 {
    type Clock = Uptime;
    type Entropy = SplitMix;
    type Dialer = TcpDialer;
    type Sensors = (SimulatedClimate,);
    type Ending = AfterCount;
    type Watcher = Printing;
    const KINDS: &'static [Kind] = KINDS;
}

struct Uptime;

impl Clock for Uptime {
    fn uptime_ms(&self) -> u64 {
        Instant::now().as_millis()
    }

    async fn sleep_until(&self, uptime_ms: u64) {
        match uptime_ms.checked_mul(1000) {
            Some(us) => Timer::at(Instant::from_micros(us)).await,
            None => core::future::pending().await,
        }
    }
}

/// Ends after so many events.
struct AfterCount(u32);

impl Ending for AfterCount {
    fn requested(&self) -> bool {
        SAMPLED.load(Ordering::Relaxed) >= self.0
    }

    /// Only sampling brings the end about, and after sampling the core asks.
    async fn wait(&self) {
        core::future::pending().await
    }
}

/// Counts, and tells the console now and then.
struct Printing {
    every: u32,
    next: u32,
}

impl Watcher for Printing {
    fn note(&mut self, progress: Progress) {
        match progress {
            Progress::Sampled { .. } => {
                SAMPLED.fetch_add(1, Ordering::Relaxed);
            }
            Progress::Acked { events } => {
                let acked = ACKED.fetch_add(events, Ordering::Relaxed) + events;
                if acked >= self.next {
                    self.next = acked + self.every;
                    say!("acked {acked} at_ms={}", Uptime.uptime_ms());
                }
            }
            Progress::Lost { first_seq, events } => {
                LOST.fetch_add(events, Ordering::Relaxed);
                say!("lost {events} from {first_seq}");
            }
            Progress::Connected { resumed } => {
                say!("connected resumed={resumed} at_ms={}", Uptime.uptime_ms())
            }
            Progress::Born => say!("born at_ms={}", Uptime.uptime_ms()),
            Progress::BirthTooLarge => say!("the gateway takes no birth of this length"),
            Progress::Disconnected(reason) => say!("disconnected: {reason}"),
            Progress::Refused { reason } => say!("refused {reason:#04x}"),
            Progress::Unusable { kind } => say!("no frame takes kind {kind}"),
            Progress::Faulted { sensor } => say!("sensor {sensor} failed"),
        }
    }
}

/// Says why, and ends with exit code 1.
fn fail(why: core::fmt::Arguments<'_>) -> ! {
    say!("failed: {why}");
    semihosting::exit(false)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"))
}

// SAFETY: it does not return, and uses nothing that the fault may have left half-way but the
// console.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    fail(format_args!("hard fault at {:#010x}", frame.pc()))
}
