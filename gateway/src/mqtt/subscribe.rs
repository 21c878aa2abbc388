//! SUBSCRIBE and UNSUBSCRIBE, and their answers.
//!
//! ```text
//!   | packet id | properties (MQTT 5) | filter | options | filter | options | …
//! ```
//! Read by the codec of `mqtt-protocol-core`; what it leaves out is checked here. A filter that is
//! none is no reason to close: it gets a code of its own in the SUBACK.

use mqtt_protocol_core::mqtt::packet::{Property, SubEntry, v3_1_1, v5_0};

use super::{
    fault::Fault,
    parse::{NUL, check_texts, whole},
    topics, varint,
    version::Version,
};

/// What MQTT 3.1.1 has for every refusal.
const FAILURE: u8 = 0x80;
/// The option bit "No Local".
const NO_LOCAL: u8 = 4;
/// Option bits that MQTT 3.1.1 has.
const V311_OPTIONS: u8 = 3;
/// Greatest subscription identifier: section 3.8.2.1.2.
const ID_MAX: u32 = 268_435_455;

/// A SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Its packet id.
    pub packet_id: u16,
    /// The subscription identifier, for all of its filters.
    pub id: Option<u32>,
    /// Filters, not checked, and their options.
    pub filters: Vec<(String, u8)>,
}

/// An UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Its packet id.
    pub packet_id: u16,
    /// Its filters.
    pub filters: Vec<String>,
}

/// Reads the SUBSCRIBE in `body`.
///
/// # Errors
/// [`Fault::Malformed`], [`Fault::Protocol`]
pub fn subscribe(version: Version, body: &[u8]) -> Result<Subscribe, Fault> {
    let filters = |entries: &[SubEntry]| {
        let filter = |entry: &SubEntry| (entry.topic_filter().to_owned(), entry.sub_opts().to_buffer()[0]);
        entries.iter().map(filter).collect::<Vec<_>>()
    };
    let subscribe = match version {
        Version::V311 => {
            let packet = whole(v3_1_1::Subscribe::parse(body), body)?;
            Subscribe { packet_id: packet.packet_id(), id: None, filters: filters(packet.entries()) }
        }
        Version::V5 => {
            let packet = whole(v5_0::Subscribe::parse(body), body)?;
            check_texts(packet.props())?;
            let mut ids = packet.props().iter().filter_map(|property| match property {
                Property::SubscriptionIdentifier(id) => Some(id.val()),
                _ => None,
            });
            let id = ids.next();
            if ids.next().is_some() {
                return Err(Fault::Protocol("two subscription identifiers"));
            }
            Subscribe { packet_id: packet.packet_id(), id, filters: filters(packet.entries()) }
        }
    };
    if version == Version::V311 && subscribe.filters.iter().any(|(_, options)| options & !V311_OPTIONS != 0) {
        return Err(Fault::Malformed("reserved subscription options"));
    }
    if subscribe.packet_id == 0 {
        return Err(Fault::Protocol("packet id 0"));
    }
    if subscribe.filters.iter().any(|(filter, _)| filter.contains('\0')) {
        return Err(NUL);
    }
    if subscribe.id.is_some_and(|id| id == 0 || id > ID_MAX) {
        return Err(Fault::Protocol("a subscription identifier of 0"));
    }
    let is_shared_and_no_local =
        |(filter, options): &(String, u8)| options & NO_LOCAL != 0 && topics::share(filter).is_some();
    if subscribe.filters.iter().any(is_shared_and_no_local) {
        return Err(Fault::Protocol("a shared subscription with No Local"));
    }
    Ok(subscribe)
}

/// Reads the UNSUBSCRIBE in `body`.
///
/// # Errors
/// [`Fault::Malformed`], [`Fault::Protocol`]
pub fn unsubscribe(version: Version, body: &[u8]) -> Result<Unsubscribe, Fault> {
    let (packet_id, filters) = match version {
        Version::V311 => {
            let packet = whole(v3_1_1::Unsubscribe::parse(body), body)?;
            let filters: Vec<_> = packet.entries().iter().map(|entry| entry.as_str().to_owned()).collect();
            (packet.packet_id(), filters)
        }
        Version::V5 => {
            let packet = whole(v5_0::Unsubscribe::parse(body), body)?;
            check_texts(packet.props())?;
            let filters: Vec<_> = packet.entries().iter().map(|entry| entry.as_str().to_owned()).collect();
            (packet.packet_id(), filters)
        }
    };
    if packet_id == 0 {
        return Err(Fault::Protocol("packet id 0"));
    }
    if filters.iter().any(|filter| filter.contains('\0')) {
        return Err(NUL);
    }
    Ok(Unsubscribe { packet_id, filters })
}

/// Whether `filter` can be subscribed to: its own rules, and those of `$share/<name>/<filter>`
/// `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`.
#[must_use]
pub fn is_filter(filter: &str, limits: topics::TopicLimits) -> bool {
    if !limits.allow(filter) {
        return false;
    }
    if !filter.starts_with(topics::SHARE) {
        return topics::check_filter(filter).is_ok();
    }
    topics::share(filter).is_some_and(|(name, filter)| {
        !name.is_empty() && !name.contains(['+', '#']) && topics::check_filter(filter).is_ok()
    })
}

/// A SUBACK with a code for each filter.
#[must_use]
pub fn suback(version: Version, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    let codes = codes.iter().map(|&code| match version {
        Version::V311 if code > 2 => FAILURE,
        _ => code,
    });
    answer(0x90, version, packet_id, codes.collect())
}

/// An UNSUBACK with a code for each filter; MQTT 3.1.1 has no codes.
#[must_use]
pub fn unsuback(version: Version, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    let codes = if version == Version::V311 { &[][..] } else { codes };
    answer(0xb0, version, packet_id, codes.to_vec())
}

fn answer(first: u8, version: Version, packet_id: u16, mut codes: Vec<u8>) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.append(&mut codes);
    let mut packet = vec![first];
    varint::put(body.len(), &mut packet);
    packet.append(&mut body);
    packet
}

#[cfg(test)]
mod tests {
    use super::{
        super::reason::{FILTER_INVALID, NO_SUBSCRIPTION},
        *,
    };

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
    }

    #[test]
    fn filters_options_and_the_identifier_are_read() {
        let v5 = [&[0, 7, 3, 0x0b, 0xac, 2][..], &text("a/#"), &[0x2e], &text("$share/g/b"), &[1]].concat();
        let read = subscribe(Version::V5, &v5).unwrap();
        let filters = vec![("a/#".to_owned(), 0x2e), ("$share/g/b".to_owned(), 1)];
        assert_eq!(read, Subscribe { packet_id: 7, id: Some(300), filters });
        let v311 = [&[0, 7][..], &text("a"), &[2]].concat();
        assert_eq!(subscribe(Version::V311, &v311).unwrap().filters, [("a".to_owned(), 2)]);
    }

    #[test]
    fn what_the_rules_forbid_is_refused() {
        let v5 = |properties: &[u8], filter: &str, options: u8| {
            subscribe(Version::V5, &[&[0, 7][..], properties, &text(filter), &[options]].concat()).is_ok()
        };
        assert!(v5(&[0], "a", 0x2c));
        assert!(!v5(&[0], "a", 3), "QoS 3");
        assert!(!v5(&[0], "a", 0x30), "retain handling 3");
        assert!(!v5(&[0], "a", 0x40), "reserved bits");
        assert!(!v5(&[2, 0x0b, 0], "a", 0), "identifier 0");
        assert!(!v5(&[0], "$share/g/a", 4), "no local on a shared one");
        let v311 =
            |options| subscribe(Version::V311, &[&[0, 7][..], &text("a"), &[options]].concat()).is_ok();
        assert!(v311(2) && !v311(3) && !v311(4));
        assert!(subscribe(Version::V311, &[0, 7]).is_err(), "no filter");
        assert!(subscribe(Version::V311, &[&[0, 0][..], &text("a"), &[0]].concat()).is_err(), "packet id 0");
    }

    #[test]
    fn a_filter_is_one_by_itself_or_behind_a_share_name() {
        let limits = topics::TopicLimits::default();
        for good in ["a", "+/#", "$SYS/x", "$share/g/#", "$share/g//a", "$shared/x"] {
            assert!(is_filter(good, limits), "{good}");
        }
        for bad in
            ["", "a#", topics::SHARE, "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g/a#"]
        {
            assert!(!is_filter(bad, limits), "{bad}");
        }
        assert!(!is_filter("a/b", topics::TopicLimits { levels: 1, ..limits }));
    }

    #[test]
    fn each_version_gets_its_own_answers() {
        assert_eq!(suback(Version::V5, 7, &[1, FILTER_INVALID]), [0x90, 5, 0, 7, 0, 1, 0x8f]);
        assert_eq!(suback(Version::V311, 7, &[1, FILTER_INVALID]), [0x90, 4, 0, 7, 1, 0x80]);
        assert_eq!(unsuback(Version::V5, 7, &[0, NO_SUBSCRIPTION]), [0xb0, 5, 0, 7, 0, 0, 0x11]);
        assert_eq!(unsuback(Version::V311, 7, &[0]), [0xb0, 2, 0, 7]);
    }
}
