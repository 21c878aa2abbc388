//! One connection of a client, as the platform judges it. Pure: packets and times go in, verdicts
//! come out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    breach::Breach,
    bucket::Bucket,
    limits::{Excess, Identity, Limits, QOS_MAX},
};
use crate::codec::{Received, Version, WholeConnect};

/// CONNACK in MQTT 3.1.1 and 5 for a client that is not let in: section 3.2.2.
const NOT_AUTHORIZED: (u8, u8) = (5, 0x87);
const BAD_PASSWORD: (u8, u8) = (4, 0x86);
const UNAVAILABLE: (u8, u8) = (3, 0x97);
const BAD_CLIENT_ID: (u8, u8) = (2, 0x85);

/// What becomes of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectVerdict {
    /// CONNACK. The session ends at this second of the Unix era, if it does.
    Accepted {
        /// When, if it does.
        ends_unix_s: Option<u64>,
    },
    /// CONNACK that says no, in MQTT 3.1.1 and in 5, and the connection is closed.
    Refused((u8, u8), Breach),
    /// The connection is closed without a word.
    Closed(Breach),
}

/// What becomes of a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishVerdict {
    /// It is taken, and acknowledged.
    Take,
    /// The same, and nothing more is read from the client for so long.
    TakeAndPause(Duration),
    /// It is thrown away without a word.
    Discard(Breach),
    /// The connection is closed without a word.
    Close(Breach),
    /// DISCONNECT with this reason in MQTT 5, and the connection is closed.
    Disconnect(u8, Breach),
}

/// Who comes in, by what CONNECT says of it: all but what other connections have to do with it.
#[must_use]
pub fn judge_connect(limits: &Limits, connect: &WholeConnect, now_unix_s: u64) -> ConnectVerdict {
    if !limits.versions.contains(&connect.version) {
        return ConnectVerdict::Closed(Breach::Version);
    }
    if connect.client_id.is_empty() || connect.client_id.len() > limits.client_id_bytes_max {
        return ConnectVerdict::Refused(BAD_CLIENT_ID, Breach::ClientId);
    }
    if connect.user_properties > 0 && !limits.connect_user_properties {
        return ConnectVerdict::Closed(Breach::ConnectUserProperties);
    }
    let user = connect.user.as_deref().unwrap_or_default();
    let given = connect.password.as_deref().unwrap_or_default();
    match &limits.identity {
        Identity::Anyone => {}
        Identity::Named(name) if name == user => {}
        Identity::Named(_) => return ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::Identity),
        Identity::Password { user: name, password } if name == user && password.as_bytes() == given => {}
        Identity::Password { .. } => return ConnectVerdict::Refused(BAD_PASSWORD, Breach::Identity),
        Identity::SharedAccess(access) => {
            if connect.client_id != access.device {
                return ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::ClientId);
            }
            if user != access.user() {
                return ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::Identity);
            }
            let token = std::str::from_utf8(given).unwrap_or_default();
            return match access.check(token, now_unix_s) {
                Ok(end) => ConnectVerdict::Accepted { ends_unix_s: Some(end) },
                Err(super::sas::BadToken::Over) => ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::TokenOver),
                Err(_) => ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::Identity),
            };
        }
    }
    ConnectVerdict::Accepted { ends_unix_s: None }
}

/// What is refused to a client that would need one more session than there is.
#[must_use]
pub fn no_session() -> ConnectVerdict {
    ConnectVerdict::Refused(UNAVAILABLE, Breach::Sessions)
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    version: Version,
    unacked: u16,
    unacked_bytes: usize,
    aliases: HashMap<u16, Bytes>,
}

impl Session {
    /// Of a connection in this version.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self { version, unacked: 0, unacked_bytes: 0, aliases: HashMap::new() }
    }

    /// Puts the topic in that an alias stands for.
    ///
    /// # Errors
    /// The alias was not granted, or stands for nothing.
    pub fn resolve(&mut self, limits: &Limits, publish: &mut Received) -> Result<(), Breach> {
        let Some(alias) = publish.topic_alias() else {
            return if publish.topic.is_empty() { Err(Breach::TopicAlias) } else { Ok(()) };
        };
        if alias == 0 || alias > limits.topic_alias_max {
            return Err(Breach::TopicAlias);
        }
        if publish.topic.is_empty() {
            publish.topic = self.aliases.get(&alias).ok_or(Breach::TopicAlias)?.clone();
        } else {
            self.aliases.insert(alias, publish.topic.clone());
        }
        Ok(())
    }

    /// Judges a PUBLISH whose topic is resolved. One that is taken is unacknowledged until
    /// [`Session::acknowledged`].
    pub fn judge(
        &mut self,
        limits: &Limits,
        bucket: &mut Bucket,
        publish: &Received,
        now: Instant,
    ) -> PublishVerdict {
        if let Some(breach) = unfit(limits, publish) {
            return PublishVerdict::Close(breach);
        }
        let bytes = publish.topic.len() + publish.payload.len();
        // Receive Maximum exceeded; MQTT 3.1.1 knows no such limit, and its platforms take no more.
        if self.unacked >= limits.unacked_max {
            return match self.version {
                Version::V5 => PublishVerdict::Disconnect(0x93, Breach::Unacked),
                Version::V311 => PublishVerdict::Discard(Breach::Unacked),
            };
        }
        // One publish alone is taken, whatever its size.
        if self.unacked > 0 && self.unacked_bytes + bytes > limits.unacked_bytes_max {
            return PublishVerdict::Disconnect(0x97, Breach::UnackedBytes);
        }
        let verdict = within_rate(limits, bucket, bytes, now);
        if matches!(verdict, PublishVerdict::Take | PublishVerdict::TakeAndPause(_)) && publish.qos > 0 {
            self.unacked += 1;
            self.unacked_bytes += bytes;
        }
        verdict
    }

    /// The acknowledgement of a PUBLISH of this size has gone out.
    pub fn acknowledged(&mut self, bytes: usize) {
        self.unacked -= 1;
        self.unacked_bytes -= bytes;
    }
}

/// Why a PUBLISH is unfit by itself.
fn unfit(limits: &Limits, publish: &Received) -> Option<Breach> {
    let slashes = publish.topic.iter().filter(|byte| **byte == b'/').count();
    match () {
        () if publish.qos > QOS_MAX => Some(Breach::Qos),
        () if publish.retain && !limits.retain => Some(Breach::Retain),
        () if publish.topic.len() > limits.topic_bytes_max => Some(Breach::TopicLength),
        () if slashes > limits.topic_slashes_max => Some(Breach::TopicDepth),
        () if !publish.topic.starts_with(limits.topic_prefix.as_bytes()) => Some(Breach::TopicDenied),
        () if publish.payload.len() > limits.payload_bytes_max => Some(Breach::Payload),
        () => None,
    }
}

fn within_rate(limits: &Limits, bucket: &mut Bucket, bytes: usize, now: Instant) -> PublishVerdict {
    let Some(rate) = limits.rate else { return PublishVerdict::Take };
    match rate.excess {
        Excess::Pause => match bucket.take_in_advance(rate, bytes, now) {
            Duration::ZERO => PublishVerdict::Take,
            wait => PublishVerdict::TakeAndPause(wait),
        },
        _ if bucket.take(rate, bytes, now) => PublishVerdict::Take,
        Excess::Discard => PublishVerdict::Discard(Breach::Rate),
        Excess::Close => PublishVerdict::Disconnect(0x97, Breach::Rate),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{platforms, sas::SharedAccess},
        *,
    };
    use crate::clock;

    fn connect(client_id: &str, user: &str, password: &str) -> WholeConnect {
        WholeConnect {
            version: Version::V311,
            client_id: client_id.into(),
            clean: true,
            keep_alive_s: 60,
            session_expiry_s: 0,
            user_properties: 0,
            has_will: false,
            user: Some(user.into()),
            password: Some(Bytes::copy_from_slice(password.as_bytes())),
        }
    }

    fn publish(topic: &str, payload_bytes: usize) -> Received {
        Received {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            payload: vec![0; payload_bytes].into(),
            qos: 1,
            packet_id: 1,
            dup: false,
            retain: false,
            properties: Bytes::new(),
        }
    }

    #[test]
    fn each_platform_lets_in_whom_it_knows() {
        let access = SharedAccess::new("hub.example", "gate");
        let (hub, grid) = (platforms::azure_iot_hub(access.clone()), platforms::azure_event_grid("gate"));
        let (aws, emqx) = (platforms::aws_iot(), platforms::emqx_serverless("u", "p"));
        let token = access.token(100);
        let (user, long) = (access.user(), "c".repeat(129));
        let accepted = ConnectVerdict::Accepted { ends_unix_s: None };
        let v5 = |connect| WholeConnect { version: Version::V5, ..connect };
        let told = WholeConnect { user_properties: 1, ..v5(connect("c", "gate", "")) };
        let table = [
            (&aws, connect("c", "", ""), accepted),
            (&aws, connect(&long, "", ""), ConnectVerdict::Refused(BAD_CLIENT_ID, Breach::ClientId)),
            (&hub, connect("gate", &user, &token), ConnectVerdict::Accepted { ends_unix_s: Some(100) }),
            (&hub, connect("c", &user, &token), ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::ClientId)),
            (&hub, connect("gate", &user, "x"), ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::Identity)),
            (&hub, v5(connect("gate", &user, &token)), ConnectVerdict::Closed(Breach::Version)),
            (&grid, v5(connect("c", "gate", "")), accepted),
            (&grid, connect("c", "other", ""), ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::Identity)),
            (&grid, told, ConnectVerdict::Closed(Breach::ConnectUserProperties)),
            (&emqx, connect("c", "u", "p"), accepted),
            (&emqx, connect("c", "u", "q"), ConnectVerdict::Refused(BAD_PASSWORD, Breach::Identity)),
        ];
        for (limits, connect, expected) in table {
            assert_eq!(judge_connect(limits, &connect, 50), expected, "{}: {connect:?}", limits.name);
        }
        let late = judge_connect(&hub, &connect("gate", &user, &token), 100);
        assert_eq!(late, ConnectVerdict::Refused(NOT_AUTHORIZED, Breach::TokenOver));
    }

    #[test]
    fn what_a_platform_does_not_allow_closes() {
        let (aws, grid) = (platforms::aws_iot(), platforms::azure_event_grid("gate"));
        let hub = platforms::azure_iot_hub(SharedAccess::new("hub.example", "gate"));
        let (long, deep) = ("t".repeat(257), "a/b/c/d/e/f/g/h/i");
        let twice = Received { qos: 2, ..publish("t", 1) };
        let kept = Received { retain: true, ..publish("t", 1) };
        let table = [
            (&aws, publish(&long, 1), Breach::TopicLength),
            (&aws, publish(deep, 1), Breach::TopicDepth),
            (&aws, publish("t", (128 << 10) + 1), Breach::Payload),
            (&aws, twice, Breach::Qos),
            (&grid, kept, Breach::Retain),
            (&hub, publish("t", 1), Breach::TopicDenied),
        ];
        for (limits, publish, breach) in table {
            let said =
                Session::new(Version::V5).judge(limits, &mut Bucket::default(), &publish, clock::now());
            assert_eq!(said, PublishVerdict::Close(breach), "{}", limits.name);
        }
    }

    #[test]
    fn who_is_too_fast_is_discarded_closed_or_paused() {
        let now = clock::now();
        let after = |limits: &Limits, count: usize| {
            let (mut session, mut bucket) = (Session::new(Version::V5), Bucket::default());
            for _ in 0..count {
                let said = session.judge(limits, &mut bucket, &publish("v1/t", 10), now);
                assert_eq!(said, PublishVerdict::Take);
                session.acknowledged(14);
            }
            session.judge(limits, &mut bucket, &publish("v1/t", 10), now)
        };
        assert_eq!(after(&platforms::aws_iot(), 100), PublishVerdict::Discard(Breach::Rate));
        assert_eq!(after(&platforms::thingsboard("t"), 100), PublishVerdict::Disconnect(0x97, Breach::Rate));
        let pause = PublishVerdict::TakeAndPause(Duration::from_millis(100));
        assert_eq!(after(&platforms::emqx_serverless("u", "p"), 10), pause);
    }

    #[test]
    fn more_in_flight_than_granted_is_not_taken() {
        let now = clock::now();
        let (aws, grid) = (platforms::aws_iot(), platforms::azure_event_grid("gate"));
        for (version, expected) in [
            (Version::V5, PublishVerdict::Disconnect(0x93, Breach::Unacked)),
            (Version::V311, PublishVerdict::Discard(Breach::Unacked)),
        ] {
            let (mut session, mut bucket) = (Session::new(version), Bucket::default());
            for _ in 0..100 {
                assert_eq!(session.judge(&aws, &mut bucket, &publish("t", 1), now), PublishVerdict::Take);
            }
            assert_eq!(session.judge(&aws, &mut bucket, &publish("t", 1), now), expected);
        }
        let (mut session, mut bucket) = (Session::new(Version::V5), Bucket::default());
        assert_eq!(session.judge(&grid, &mut bucket, &publish("t", 400 << 10), now), PublishVerdict::Take);
        let more = session.judge(&grid, &mut bucket, &publish("t", 1), now);
        assert_eq!(more, PublishVerdict::Disconnect(0x97, Breach::UnackedBytes));
    }

    #[test]
    fn an_alias_stands_for_its_topic_on_its_connection_and_no_more_are_taken_than_granted() {
        let aws = platforms::aws_iot();
        let mut session = Session::new(Version::V5);
        let aliased = |topic: &str, alias: u8| {
            let properties = Bytes::copy_from_slice(&[0x23, 0, alias]);
            Received { properties, ..publish(topic, 1) }
        };
        assert_eq!(session.resolve(&aws, &mut aliased("", 1)), Err(Breach::TopicAlias));
        assert_eq!(session.resolve(&aws, &mut aliased("a/b", 1)), Ok(()));
        let mut named = aliased("", 1);
        assert_eq!(session.resolve(&aws, &mut named), Ok(()));
        assert_eq!(&named.topic[..], b"a/b");
        assert_eq!(session.resolve(&aws, &mut aliased("a", 9)), Err(Breach::TopicAlias));
        assert_eq!(session.resolve(&aws, &mut publish("", 1)), Err(Breach::TopicAlias));
    }
}
