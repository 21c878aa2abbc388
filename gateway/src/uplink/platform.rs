//! The platforms that an uplink may lead to: what each takes from one client.
//!
//! ```text
//!  platform = "aws-iot" ─▶ row ─┬─ sets what no other key sets
//!                               ├─ refuses a key that asks for more
//!                               └─ bounds topics: a longer one is refused, or makes a dead letter
//! ```
//! The figures are those of the platforms' own documents for one client or connection. A rate is
//! set a little below them: clocks differ, and some platforms discard what is over it.
//!
//! It knows no engine and reads no URL. What a broker grants by itself when a connection is made
//! needs no row here.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use super::template::{Template, TopicLimits};
use crate::{
    keys::{Text, Validator},
    mqtt::Version,
};

/// The part of a rate, in percent, that is set where its key is not.
const PACED_PERCENT: u64 = 95;

/// One platform. What has no limit there is `None`.
#[derive(Debug)]
pub struct Platform {
    /// What the key says.
    word: &'static str,
    /// What people call it.
    title: &'static str,
    /// The only version of MQTT that it speaks.
    pub version: Option<Version>,
    /// Messages in a second.
    pub events_per_s: Option<Limit>,
    /// Bytes of messages in a second.
    pub bytes_per_s: Option<Limit>,
    /// Messages that are sent and not acknowledged.
    pub window: Option<Limit>,
    /// Bytes of them.
    pub inflight_bytes: Option<Limit>,
    /// The longest packet, in bytes.
    pub packet_bytes: Option<Limit>,
    /// The keep-alive, in seconds.
    pub keep_alive_s: RangeInclusive<u64>,
    /// Two connects of a client are at least so far apart.
    pub connects_apart: Duration,
    /// The longest client id, in bytes.
    client_id_bytes_max: usize,
    /// Topics.
    topic: TopicLimits,
    /// With what a topic begins, before and behind the client id; empty where it is free.
    topic_prefix: (&'static str, &'static str),
    /// RETAIN may be set.
    pub retains: bool,
    /// What is mostly the matter where it refuses a client, or closes without a word.
    refuses_for: &'static str,
}

/// A number of something.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// What is set where its key is not.
    set: u64,
    /// What the platform takes at the most.
    most: u64,
}

impl Limit {
    const fn new(most: u64) -> Self {
        Self { set: most, most }
    }

    const fn paced(most: u64) -> Self {
        Self { set: most * PACED_PERCENT / 100, most }
    }
}

/// What is limited nowhere that MQTT does not limit.
const ANY: Platform = Platform {
    word: "",
    title: "",
    version: None,
    events_per_s: None,
    bytes_per_s: None,
    window: None,
    inflight_bytes: None,
    packet_bytes: None,
    keep_alive_s: 0..=65_535,
    connects_apart: Duration::ZERO,
    client_id_bytes_max: usize::MAX,
    topic: TopicLimits::MQTT,
    topic_prefix: ("", ""),
    retains: true,
    refuses_for: "",
};

/// An upstream of which nothing is known.
pub static UNKNOWN: Platform = ANY;

/// "AWS IoT Core endpoints and quotas", "Azure IoT Hub quotas and throttling", "MQTT support in
/// Azure Event Grid", "EMQX Serverless: quotas", "HiveMQ Cloud: limits", "ThingsBoard: rate
/// limits".
static PLATFORMS: [Platform; 7] = [
    Platform {
        word: "aws-iot",
        title: "AWS IoT Core",
        events_per_s: Some(Limit::paced(100)),
        bytes_per_s: Some(Limit::paced(512 << 10)),
        window: Some(Limit::new(100)),
        packet_bytes: Some(Limit::new(128 << 10)),
        keep_alive_s: 30..=1200,
        connects_apart: Duration::from_secs(1),
        client_id_bytes_max: 128,
        topic: TopicLimits { bytes_max: 256, slashes_max: 7 },
        retains: false,
        refuses_for: "a policy that does not allow this client id or topic, or a certificate that is not active",
        ..ANY
    },
    Platform {
        word: "azure-iot-hub",
        title: "Azure IoT Hub",
        version: Some(Version::V311),
        packet_bytes: Some(Limit::new(256 << 10)),
        keep_alive_s: 0..=1177,
        client_id_bytes_max: 128,
        topic_prefix: ("devices/", "/messages/events/"),
        retains: false,
        refuses_for: "a client id that is not the device's name, a user or a token of another device, or a token that is over",
        ..ANY
    },
    Platform {
        word: "azure-event-grid",
        title: "Azure Event Grid",
        events_per_s: Some(Limit::paced(1000)),
        bytes_per_s: Some(Limit::paced(1_000_000)),
        window: Some(Limit::new(1000)),
        inflight_bytes: Some(Limit::new(64_000)),
        packet_bytes: Some(Limit::new(512 << 10)),
        keep_alive_s: 0..=1160,
        client_id_bytes_max: 128,
        topic: TopicLimits { bytes_max: 256, ..TopicLimits::MQTT },
        retains: false,
        refuses_for: "a user that is not the client's authentication name, another certificate's thumbprint, or no permission binding for the topic",
        ..ANY
    },
    Platform {
        word: "emqx-serverless",
        title: "EMQX Serverless",
        events_per_s: Some(Limit::paced(10)),
        bytes_per_s: Some(Limit::paced(1 << 20)),
        packet_bytes: Some(Limit::new(1 << 20)),
        refuses_for: "a user and a password that are not below Access Control, Authentication",
        ..ANY
    },
    Platform {
        word: "hivemq-cloud",
        title: "HiveMQ Cloud",
        packet_bytes: Some(Limit::new(5 << 20)),
        refuses_for: "a user and a password that are not below Access Management",
        ..ANY
    },
    Platform {
        word: "thingsboard",
        title: "ThingsBoard",
        // 100 a second, 1,000 a minute and 15,000 an hour: an hour's worth, evenly.
        events_per_s: Some(Limit { set: 4, most: 100 }),
        packet_bytes: Some(Limit::new(64 << 10)),
        topic_prefix: ("v1/", ""),
        retains: false,
        refuses_for: "a user that is not the device's access token, a rate above its limits, or a payload of another shape",
        ..ANY
    },
    // It says itself what it takes.
    Platform {
        word: "tidegate",
        title: "another Tidegate",
        refuses_for: "no access rule for this client, or credentials that it does not know: see `tidegate devices add` there",
        ..ANY
    },
];

impl Platform {
    /// What the key says, or an upstream of which nothing is known.
    pub(super) fn read(validator: &mut Validator<'_>, raw: Option<&Text>) -> &'static Self {
        let known: Vec<(&str, &'static Self)> = PLATFORMS.iter().map(|row| (row.word, row)).collect();
        validator.one_of(raw, &UNKNOWN, "platform", &known)
    }

    #[cfg(test)]
    pub fn named(word: &str) -> &'static Self {
        PLATFORMS.iter().find(|row| row.word == word).unwrap_or(&UNKNOWN)
    }

    /// What people call it; empty if nothing is known of it.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// What is mostly the matter where it refuses a client, or closes without a word, in words to
    /// go behind others; empty if nothing is known of it.
    #[must_use]
    pub fn refuses_for(&self) -> String {
        match self.refuses_for {
            "" => String::new(),
            why => format!("; {} does so for {why}", self.title),
        }
    }

    /// What is asked for, where a key does, or what is set for this platform. What is more than it
    /// takes is noted.
    pub(super) fn settle(
        &self,
        validator: &mut Validator<'_>,
        limit: Option<Limit>,
        asked: Option<(u64, Range<usize>)>,
        what: &str,
    ) -> Option<u64> {
        let (limit, asked) = match (limit, asked) {
            (Some(limit), Some(asked)) => (limit, asked),
            (limit, asked) => return asked.map(|(value, _)| value).or(limit.map(|limit| limit.set)),
        };
        let (value, span) = asked;
        let Limit { set, most } = limit;
        if value > most {
            let title = self.title;
            validator.wrong(
                &span,
                format!(
                    "{value} {what} are more than the {most} that {title} takes; without the key it is {set}"
                ),
            );
        }
        Some(value)
    }

    /// The version to speak: `asked` for, if the platform speaks it.
    pub(super) fn version(
        &self,
        validator: &mut Validator<'_>,
        raw: Option<&Text>,
        asked: Version,
    ) -> Version {
        match (self.version, raw) {
            (Some(only), Some(raw)) if only != asked => {
                validator.wrong(&raw.span(), format!("{} does not speak it; remove the key", self.title));
                only
            }
            (Some(only), _) => only,
            (None, _) => asked,
        }
    }

    /// Notes a keep-alive that the platform does not take.
    pub(super) fn check_keep_alive(&self, validator: &mut Validator<'_>, raw: Option<&Text>, seconds: u64) {
        if let Some(raw) = raw.filter(|_| !self.keep_alive_s.contains(&seconds)) {
            let (least, most) = (self.keep_alive_s.start(), self.keep_alive_s.end());
            validator.wrong(
                &raw.span(),
                format!("{} takes {least} to {most} s; without the key it is 30 s", self.title),
            );
        }
    }

    /// Notes a client id that is too long for the platform.
    pub(super) fn check_client_id(
        &self,
        validator: &mut Validator<'_>,
        span: &Range<usize>,
        client_id: &str,
    ) {
        let (bytes, most) = (client_id.len(), self.client_id_bytes_max);
        if bytes > most {
            let title = self.title;
            validator.wrong(
                span,
                format!("the client id has {bytes} bytes, more than the {most} that {title} takes"),
            );
        }
    }

    /// The template, bound to the gateway, within the platform's limits. A template none of whose
    /// topics the platform takes is noted; an event whose topic is too long becomes a dead letter.
    pub(super) fn topic(
        &self,
        validator: &mut Validator<'_>,
        span: &Range<usize>,
        template: Template,
        client_id: &str,
    ) -> Template {
        let template = template.within(self.topic);
        if let Err(why) = template.fits() {
            validator.wrong(span, format!("{why}, whatever the event: shorten it for {}", self.title));
        }
        let (before, behind) = self.topic_prefix;
        let own = if behind.is_empty() { "" } else { client_id };
        let prefix = format!("{before}{own}{behind}");
        if !template.begins_with(&prefix) {
            validator.wrong(span, format!("topics of {} begin with {prefix}; set \"topic\" so", self.title));
        }
        template
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The size of a power of two or of ten that people would write.
    fn size(bytes: u64) -> u64 {
        match bytes {
            _ if bytes.is_multiple_of(1_000_000) => bytes / 1_000_000,
            _ if bytes.is_multiple_of(1000) => bytes / 1000,
            _ if bytes.is_multiple_of(1 << 20) => bytes >> 20,
            _ => (bytes as f64 / 1024.0).round() as u64,
        }
    }

    /// The numbers that a page should give for this platform, in all.
    fn numbers(row: &Platform) -> BTreeSet<u64> {
        let counts = [row.events_per_s, row.window];
        let sizes = [row.bytes_per_s, row.inflight_bytes, row.packet_bytes];
        let of = |limit: Limit| [limit.set, limit.most];
        let counts = counts.into_iter().flatten().flat_map(of);
        let mut all: BTreeSet<u64> =
            counts.chain(sizes.into_iter().flatten().flat_map(of).map(size)).collect();
        let (low, high) = (*row.keep_alive_s.start(), *row.keep_alive_s.end());
        all.extend((high < 65_535).then_some(high));
        all.extend((low > 0).then_some(low));
        all.extend((row.client_id_bytes_max < usize::MAX).then_some(row.client_id_bytes_max as u64));
        let TopicLimits { bytes_max, slashes_max } = row.topic;
        all.extend((bytes_max < TopicLimits::MQTT.bytes_max).then_some(bytes_max as u64));
        all.extend((slashes_max < usize::MAX).then_some(slashes_max as u64));
        all
    }

    #[test]
    fn the_page_of_the_uplinks_gives_the_figures_of_each_platform_and_no_others() {
        let page = include_str!("../../../docs/uplinks/README.md");
        for row in &PLATFORMS {
            let begins = format!("| `{}` |", row.word);
            let line = page.lines().find_map(|line| line.strip_prefix(&begins)).expect(row.word);
            let (_, behind) = row.topic_prefix;
            for (said, is_so) in [
                ("retain = \"never\"", !row.retains),
                ("MQTT 3.1.1", row.version == Some(Version::V311)),
                ("a second between two connects", !row.connects_apart.is_zero()),
                ("do not begin with", row.topic_prefix != ("", "")),
                (behind, true),
            ] {
                assert_eq!(line.contains(said), is_so, "{}: {said}", row.word);
            }
            let line = line.replace("MQTT 3.1.1", "").replace("`v1/`", "");
            let texts = line.split(|c: char| !c.is_ascii_digit()).filter(|text| !text.is_empty());
            let said: BTreeSet<u64> = texts.map(|text| text.parse().unwrap()).collect();
            assert_eq!(said, numbers(row), "{}", row.word);
        }
        let rows = page.lines().skip_while(|line| !line.starts_with("| `platform` |")).skip(2);
        assert_eq!(rows.take_while(|line| line.starts_with('|')).count(), PLATFORMS.len());
    }
}
