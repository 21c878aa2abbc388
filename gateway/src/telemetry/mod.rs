//! Every metric's name, and the set-up of logging.
//!
//! Names follow Prometheus: one prefix, base units, `_total` on counters. No label is ever a client
//! id or a topic, for those are unbounded. Rooms count in batches, so a count costs nothing per
//! event. One recorder serves the whole process: a gateway that is started again goes on counting.
//!
//! Logs go to standard error, one line each whatever a client puts into it, as [`LOG_VARIABLE`]
//! says. Nothing is sent anywhere.

pub mod repeats;

use std::{
    cell::Cell,
    io::IsTerminal,
    panic::{self, AssertUnwindSafe},
    sync::{Once, OnceLock},
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Dispatch;
use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt::{
        FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    util::SubscriberInitExt as _,
};

use crate::printable;

/// The environment variable that holds the log filter, such as `debug` or
/// `info,tidegate::uplink=debug`.
pub const LOG_VARIABLE: &str = "TIDEGATE_LOG";
/// The log filter where [`LOG_VARIABLE`] says nothing: the libraries beneath speak of trouble only.
const LOG_DEFAULT: &str = "warn,tidegate=info";
/// Bytes of message and fields that a line shows; more is cut.
const LOG_LINE_BYTES_MAX: usize = 8 * 1024;

/// Upper bounds of the histograms' buckets, in seconds: a fast disk syncs in 0.2 ms, an SD card in
/// 30 ms, a satellite link acknowledges in a second.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The name of the label that says which uplink a series is about.
pub const UPLINK_LABEL: &str = "uplink";

/// A metric as `/metrics` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name, with prefix and unit.
    pub name: &'static str,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
}

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Sums and counts, by bucket.
    Histogram,
}

macro_rules! metrics {
    ($($ident:ident $kind:ident $name:literal $help:literal;)*) => {
        $(#[doc = $help] pub const $ident: &str = $name;)*
        /// All of them, for the recorder's descriptions and for the documentation.
        pub const METRICS: &[Metric] = &[$(Metric { name: $name, help: $help, kind: MetricKind::$kind }),*];
    };
}

metrics! {
    RECEIVED_EVENTS Counter "tidegate_received_events_total" "Events that came in for storing, duplicates and refused ones included.";
    RECEIVED_BYTES Counter "tidegate_received_bytes_total" "Bytes of topics and payloads taken in.";
    UNROUTED_MESSAGES Counter "tidegate_unrouted_messages_total" "Publishes that no route takes: acknowledged and not stored.";
    MALFORMED_FRAMES Counter "tidegate_malformed_frames_total" "Payloads on a frame topic that are no frame: stored as they came.";
    MALFORMED_TEXTS Counter "tidegate_malformed_texts_total" "Payloads on a route for text that are no UTF-8: stored as they came.";
    REFUSED_EVENTS Counter "tidegate_refused_events_total" "Events not stored and not acknowledged, or refused with 0x97, by reason: the client has them still, unless it sent them with QoS 0.";
    CONNECTIONS Gauge "tidegate_connections" "Clients connected now.";
    CONNECTS Counter "tidegate_connects_total" "Connections accepted with a CONNACK.";
    REFUSED_CONNECTIONS Counter "tidegate_refused_connections_total" "Connections refused, by reason.";
    CLOSED_CONNECTIONS Counter "tidegate_closed_connections_total" "Connections of accepted clients that the gateway closed, by reason.";
    THROTTLED Counter "tidegate_throttled_total" "Times that a limit per second made somebody wait, by limit.";
    AUTHENTICATION_FAILURES Counter "tidegate_authentication_failures_total" "Clients refused for who they are or say they are, by reason.";
    DENIED Counter "tidegate_denied_total" "What clients tried and were not allowed, by action: publishes, subscriptions, deliveries, wills.";
    PROTOCOL_ERRORS Counter "tidegate_protocol_errors_total" "Connections closed for breaking MQTT's rules.";
    RELOAD_FAILURES Counter "tidegate_reload_failures_total" "Changed files that could not be loaded, by what they are: the old ones are used.";
    RELOAD_FAILING Gauge "tidegate_reload_failing" "Sets of files that could not be loaded and whose old ones are used.";
    LOCAL_DELIVERED Counter "tidegate_local_delivered_total" "Messages sent to local subscribers.";
    LOCAL_DROPPED Counter "tidegate_local_dropped_total" "Copies that a local subscriber did not get, by reason; what is stored is not touched by it.";
    LOST_WILLS Counter "tidegate_lost_wills_total" "Wills that were due while the store took nothing, and for which there was no room: they are not published.";
    LOCAL_SESSIONS Gauge "tidegate_local_sessions" "Sessions of local subscribers, connected or away.";
    LOCAL_QUEUED Gauge "tidegate_local_queued" "Messages in the queues of local subscribers.";
    RETAINED_MESSAGES Gauge "tidegate_retained_messages" "Retained messages.";
    TLS_FAILURES Counter "tidegate_tls_failures_total" "TLS handshakes that failed, by reason.";
    WEBSOCKET_FAILURES Counter "tidegate_websocket_failures_total" "WebSockets that did not come about, or were closed for what their client sent, by reason.";
    CERTIFICATE_EXPIRY Gauge "tidegate_certificate_expiry_timestamp_seconds" "When the certificate of a listener with TLS expires, in seconds since 1970, by listener.";
    STORED_EVENTS Counter "tidegate_stored_events_total" "Events that are durable.";
    STORED_BYTES Counter "tidegate_stored_bytes_total" "Bytes of stored records.";
    DUPLICATE_EVENTS Counter "tidegate_duplicate_events_total" "Events dropped because they are stored already.";
    FORGOTTEN_IDS Counter "tidegate_forgotten_packet_ids_total" "QoS 2 packet ids of clients that were away longest, forgotten for want of room: what is sent again under them is stored again.";
    COMMITS Counter "tidegate_commits_total" "Commits made.";
    SYNCS Counter "tidegate_syncs_total" "Syncs to disk.";
    SYNC_SECONDS Histogram "tidegate_sync_seconds" "Time that a sync took.";
    WRITTEN_BYTES Counter "tidegate_written_bytes_total" "Bytes written to disk by the store.";
    LINGER_SECONDS Gauge "tidegate_linger_seconds" "How long a commit waits for company: above 0 while more is written than the wear budget gives.";
    WEAR_BUDGET_LEFT_BYTES Gauge "tidegate_wear_budget_left_bytes" "Bytes that the wear budget has left; below 0 they were written already. 0 without a budget.";
    STORE_BYTES Gauge "tidegate_store_bytes" "Bytes of the store's files.";
    SEGMENTS Gauge "tidegate_segments" "Segments of the store.";
    STORE_MAX_BYTES Gauge "tidegate_store_max_bytes" "Bytes that the store's files may take.";
    STORE_FAILING Gauge "tidegate_store_failing" "1 while writing to the store fails and nothing is acknowledged.";
    STORE_FAILURES Counter "tidegate_store_failures_total" "Writes to the store that failed.";
    STORE_RECOVERIES Counter "tidegate_store_recoveries_total" "Times that writing to the store worked again after failures.";
    QUARANTINED_SEGMENTS Counter "tidegate_quarantined_segments_total" "Damaged segments that were set aside.";
    DROPPED_EVENTS Counter "tidegate_dropped_events_total" "Events that an uplink will not get, by reason: each is in a gap record.";
    DELIVERED_EVENTS Counter "tidegate_delivered_events_total" "Events acknowledged by the upstream, by uplink.";
    BACKLOG_EVENTS Gauge "tidegate_backlog_events" "Events stored and not yet acknowledged by the upstream, by uplink.";
    BACKLOG_BYTES Gauge "tidegate_backlog_bytes" "Bytes of the records in the backlog, by uplink.";
    BACKLOG_AGE Gauge "tidegate_backlog_age_seconds" "Age of the oldest event in the backlog, by uplink; 0 without one.";
    UPLINKS_KEPT Gauge "tidegate_uplinks_kept" "Uplinks that are not configured any more and whose places are kept.";
    UPLINK_CONNECTED Gauge "tidegate_uplink_connected" "1 while the upstream is connected, by uplink.";
    UPLINK_PAUSED Gauge "tidegate_uplink_paused" "1 while the uplink is paused and nothing is sent, by uplink.";
    UPLINK_CONNECTS Counter "tidegate_uplink_connects_total" "Connections made to the upstream, by uplink.";
    ACK_SECONDS Histogram "tidegate_uplink_ack_seconds" "Time from sending an event to the upstream's acknowledgement, by uplink.";
    REPLAYED_EVENTS Counter "tidegate_replayed_events_total" "Events sent again by a replay and acknowledged by the upstream, by uplink.";
    SET_ASIDE_EVENTS Counter "tidegate_set_aside_events_total" "Events that the upstream cannot take, made dead letters, by uplink.";
    DEAD_LETTERS Gauge "tidegate_dead_letters" "Dead letters: records that an upstream could not take, kept with their reasons.";
    DEAD_LETTER_BYTES Gauge "tidegate_dead_letter_bytes" "Bytes of the dead letters.";
    COMMANDS Counter "tidegate_commands_total" "Commands to devices, by the state that they came to; pending is taken in, refused is not.";
    COMMANDS_PENDING Gauge "tidegate_commands_pending" "Commands that wait for their devices.";
    DEVICES Gauge "tidegate_devices" "Devices known.";
    DEVICES_ONLINE Gauge "tidegate_devices_online" "Devices that are online.";
    DEVICE_LOST_EVENTS Gauge "tidegate_device_lost_events" "Events that devices told as lost, of all devices and boots known.";
    DEVICE_MISSING_EVENTS Gauge "tidegate_device_missing_events" "Events whose numbers never came and that no device spoke of, of all devices and boots known.";
    DEVICE_LATE_EVENTS Gauge "tidegate_device_late_events" "Events that came behind a later one, of all devices and boots known.";
    DEVICE_FAULTS Counter "tidegate_device_faults_total" "Births, statuses and frames of devices that could not be read, by what they should be: stored and forwarded as they came.";
    REUSED_IDENTITIES Counter "tidegate_reused_identities_total" "Events of devices whose number another event has as well, for a boot number did not grow at a reset: stored, forwarded, and marked in formats that describe events.";
    UNTRACKED_RECORDS Counter "tidegate_untracked_records_total" "Records of devices beyond those that can be known: stored and forwarded like any other.";
    HTTP_CLOSED_CONNECTIONS Counter "tidegate_http_closed_connections_total" "HTTP connections that the gateway closed because their clients kept it waiting, by reason.";
    DEAD_LETTERS_DROPPED Counter "tidegate_dead_letters_dropped_total" "Dead letters dropped because there was no room for more.";
}

/// Metrics with one series per uplink.
const BY_UPLINK: [&str; 10] = [
    DELIVERED_EVENTS,
    REPLAYED_EVENTS,
    BACKLOG_EVENTS,
    BACKLOG_BYTES,
    BACKLOG_AGE,
    UPLINK_CONNECTED,
    UPLINK_PAUSED,
    UPLINK_CONNECTS,
    ACK_SECONDS,
    SET_ASIDE_EVENTS,
];
/// Metrics whose series are named by the room that counts: no series without its labels.
const BY_REASON: &[&str] = &[
    REFUSED_CONNECTIONS,
    CLOSED_CONNECTIONS,
    THROTTLED,
    REFUSED_EVENTS,
    DROPPED_EVENTS,
    RELOAD_FAILURES,
    LOCAL_DROPPED,
    TLS_FAILURES,
    WEBSOCKET_FAILURES,
    CERTIFICATE_EXPIRY,
    AUTHENTICATION_FAILURES,
    DENIED,
    DEVICE_FAULTS,
    COMMANDS,
    HTTP_CLOSED_CONNECTIONS,
];

/// Sends the log to standard error: [`LOG_VARIABLE`] filters, and colours are for terminals only.
/// Where a log is set up already, it stays.
///
/// # Errors
/// The filter cannot be read; nothing was set up.
pub fn log_to_stderr(filter: Option<&str>) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter.unwrap_or(LOG_DEFAULT))
        .map_err(|e| format!("{LOG_VARIABLE}: {e}; write for example \"info\" or \"tidegate=debug\""))?;
    let _ = log(filter, std::io::stderr, std::io::stderr().is_terminal()).try_init();
    Ok(())
}

fn log<W>(filter: EnvFilter, writer: W, ansi: bool) -> impl Into<Dispatch>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(SafeFields)
        .with_writer(writer)
        .with_ansi(ansi)
        .with_target(false)
        // A log that cannot be written stops nobody: its own complaint about it goes to the
        // standard error, and panics if that is gone.
        .log_internal_errors(false)
        .finish()
}

/// Every message and every field on its way into a line: what a client chose may be in any of them,
/// so none may hold a newline or what a terminal obeys. Colours are for level and time, which are
/// our own.
struct SafeFields;

impl<'w> FormatFields<'w> for SafeFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> std::fmt::Result {
        let mut safe = printable::Escape::new(&mut writer, LOG_LINE_BYTES_MAX);
        DefaultFields::new().format_fields(Writer::new(&mut safe), fields)
    }
}

thread_local! {
    /// A panic of this thread is expected, and caught.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act` and catches its panic, which is not printed once [`hush_caught_panics`] was called.
///
/// # Errors
/// What it panicked with.
pub fn catch_panic<T>(act: impl FnOnce() -> T) -> std::thread::Result<T> {
    let before = IS_GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(act));
    IS_GUARDED.set(before);
    outcome
}

/// From now on a panic that [`catch_panic`] catches is not printed; every other one is, as before.
pub fn hush_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                print(panic);
            }
        }));
    });
}

/// The recorder of this process, installed at the first call; `None` where a foreign one is
/// installed.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let handle = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)
                .ok()?
                .install_recorder()
                .ok()?;
            describe();
            Some(handle)
        })
        .as_ref()
}

/// Gives every series of these uplinks a value, so that what has not happened yet shows as zero.
pub fn register<'a>(uplinks: impl Iterator<Item = &'a str>) {
    for metric in METRICS {
        if !BY_UPLINK.contains(&metric.name) && !BY_REASON.contains(&metric.name) {
            touch(metric, metrics::Key::from_name(metric.name));
        }
    }
    for uplink in uplinks {
        for metric in METRICS.iter().filter(|m| BY_UPLINK.contains(&m.name)) {
            let label = metrics::Label::new(UPLINK_LABEL, uplink.to_owned());
            touch(metric, metrics::Key::from_parts(metric.name, vec![label]));
        }
    }
}

fn touch(metric: &Metric, key: metrics::Key) {
    const METADATA: metrics::Metadata<'static> =
        metrics::Metadata::new("tidegate", metrics::Level::INFO, Some(module_path!()));
    metrics::with_recorder(|recorder| match metric.kind {
        MetricKind::Counter => recorder.register_counter(&key, &METADATA).increment(0),
        MetricKind::Gauge => recorder.register_gauge(&key, &METADATA).increment(0.0),
        MetricKind::Histogram => drop(recorder.register_histogram(&key, &METADATA)),
    });
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_one_series_at_least_before_anything_has_happened() {
        let handle = recorder().unwrap();
        register(["cloud"].into_iter());
        let text = handle.render();
        for metric in METRICS.iter().filter(|m| !BY_REASON.contains(&m.name)) {
            let label = if BY_UPLINK.contains(&metric.name) { "uplink=\"cloud\"" } else { "" };
            let found = text.lines().any(|l| l.starts_with(metric.name) && l.contains(label));
            assert!(found, "{} is missing from\n{text}", metric.name);
            assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}", metric.name);
        }
    }

    #[test]
    fn a_panic_is_caught_and_the_next_one_is_as_any_other() {
        hush_caught_panics();
        assert!(catch_panic(|| panic!("expected")).is_err());
        assert!(!IS_GUARDED.get());
        assert_eq!(catch_panic(|| IS_GUARDED.get()).ok(), Some(true));
    }

    #[test]
    fn names_keep_to_one_prefix_and_to_base_units() {
        for metric in METRICS {
            assert!(metric.name.starts_with("tidegate_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == MetricKind::Counter,
                "{}",
                metric.name
            );
            assert!(!metric.name.contains("_ms"), "{}", metric.name);
        }
    }

    #[derive(Clone, Default)]
    struct Lines(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    proptest::proptest! {
        #![proptest_config(crate::printable::hostile::cases())]

        #[test]
        fn a_log_line_is_one_line_and_shows_what_a_terminal_would_obey(
            text in printable::hostile::text(), bytes in printable::hostile::bytes()
        ) {
            let (lines, other) = (Lines::default(), String::from_utf8_lossy(&bytes).into_owned());
            let writer = lines.clone();
            let log = log(EnvFilter::new("trace"), move || writer.clone(), false);
            tracing::dispatcher::with_default(&log.into(), || {
                tracing::info!(client = %text, topic = ?bytes, device = %other, error = text.as_str(), "a {text} of {other}");
            });
            let written = String::from_utf8(lines.0.lock().clone()).unwrap();
            let line = written.strip_suffix('\n').unwrap();
            proptest::prop_assert!(!line.chars().any(printable::is_unprintable), "{line:?}");
            proptest::prop_assert!(line.len() < 16 * LOG_LINE_BYTES_MAX);
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_that_names_the_variable() {
        assert!(log_to_stderr(Some("tidegate=loud")).unwrap_err().starts_with("TIDEGATE_LOG: "));
    }
}
