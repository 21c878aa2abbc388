//! What brokers do wrong, and what the uplink makes of it.

use std::time::Duration;

use super::{
    super::engine::{mqtt::Version, password::PasswordSource},
    broker::{ACCEPTED_V5, ACCEPTED_V311, Arrival, Broker, Came, Reply},
    *,
};
use crate::mqtt::Password;

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn version5(port: u16) -> Settings {
    let mut settings = settings(port);
    settings.broker().version = Version::V5;
    settings
}

/// Acknowledges all but publishes with `payload`, which `reply` answers.
fn except(
    payload: &'static str,
    mut reply: impl FnMut(usize) -> Reply + Send,
) -> impl FnMut(usize, &Came) -> Reply + Send {
    move |connection, came| match came {
        Came::Publish(Arrival { payload: found, .. }) if found == payload.as_bytes() => reply(connection),
        _ => Reply::Ack,
    }
}

#[tokio::test]
async fn everything_arrives_once_and_in_order_in_both_versions() {
    for (version, connack, byte) in [(Version::V311, ACCEPTED_V311, 4), (Version::V5, ACCEPTED_V5, 5)] {
        let broker = Broker::start(connack, |_, _| Reply::Ack).await;
        let mut settings = settings(broker.port);
        settings.broker().version = version;
        settings.window = 10.try_into().unwrap();
        let uplink = Running::start(settings, Log::numbered(500));
        uplink.released(500).await;
        assert_eq!(broker.came()[0], (0, Came::Connect { version: byte }));
        let arrivals = broker.arrivals();
        assert_eq!(arrivals.len(), 500);
        assert_eq!(broker.first_arrivals(), numbers(0..500));
        assert!(
            arrivals.iter().all(|(_, arrival)| arrival.head == 0x32 && arrival.topic.starts_with("site/"))
        );
        let view = uplink.health.view();
        assert_eq!((view.connected, view.connects, view.delivered_events), (true, 1, 500));

        uplink.log.push(Owned::new("site/late", b"500"));
        uplink.released(501).await;
        uplink.stop().await;
        let goodbye = || broker.came().iter().any(|(_, came)| *came == Came::Disconnect);
        eventually(goodbye, || "no goodbye".to_owned()).await;
    }
}

#[tokio::test]
async fn acknowledgements_out_of_order_release_only_the_prefix() {
    let mut held = Vec::new();
    let broker = Broker::start(ACCEPTED_V311, move |_, came| {
        let Came::Publish(arrival) = came else { return Reply::Ack };
        held.push(arrival.id);
        if held.len() < 10 {
            return Reply::Silence;
        }
        // Backwards, so that the head of each ten is acknowledged last.
        let acks = held.drain(..).rev().flat_map(|id| [0x40, 2, (id >> 8) as u8, id as u8]);
        Reply::Bytes(acks.collect())
    })
    .await;
    let mut settings = settings(broker.port);
    settings.window = 25.try_into().unwrap();
    let uplink = Running::start(settings, Log::numbered(200));
    uplink.released(200).await;
    assert_eq!(broker.arrivals().len(), 200, "nothing was sent twice");
    uplink.stop().await;
}

#[tokio::test]
async fn a_gap_in_the_acknowledgements_holds_the_cursor() {
    let broker = Broker::start(ACCEPTED_V311, except("3", |_| Reply::Silence)).await;
    let uplink = Running::start(settings(broker.port), Log::numbered(20));
    eventually(|| broker.arrivals().len() == 20, || format!("{:?}", broker.came())).await;
    uplink.released(3).await;
    uplink.stop().await;
    assert_eq!(broker.arrivals().len(), 20);
}

#[tokio::test]
async fn a_broker_that_closes_again_and_again_gets_everything_in_order() {
    let mut count = 0;
    let broker = Broker::start(ACCEPTED_V311, move |_, came| {
        count += usize::from(matches!(came, Came::Publish(_)));
        // Acknowledges nothing of the last few before it closes: they have to come again.
        match count % 50 {
            0 => Reply::Close,
            45.. => Reply::Silence,
            _ => Reply::Ack,
        }
    })
    .await;
    let uplink = Running::start(settings(broker.port), Log::numbered(1000));
    uplink.released(1000).await;
    assert_eq!(broker.first_arrivals(), numbers(0..1000));
    assert!(broker.connections() > 20);
    assert_eq!(uplink.log.aside(), []);
    uplink.stop().await;
}

#[tokio::test]
async fn what_the_upstream_refuses_for_good_is_set_aside_and_the_rest_goes_on() {
    for (reason, name) in [
        (0x87, "not authorized"),
        (0x90, "topic name invalid"),
        (0x95, "packet too large"),
        (0x99, "payload format invalid"),
    ] {
        let broker = Broker::start(ACCEPTED_V5, move |_, came| match came {
            Came::Publish(Arrival { payload, .. }) if matches!(&payload[..], b"5" | b"25") => {
                Reply::Refuse(reason)
            }
            _ => Reply::Ack,
        })
        .await;
        let uplink = Running::start(version5(broker.port), Log::numbered(30));
        uplink.released(30).await;
        let why = format!("the upstream refused it: {name} ({reason:#04x})");
        assert_eq!(uplink.log.aside(), [(5, why.clone()), (25, why)]);
        assert_eq!(uplink.log.tries(), [1, 1]);
        let view = uplink.health.view();
        assert_eq!((view.delivered_events, view.set_aside_events, view.connects), (28, 2, 1));
        assert_eq!(broker.arrivals().len(), 30, "nothing was sent twice");
        uplink.stop().await;
    }
}

#[tokio::test]
async fn nobody_subscribed_is_success() {
    let broker = Broker::start(ACCEPTED_V5, except("5", |_| Reply::Refuse(0x10))).await;
    let uplink = Running::start(version5(broker.port), Log::numbered(30));
    uplink.released(30).await;
    assert_eq!((uplink.log.aside(), uplink.health.view().delivered_events), (vec![], 30));
    uplink.stop().await;
}

#[tokio::test]
async fn what_the_upstream_does_not_take_now_is_sent_again() {
    for reason in [0x80, 0x83, 0x97] {
        let refuse = move |connection| if connection < 2 { Reply::Refuse(reason) } else { Reply::Ack };
        let broker = Broker::start(ACCEPTED_V5, except("5", refuse)).await;
        let uplink = Running::start(version5(broker.port), Log::numbered(30));
        uplink.released(30).await;
        assert_eq!((uplink.log.aside(), broker.connections()), (vec![], 3));
        assert_eq!(broker.first_arrivals(), numbers(0..30));
        uplink.stop().await;
    }
}

#[tokio::test]
async fn a_silent_upstream_is_left_and_never_blamed_on_an_event() {
    let broker = Broker::start(
        ACCEPTED_V311,
        |connection, _| {
            if connection < 9 { Reply::Silence } else { Reply::Ack }
        },
    )
    .await;
    let mut settings = settings(broker.port);
    settings.ack_timeout = Duration::from_millis(200);
    let uplink = Running::start(settings, Log::numbered(30));
    uplink.released(30).await;
    assert_eq!(uplink.log.aside(), []);
    assert!(broker.connections() >= 10);
    // 200 ms at first, and twice as much after each that was fruitless.
    assert_eq!(uplink.health.view().last_error.unwrap(), "no acknowledgement within 1.6s");
    uplink.stop().await;
}

#[tokio::test]
async fn a_slow_upstream_is_not_left_while_the_head_moves() {
    let broker = Broker::start(ACCEPTED_V311, |_, _| Reply::AckAfter(Duration::from_millis(100))).await;
    let mut settings = settings(broker.port);
    settings.ack_timeout = Duration::from_millis(700);
    let uplink = Running::start(settings, Log::numbered(12));
    uplink.released(12).await;
    assert_eq!((broker.connections(), broker.arrivals().len()), (1, 12));
    uplink.stop().await;
}

#[tokio::test]
async fn a_disconnect_for_the_upstreams_own_reasons_is_never_blamed_on_an_event() {
    let disconnect = |connection| {
        if connection < 9 { Reply::Bytes(vec![0xE0, 1, 0x8B]) } else { Reply::Ack }
    };
    let broker = Broker::start(ACCEPTED_V5, except("0", disconnect)).await;
    let uplink = Running::start(version5(broker.port), Log::numbered(3));
    uplink.released(3).await;
    assert_eq!((uplink.log.aside(), broker.connections()), (vec![], 10));
    let why = "the upstream disconnected: server shutting down (0x8b): nothing to change here, it goes on by itself";
    assert_eq!(uplink.health.view().last_error.unwrap(), why);
    uplink.stop().await;
}

#[tokio::test]
async fn what_a_broker_says_when_it_ends_a_connection_is_repeated_with_what_to_do() {
    // DISCONNECT 0x97 with a Reason String. (MQTT 5.0 section 3.14.2.2.3)
    let words = b"\xe0\x0e\x97\x0c\x1f\0\x09slow down";
    let ends = |connection| if connection == 0 { Reply::Bytes(words.to_vec()) } else { Reply::Ack };
    let broker = Broker::start(ACCEPTED_V5, except("0", ends)).await;
    let uplink = Running::start(version5(broker.port), Log::numbered(3));
    uplink.released(3).await;
    let why = "the upstream disconnected: quota exceeded (0x97), \"slow down\": raise the quota there, or set \
               events_per_second or bytes_per_second";
    let view = uplink.health.view();
    assert_eq!((view.last_error.as_deref(), view.outage), (Some(why), None), "it is over");
    uplink.stop().await;
}

#[tokio::test]
async fn another_protocol_than_mqtt_is_known_by_its_first_bytes() {
    for (bytes, why) in [
        // An alert of TLS: unexpected_message.
        (&b"\x15\x03\x03\0\x02\x02\x0a"[..], "what answers there speaks TLS: write mqtts:// in url"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "what answers there speaks HTTP: check the port, or write ws:// in url",
        ),
        (
            b"INFO {\"server_id\":\"a\"}\r\n",
            "what answers there speaks NATS: check the port, or write nats:// in url",
        ),
        (b"220 mail.example ESMTP\r\n", "the upstream answered CONNECT with something else than CONNACK"),
    ] {
        let broker = Broker::start(bytes, |_, _| Reply::Close).await;
        let uplink = Running::start(version5(broker.port), Log::numbered(1));
        eventually(|| uplink.health.view().outage.is_some(), || format!("{:?}", uplink.health)).await;
        assert_eq!(uplink.health.view().last_error.as_deref(), Some(why));
        uplink.stop().await;
    }
}

#[tokio::test]
async fn a_broker_that_closes_over_whatever_is_sent_leaves_a_hint_at_its_rules() {
    let broker = Broker::start(ACCEPTED_V311, |_, _| Reply::Close).await;
    let uplink = Running::start(settings(broker.port), Log::numbered(3));
    let why = || uplink.health.view().outage.map(|outage| outage.why).unwrap_or_default();
    eventually(|| why().contains("times in a row"), why).await;
    let said = why();
    assert!(said.starts_with("the upstream closed the connection; "), "{said}");
    assert!(said.contains("a rule (policy, ACL) there may forbid this client to publish"), "{said}");
    assert!(said.contains("another client may connect with this client id"), "{said}");
    uplink.stop().await;
}

#[tokio::test]
async fn no_more_is_in_flight_than_the_upstream_and_the_settings_allow() {
    for (receive_max, window, in_flight) in [(3, 1000, 3), (1000, 5, 5)] {
        let [high, low] = u16::to_be_bytes(receive_max);
        let connack = [0x20, 6, 0, 0, 3, 0x21, high, low];
        let silence = |connection, _: &Came| if connection == 0 { Reply::Silence } else { Reply::Ack };
        let broker = Broker::start(&connack, silence).await;
        let mut settings = version5(broker.port);
        settings.window = window.try_into().unwrap();
        settings.ack_timeout = Duration::from_millis(300);
        let uplink = Running::start(settings, Log::numbered(300));
        uplink.released(300).await;
        let unanswered = broker.arrivals().iter().filter(|(connection, _)| *connection == 0).count();
        assert_eq!(unanswered, in_flight);
        uplink.stop().await;
    }
}

#[tokio::test]
async fn a_refused_connection_is_told_without_the_password() {
    let broker = Broker::start(&[0x20, 2, 0, 4], |_, _| Reply::Ack).await;
    let mut settings = settings(broker.port);
    settings.broker().user = Some("barn".to_owned());
    settings.broker().password = Some(PasswordSource::Fixed(Password::new("hunter2")));
    let uplink = Running::start(settings, Log::numbered(1));
    eventually(|| broker.connections() > 3, || format!("{:?}", broker.came())).await;
    let view = uplink.health.view();
    let why = "the upstream refused the connection: bad user name or password (4): check user, and the password in \
               password_file or TIDEGATE_PASSWORD_<NAME>";
    assert_eq!((view.connected, view.connects, view.last_error.as_deref()), (false, 0, Some(why)));
    let outage = view.outage.unwrap();
    assert!(outage.why == why && outage.since_ms <= outage.next_try_ms, "{outage:?}");
    assert!(!format!("{:?}", uplink.health).contains("hunter2"));
    assert_eq!(uplink.log.released(), 0);
    uplink.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_kept_alive_and_a_dead_one_is_left() {
    let broker = Broker::start(
        ACCEPTED_V311,
        |connection, _| if connection == 0 { Reply::Silence } else { Reply::Ack },
    )
    .await;
    let mut settings = settings(broker.port);
    settings.broker().keep_alive = Duration::from_secs(1);
    settings.ack_timeout = Duration::from_millis(300);
    let uplink = Running::start(settings, Log::numbered(0));
    let pings =
        |connection| broker.came().iter().filter(|(c, came)| *c == connection && *came == Came::Ping).count();
    eventually(|| pings(1) >= 2, || format!("{:?}", broker.came())).await;
    assert_eq!((pings(0), broker.connections()), (1, 2));
    assert_eq!(uplink.health.view().last_error.unwrap(), "no answer to a ping within 300ms");
    uplink.stop().await;
}

#[tokio::test]
async fn bytes_that_are_not_mqtt_end_the_connection_and_acks_before_them_count() {
    let garbage = |connection| {
        if connection == 0 { Reply::Bytes(vec![0x40, 2, 0, 2, 0x40, 1, 0]) } else { Reply::Ack }
    };
    let broker = Broker::start(ACCEPTED_V311, except("1", garbage)).await;
    let uplink = Running::start(settings(broker.port), Log::numbered(2));
    uplink.released(2).await;
    eventually(|| uplink.health.view().last_error.is_some(), || format!("{:?}", uplink.health)).await;
    let view = uplink.health.view();
    assert_eq!(view.last_error.unwrap(), "the upstream sent a packet that is not MQTT");
    assert_eq!((broker.arrivals().len(), uplink.log.aside()), (2, vec![]));
    uplink.stop().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_in_flight_and_says_goodbye() {
    let mut held = 0;
    let broker = Broker::start(ACCEPTED_V311, move |_, came| {
        let Came::Publish(arrival) = came else { return Reply::Ack };
        held += 1;
        if held < 10 {
            return Reply::Silence;
        }
        std::thread::sleep(Duration::from_millis(100));
        Reply::Bytes((1..=arrival.id).flat_map(|id| [0x40, 2, (id >> 8) as u8, id as u8]).collect())
    })
    .await;
    let mut settings = settings(broker.port);
    settings.window = 10.try_into().unwrap();
    let uplink = Running::start(settings, Log::numbered(100));
    eventually(|| broker.arrivals().len() >= 5, || format!("{:?}", broker.came())).await;
    let log = uplink.log.clone();
    uplink.stop().await;
    assert!(log.released() >= 10, "{}", log.released());
    eventually(
        || broker.came().iter().any(|(_, came)| *came == Came::Disconnect),
        || "no goodbye".to_owned(),
    )
    .await;
}

#[tokio::test]
async fn an_uplink_ends_with_its_store_and_while_there_is_no_upstream() {
    let broker = Broker::start(ACCEPTED_V311, |_, _| Reply::Ack).await;
    let uplink = Running::start(settings(broker.port), Log::numbered(5));
    uplink.released(5).await;
    uplink.log.close();
    uplink.ended().await;

    let port = broker.port;
    drop(broker);
    let uplink = Running::start(settings(port), Log::numbered(5));
    eventually(|| uplink.health.view().last_error.is_some(), || format!("{:?}", uplink.health)).await;
    assert!(uplink.health.view().last_error.unwrap().starts_with("cannot connect: "));
    uplink.stop().await;
}
