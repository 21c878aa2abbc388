//! The formats by their names.

/// A format, as the configuration names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FormatName {
    /// `raw`: payloads as they came.
    #[default]
    Raw,
    /// `json`: one JSON object for each event.
    Json,
    /// `cloudevents`: binary mode where the upstream carries headers, structured mode where it does
    /// not.
    CloudEvents,
    /// `thingsboard`: telemetry of ThingsBoard's gateway API, by device.
    ThingsBoard,
}
