//! The shape in which the payload of a foreign event goes out: one for each route, whatever the
//! payload looks like. Pure.
//!
//! ```text
//!  route     payload         json            cloudevents, binary    cloudevents, structured
//!  json      JSON            data: as it is  as it came             data: as it is
//!  json      other text      data: a string  as it came             data: a string
//!  text      text            data: a string  as it came             data: a string
//!  opaque    anything        data_base64     as it came             data_base64
//!  json,text no UTF-8        data_base64     as it came             data_base64
//! ```
//! What is text is never base64 on a route that says so, and a number on a route for text is a
//! string. What its publisher says that it is (the Content Type of MQTT 5) goes along; the route
//! decides the shape all the same.
//!
//! Limits: what is no media type of at most [`MEDIA_TYPE_BYTES`] is not passed on as one.

use super::facts::Data;
use crate::store::Kind;

/// Longest media type, in bytes. (RFC 6838, section 4.2: two names of 127 characters)
const MEDIA_TYPE_BYTES: usize = 255;
/// The media type of JSON.
pub const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const BINARY: &str = "application/octet-stream";

/// The payload of a route of this kind.
pub fn shape(kind: Kind, payload: &[u8]) -> Data<'_> {
    if kind == Kind::Opaque || kind == Kind::Frame {
        return Data::Bytes(payload);
    }
    let Ok(text) = std::str::from_utf8(payload) else { return Data::Bytes(payload) };
    if kind == Kind::Json && is_json(text) { Data::Json(payload) } else { Data::Text(text) }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// What an event of a route of this kind is said to be: what its publisher said; and what came,
/// where that is not what the route says and its publisher said nothing better.
pub fn stated<'a>(kind: Kind, data: Data<'_>, given: Option<&'a str>) -> Option<&'a str> {
    let is_as_routed = match data {
        Data::Json(_) => kind == Kind::Json,
        Data::Text(_) => kind == Kind::Text,
        Data::Bytes(_) => kind == Kind::Opaque,
        Data::Deletion => return None,
    };
    if is_as_routed { given } else { Some(media_type(data, given)) }
}

/// The media type of what goes out: what was stated, if it can be that of this shape.
pub fn media_type<'a>(data: Data<'_>, stated: Option<&'a str>) -> &'a str {
    let (fits, default): (fn(&str) -> bool, _) = match data {
        Data::Json(_) => (says_json, JSON),
        Data::Text(_) => (|stated| !says_json(stated), TEXT),
        Data::Bytes(_) | Data::Deletion => (|_| true, BINARY),
    };
    stated.filter(|stated| is_media_type(stated) && fits(stated)).unwrap_or(default)
}

/// Whether a media type is of JSON. (CloudEvents 1.0.2, JSON format, section 3.1)
fn says_json(media_type: &str) -> bool {
    let name = media_type.split(';').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    name.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
}

/// Whether a text has the form of a media type. (RFC 2045, section 5.1; RFC 6838, section 4.2)
fn is_media_type(text: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let name = text.split(';').next().unwrap_or_default().trim_end();
    text.len() <= MEDIA_TYPE_BYTES
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && name.split_once('/').is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_gives_one_shape_whatever_the_payload_looks_like() {
        let text = |text: &'static str| Data::Text(text);
        for (payload, of_json, of_text) in [
            (&b"21.5"[..], Data::Json(b"21.5"), text("21.5")),
            (b"{\"on\":true}", Data::Json(b"{\"on\":true}"), text("{\"on\":true}")),
            (b"\"on\"", Data::Json(b"\"on\""), text("\"on\"")),
            (b"null", Data::Json(b"null"), text("null")),
            (b"on", text("on"), text("on")),
            (b"21.5 \xc2\xb0C", text("21.5 °C"), text("21.5 °C")),
            (b"{broken", text("{broken"), text("{broken")),
            (b"NaN", text("NaN"), text("NaN")),
            (b"", text(""), text("")),
            (b"a\0b\n", text("a\0b\n"), text("a\0b\n")),
            (b"\xff\x00", Data::Bytes(b"\xff\x00"), Data::Bytes(b"\xff\x00")),
            (b"\"\xff\"", Data::Bytes(b"\"\xff\""), Data::Bytes(b"\"\xff\"")),
        ] {
            assert_eq!(shape(Kind::Json, payload), of_json, "{payload:02x?}");
            assert_eq!(shape(Kind::Text, payload), of_text, "{payload:02x?}");
            assert_eq!(shape(Kind::Opaque, payload), Data::Bytes(payload), "{payload:02x?}");
        }
    }

    #[test]
    fn what_the_publisher_says_goes_along_unless_it_is_not_what_came() {
        let (json, text, bytes) = (Data::Json(b"1"), Data::Text("a"), Data::Bytes(b"\xff"));
        for (kind, data, given, said, sent) in [
            (Kind::Json, json, None, None, JSON),
            (
                Kind::Json,
                json,
                Some("application/senml+json"),
                Some("application/senml+json"),
                "application/senml+json",
            ),
            (Kind::Json, json, Some("text/plain"), Some("text/plain"), JSON),
            (Kind::Json, text, None, Some(TEXT), TEXT),
            (Kind::Json, text, Some("application/json"), Some(TEXT), TEXT),
            (Kind::Json, text, Some("text/csv"), Some("text/csv"), "text/csv"),
            (Kind::Json, bytes, None, Some(BINARY), BINARY),
            (Kind::Text, text, None, None, TEXT),
            (
                Kind::Text,
                text,
                Some("text/csv; header=absent"),
                Some("text/csv; header=absent"),
                "text/csv; header=absent",
            ),
            (
                Kind::Text,
                text,
                Some("Application/JSON; charset=utf-8"),
                Some("Application/JSON; charset=utf-8"),
                TEXT,
            ),
            (Kind::Text, text, Some("my own"), Some("my own"), TEXT),
            (Kind::Text, text, Some("text/\u{202e}x"), Some("text/\u{202e}x"), TEXT),
            (Kind::Text, bytes, None, Some(BINARY), BINARY),
            (
                Kind::Text,
                bytes,
                Some("text/plain; charset=latin1"),
                Some("text/plain; charset=latin1"),
                "text/plain; charset=latin1",
            ),
            (Kind::Opaque, bytes, None, None, BINARY),
            (Kind::Opaque, bytes, Some("image/jpeg"), Some("image/jpeg"), "image/jpeg"),
            (Kind::Opaque, bytes, Some("application/json"), Some("application/json"), "application/json"),
            (Kind::Text, Data::Deletion, Some("text/csv"), None, BINARY),
        ] {
            let stated = stated(kind, data, given);
            assert_eq!((stated, media_type(data, stated)), (said, sent), "{kind:?} {data:?} {given:?}");
        }
        let long = format!("text/{}", "x".repeat(MEDIA_TYPE_BYTES));
        assert_eq!(media_type(text, Some(&long)), TEXT);
    }
}
