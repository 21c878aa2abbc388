//! The upstream topic that commands come on: a template whose `{device}` is one whole level. Pure.
//!
//! `sites/{gateway}/{device}/c` subscribes to `sites/barn-7/+/c`, and finds the device in what
//! comes.

use super::super::template::{Template, TemplateError};

const DEVICE: &str = "{device}";
const GATEWAY: &str = "{gateway}";
const TOPIC: &str = "{topic}";

/// A checked topic template for commands, of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTopic {
    before: String,
    after: String,
}

/// The template cannot be used; nothing was started with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandTopicError {
    /// It is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The device cannot be found in a topic.
    #[error(
        "commands come on one topic for each device: write {{device}} once, as a whole level, and no {{topic}}, like \"sites/{{gateway}}/{{device}}/c\""
    )]
    Device,
    /// The gateway's id cannot stand in a filter.
    #[error("the gateway's id holds # or +, which cannot stand in a topic: the template names {{gateway}}")]
    Gateway,
}

impl CommandTopic {
    /// Checks a template for the gateway of this id.
    ///
    /// # Errors
    /// [`CommandTopicError`] says what is wrong.
    pub fn parse(text: &str, gateway: &str) -> Result<Self, CommandTopicError> {
        Template::parse(text)?;
        if text.contains(TOPIC) {
            return Err(CommandTopicError::Device);
        }
        if text.contains(GATEWAY) && gateway.contains(['#', '+', '\0']) {
            return Err(CommandTopicError::Gateway);
        }
        let (before, after) = text.split_once(DEVICE).ok_or(CommandTopicError::Device)?;
        let is_level = (before.is_empty() || before.ends_with('/'))
            && (after.is_empty() || after.starts_with('/'))
            && !after.contains(DEVICE);
        if !is_level {
            return Err(CommandTopicError::Device);
        }
        Ok(Self { before: before.replace(GATEWAY, gateway), after: after.replace(GATEWAY, gateway) })
    }

    /// What to subscribe to.
    #[must_use]
    pub fn filter(&self) -> String {
        format!("{}+{}", self.before, self.after)
    }

    /// The device that a topic names; `None` for a topic that the filter does not take.
    #[must_use]
    pub fn device<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let device = topic.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        (!device.contains('/')).then_some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gives_a_filter_and_finds_the_device() {
        for (text, filter, topic, device) in [
            ("sites/{gateway}/{device}/c", "sites/barn-7/+/c", "sites/barn-7/stall-3/c", Some("stall-3")),
            ("{device}", "+", "stall-3", Some("stall-3")),
            ("{device}/c", "+/c", "a/b/c", None),
            ("c/{device}", "c/+", "c/", Some("")),
            ("c/{device}/{gateway}", "c/+/barn-7", "c/x/barn-8", None),
            ("a/{device}/a", "a/+/a", "a/a", None),
        ] {
            let commands = CommandTopic::parse(text, "barn-7").unwrap();
            assert_eq!((commands.filter().as_str(), commands.device(topic)), (filter, device), "{text}");
        }
    }

    #[test]
    fn what_cannot_name_a_device_is_refused() {
        for text in ["c", "c/{topic}/{device}", "c/x{device}", "{device}x/c", "{device}/{device}"] {
            assert_eq!(CommandTopic::parse(text, "g"), Err(CommandTopicError::Device), "{text}");
        }
        assert_eq!(CommandTopic::parse("{gateway}/{device}", "a+b"), Err(CommandTopicError::Gateway));
        assert_eq!(CommandTopic::parse("", "g"), Err(TemplateError::Empty.into()));
    }
}
