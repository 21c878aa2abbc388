//! The topic under which an event goes to the upstream: a template with names in braces.
//!
//! `{topic}` is the topic as it came, `{device}` the event's device (see
//! [`Record::device`](crate::store::Record::device)), `{gateway}` this gateway's id.
//! `sites/{gateway}/{topic}` becomes `sites/barn-7/tg/stall-3/e`. `{type}`, where events are
//! described, is the type of the event: `climate`.
//!
//! Limits: a template to [`TEMPLATE_BYTES_MAX`], a topic to its [`TopicLimits`]. A brace has no
//! escape, for no sane topic needs one. What a template makes of an event may be no topic at all (a
//! client id may hold a `#`): that is said per event, not guessed at.

/// Longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 1024;
/// Longest topic that MQTT can carry, in bytes. \[MQTT-1.5.3\]
const TOPIC_BYTES_MAX: usize = 65_535;

/// What topics an upstream takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicLimits {
    /// The longest, in bytes.
    pub bytes_max: usize,
    /// Slashes in it, at most.
    pub slashes_max: usize,
}

impl TopicLimits {
    /// All that MQTT can carry.
    pub const MQTT: Self = Self { bytes_max: TOPIC_BYTES_MAX, slashes_max: usize::MAX };

    fn check(self, bytes: usize, slashes: impl FnOnce() -> usize) -> Result<(), BadTopic> {
        let Self { bytes_max, slashes_max } = self;
        if bytes > bytes_max {
            return Err(BadTopic::TooLong { bytes, bytes_max });
        }
        match slashes_max {
            usize::MAX => Ok(()),
            _ => match slashes() {
                slashes if slashes > slashes_max => Err(BadTopic::TooDeep { slashes, slashes_max }),
                _ => Ok(()),
            },
        }
    }
}

/// A checked topic template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    limits: TopicLimits,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Device,
    Gateway,
    Type,
}

/// What stands for the names of one event.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The topic as it came.
    pub topic: &'a str,
    /// The device.
    pub device: &'a str,
    /// The type of the event; empty where it is not known.
    pub kind: &'a str,
}

/// A template cannot be used; nothing was started with it. Positions are in bytes from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It would make every topic empty, which MQTT does not have.
    #[error("the topic template is empty: write {{topic}} to keep topics as they are")]
    Empty,
    /// It is longer than [`TEMPLATE_BYTES_MAX`].
    #[error("the topic template is {bytes} bytes long, more than {TEMPLATE_BYTES_MAX}: shorten it")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A name in braces that means nothing.
    #[error(
        "{{{name}}} at byte {at} of the topic template is unknown: use {{topic}}, {{device}}, {{gateway}} or {{type}}"
    )]
    UnknownPlaceholder {
        /// Where its brace stands.
        at: usize,
        /// The name between the braces.
        name: String,
    },
    /// A brace without its partner.
    #[error("the brace at byte {at} of the topic template has no partner")]
    LoneBrace {
        /// Where it stands.
        at: usize,
    },
    /// A character that no topic may hold. \[MQTT-3.3.2-2\]
    #[error("{found:?} at byte {at} of the topic template cannot stand in a topic: remove it")]
    Forbidden {
        /// Where it stands.
        at: usize,
        /// `#`, `+` or NUL.
        found: char,
    },
}

/// What a template makes of one event is no topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTopic {
    /// It is empty.
    #[error("the topic for the upstream is empty")]
    Empty,
    /// It is longer than the upstream takes.
    #[error("the topic for the upstream is {bytes} bytes long, more than {bytes_max}")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// It has more levels than the upstream takes.
    #[error("the topic for the upstream has {slashes} slashes, more than {slashes_max}")]
    TooDeep {
        /// How many it has.
        slashes: usize,
        /// How many it may have.
        slashes_max: usize,
    },
    /// It holds a wildcard or NUL.
    #[error("the topic for the upstream holds a wildcard or NUL")]
    Forbidden,
}

impl Default for Template {
    /// `{topic}`: topics stay as they are.
    fn default() -> Self {
        Self { parts: vec![Part::Topic], limits: TopicLimits::MQTT }
    }
}

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// [`TemplateError`] says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong { bytes: text.len() });
        }
        if let Some((at, found)) = text.char_indices().find(|(_, c)| matches!(c, '#' | '+' | '\0')) {
            return Err(TemplateError::Forbidden { at, found });
        }
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let (part, bytes) = next_part(rest, at)?;
            parts.push(part);
            at += bytes;
        }
        Ok(Self { parts, limits: TopicLimits::MQTT })
    }

    /// Whether `{gateway}` stands in it.
    #[must_use]
    pub fn names_gateway(&self) -> bool {
        self.parts.contains(&Part::Gateway)
    }

    /// Whether `{type}` stands in it.
    #[must_use]
    pub fn names_type(&self) -> bool {
        self.parts.contains(&Part::Type)
    }

    /// Whether `{device}` stands in it.
    #[must_use]
    pub fn names_device(&self) -> bool {
        self.parts.contains(&Part::Device)
    }

    /// Puts the gateway's id in its places, so that less is left to do per event.
    #[must_use]
    pub fn bound_to(mut self, gateway: &str) -> Self {
        for part in &mut self.parts {
            if *part == Part::Gateway {
                *part = Part::Text(gateway.to_owned());
            }
        }
        self
    }

    /// The topic for one event: the topic as it came, or else written over `scratch`.
    ///
    /// # Errors
    /// [`BadTopic`]: what came out cannot be sent.
    pub fn render<'a>(&self, names: &Names<'a>, scratch: &'a mut String) -> Result<&'a str, BadTopic> {
        if let [Part::Topic] = self.parts[..] {
            // What was published on it was a topic: there is no wildcard to look for.
            self.limits.check(names.topic.len(), || slashes(names.topic))?;
            return Ok(names.topic);
        }
        scratch.clear();
        for part in &self.parts {
            scratch.push_str(match part {
                Part::Text(text) => text,
                Part::Topic => names.topic,
                Part::Device => names.device,
                Part::Type => names.kind,
                Part::Gateway => "",
            });
        }
        self.check(scratch)
    }

    /// The same, for an upstream that takes no other topics.
    #[must_use]
    pub fn within(self, limits: TopicLimits) -> Self {
        Self { limits, ..self }
    }

    /// Whether any of its topics can be within the limits.
    ///
    /// # Errors
    /// [`BadTopic`]: what even the shortest is.
    pub fn fits(&self) -> Result<(), BadTopic> {
        let bytes = |part: &Part| if let Part::Text(text) = part { text.len() } else { 1 };
        let slashes = |part: &Part| if let Part::Text(text) = part { slashes(text) } else { 0 };
        self.limits.check(self.parts.iter().map(bytes).sum(), || self.parts.iter().map(slashes).sum())
    }

    /// Whether all of its topics begin with `prefix`.
    #[must_use]
    pub fn begins_with(&self, prefix: &str) -> bool {
        let text: String = self
            .parts
            .iter()
            .map_while(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
            .collect();
        text.starts_with(prefix)
    }

    fn check<'a>(&self, topic: &'a str) -> Result<&'a str, BadTopic> {
        if topic.is_empty() {
            return Err(BadTopic::Empty);
        }
        self.limits.check(topic.len(), || slashes(topic))?;
        if topic.bytes().any(|byte| matches!(byte, b'#' | b'+' | 0)) {
            return Err(BadTopic::Forbidden);
        }
        Ok(topic)
    }
}

fn slashes(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'/').count()
}

/// The part that `rest`, which is not empty, begins with, and its length. `at` is where `rest`
/// begins.
fn next_part(rest: &str, at: usize) -> Result<(Part, usize), TemplateError> {
    let Some(inner) = rest.strip_prefix('{') else {
        let bytes = rest.find(['{', '}']).unwrap_or(rest.len());
        if bytes == 0 {
            return Err(TemplateError::LoneBrace { at });
        }
        return Ok((Part::Text(rest[..bytes].to_owned()), bytes));
    };
    let Some((name, _)) = inner.split_once('}').filter(|(name, _)| !name.contains('{')) else {
        return Err(TemplateError::LoneBrace { at });
    };
    let part = match name {
        "topic" => Part::Topic,
        "device" => Part::Device,
        "gateway" => Part::Gateway,
        "type" => Part::Type,
        _ => return Err(TemplateError::UnknownPlaceholder { at, name: name.to_owned() }),
    };
    Ok((part, name.len() + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, topic: &str, device: &str) -> Result<String, BadTopic> {
        let template = Template::parse(template).unwrap().bound_to("barn-7");
        let mut scratch = "left over".to_owned();
        template.render(&Names { topic, device, kind: "climate" }, &mut scratch).map(str::to_owned)
    }

    #[test]
    fn names_in_braces_are_filled_in() {
        for (template, topic) in [
            ("{topic}", "tg/s3/e"),
            ("sites/{gateway}/{topic}", "sites/barn-7/tg/s3/e"),
            ("{device}/{gateway}", "s3/barn-7"),
            ("{type}/{device}", "climate/s3"),
            ("{topic}{topic}", "tg/s3/etg/s3/e"),
            ("fixed/ä", "fixed/ä"),
        ] {
            assert_eq!(render(template, "tg/s3/e", "s3").unwrap(), topic);
        }
    }

    #[test]
    fn a_bad_template_is_refused_with_its_position() {
        let lone = |at| TemplateError::LoneBrace { at };
        let unknown = |at, name: &str| TemplateError::UnknownPlaceholder { at, name: name.to_owned() };
        let forbidden = |at, found| TemplateError::Forbidden { at, found };
        for (template, error) in [
            ("", TemplateError::Empty),
            ("a/{site}/b", unknown(2, "site")),
            ("{topic}{}", unknown(7, "")),
            ("{Topic}", unknown(0, "Topic")),
            ("a/{topic", lone(2)),
            ("{a{topic}", lone(0)),
            ("topic}", lone(5)),
            ("a/#", forbidden(2, '#')),
            ("ä/+/{topic}", forbidden(3, '+')),
            ("a\0", forbidden(1, '\0')),
        ] {
            assert_eq!(Template::parse(template), Err(error), "{template:?}");
        }
        let long = "x".repeat(TEMPLATE_BYTES_MAX + 1);
        assert_eq!(Template::parse(&long), Err(TemplateError::TooLong { bytes: long.len() }));
    }

    #[test]
    fn what_is_no_topic_is_said_per_event() {
        assert_eq!(render("{topic}/{device}", "a", "cli#ent"), Err(BadTopic::Forbidden));
        assert_eq!(render("{device}", "a", "c+"), Err(BadTopic::Forbidden));
        assert_eq!(render("{device}", "a", ""), Err(BadTopic::Empty));
        let bytes_max = TopicLimits::MQTT.bytes_max;
        let device = "x".repeat(bytes_max);
        assert_eq!(render("{device}", "a", &device).unwrap().len(), bytes_max);
        let bytes = bytes_max + 1;
        assert_eq!(render("{device}/", "a", &device), Err(BadTopic::TooLong { bytes, bytes_max }));
    }

    #[test]
    fn an_upstream_may_take_shorter_topics_with_fewer_levels() {
        let limits = TopicLimits { bytes_max: 10, slashes_max: 2 };
        let render = |topic| {
            let template = Template::parse("a/{topic}").unwrap().within(limits);
            assert_eq!(template.fits(), Ok(()));
            template.render(&Names { topic, device: "d", kind: "" }, &mut String::new()).map(str::len)
        };
        assert_eq!(render("34567890"), Ok(10));
        assert_eq!(render("345678901"), Err(BadTopic::TooLong { bytes: 11, bytes_max: 10 }));
        assert_eq!(render("b/c"), Ok(5));
        assert_eq!(render("b/c/d"), Err(BadTopic::TooDeep { slashes: 3, slashes_max: 2 }));
        for (template, fits) in
            [("12345678/{topic}", true), ("123456789/{topic}", false), ("///{device}", false)]
        {
            assert_eq!(Template::parse(template).unwrap().within(limits).fits().is_ok(), fits, "{template}");
        }
        let bound = Template::parse("devices/{gateway}/{device}").unwrap().bound_to("barn-7");
        assert!(bound.begins_with("devices/barn-7/") && bound.begins_with(""));
        assert!(!bound.begins_with("devices/barn-7/d") && !Template::default().begins_with("devices"));
    }
}
