//! One attempt at a connection, and why it failed or ended, in words. Delivery and
//! [`diagnose`](crate::uplink::diagnose) have both from here.

use std::time::Duration;

use tokio::time::timeout;

use super::broken::Broken;
use crate::uplink::{
    engine::{
        Capabilities, Engine, Lost, Silence,
        dial::{Dialer, OpenError, Step},
    },
    platform::Platform,
};

/// Makes the way and shakes hands, within `limit`.
pub async fn connect<E: Engine>(
    engine: &E,
    dialer: &mut Dialer,
    limit: Duration,
) -> Result<(E::Connection, Capabilities), Broken> {
    match timeout(limit, engine.connect(dialer)).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(Broken::ConnectTimeout(limit, dialer.step().clone())),
    }
}

/// Why there is no connection, or no longer: what is known of it, and what it may mean where the
/// upstream said nothing, by its protocol and on its platform. `closed` is what is known of a
/// connection that was made.
pub fn explain<E: Engine>(engine: &E, platform: &Platform, why: &Broken, closed: Option<Silence>) -> String {
    let in_handshake = |step: &Step| matches!(step, Step::Handshake(_));
    let (words, silence) = match why {
        Broken::Lost(Lost::Closed) if closed.is_none() => {
            (format!("{why} in the handshake, without a word"), Some(Silence::ClosedInHandshake))
        }
        Broken::Lost(Lost::Closed) => (why.to_string(), closed),
        Broken::Lost(Lost::Open(OpenError::Timeout { step, .. })) | Broken::ConnectTimeout(_, step)
            if in_handshake(step) =>
        {
            (why.to_string(), Some(Silence::NoHandshake))
        }
        Broken::Lost(Lost::Protocol(_)) if closed.is_none() => {
            return format!("{why}{}", platform.refuses_for());
        }
        _ => (why.to_string(), None),
    };
    match silence.and_then(|silence| engine.hint(silence)) {
        Some(hint) => format!("{words}; {hint}{}", platform.refuses_for()),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::engine::mqtt;

    #[test]
    fn what_is_mostly_the_matter_on_a_platform_is_said_where_it_refuses_or_says_nothing() {
        let engine = mqtt::Settings::new("broker.example", "barn-7".to_owned());
        let words =
            |platform: &str, why: Lost| explain(&engine, Platform::named(platform), &why.into(), None);
        let refused = || Lost::Protocol("the upstream refuses the connection".into());
        let policy = "AWS IoT Core does so for a policy that does not allow this client id";
        assert!(words("aws-iot", Lost::Closed).contains(policy));
        assert!(words("aws-iot", refused()).contains(policy));
        assert!(words("thingsboard", refused()).contains("the device's access token"));
        assert_eq!(words("", refused()), "the upstream refuses the connection");
    }
}
