//! PUBACK, PUBREC, PUBREL, PUBCOMP and the flows of QoS 1 and 2, both ways: sections 3.4 to 3.7,
//! 4.3 and 4.4.

use super::{
    client::{
        Client, Connect, DUP, Got, PUBACK, PUBCOMP, PUBREC, PUBREL, QOS1, QOS2, ack, acked, packet, publish,
    },
    listener::{BOTH, Listener},
};

/// 5: [MQTT-4.3.2-4] [MQTT-4.3.2-5]
/// 3.1.1: [MQTT-2.3.1-3] [MQTT-4.3.2-2]
#[tokio::test]
async fn qos_1_in_is_acknowledged_and_its_id_is_new_after_that() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        for flags in [QOS1, QOS1, QOS1 | DUP] {
            client.send(&publish(version, flags, "s/a", 9, &[], "x")).await;
            assert_eq!(client.packet().await, acked(PUBACK, 9));
        }
    }
    assert_eq!(listener.upstream(6).await.len(), 6);
}

/// 5: [MQTT-2.2.1-5] [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]
/// 3.1.1: [MQTT-2.3.1-6] [MQTT-4.3.3-2]
#[tokio::test]
async fn qos_2_in_is_taken_once_until_it_is_released_and_its_id_is_new_after_that() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        let mut watcher = listener.client(version, "watcher").await;
        watcher.subscribe("t/a", 2).await;
        for payload in ["first", "second"] {
            for flags in [QOS2, QOS2 | DUP, QOS2] {
                client.send(&publish(version, flags, "t/a", 9, &[], payload)).await;
                assert_eq!(client.packet().await, acked(PUBREC, 9));
            }
            for _ in 0..2 {
                client.send(&ack(PUBREL, 9)).await;
                assert_eq!(client.packet().await, acked(PUBCOMP, 9));
            }
        }
        client.publish("t/a", 1, "fence").await;
        assert_eq!(watcher.payloads(3).await, ["first", "second", "fence"]);
    }
}

/// 5: [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]
/// 3.1.1: [MQTT-2.3.1-3] [MQTT-4.3.3-2]
#[tokio::test]
async fn qos_2_in_is_taken_once_across_a_reconnect_and_a_takeover() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut watcher = listener.client(version, "watcher").await;
        watcher.subscribe("t/a", 2).await;
        let id = format!("c{version}");
        let mut client = listener.resume(version, &id).await;
        client.send(&publish(version, QOS2, "t/a", 9, &[], "once")).await;
        assert_eq!(client.packet().await, acked(PUBREC, 9));
        let mut client = listener.resume(version, &id).await;
        assert!(client.session_present);
        client.send(&publish(version, QOS2 | DUP, "t/a", 9, &[], "once")).await;
        assert_eq!(client.packet().await, acked(PUBREC, 9));
        drop(client);
        let mut client = listener.resume(version, &id).await;
        client.send(&ack(PUBREL, 9)).await;
        assert_eq!(client.packet().await, acked(PUBCOMP, 9));
        client.publish("t/a", 1, "fence").await;
        assert_eq!(watcher.payloads(2).await, ["once", "fence"]);
    }
}

/// 5: [MQTT-3.6.2-1] [MQTT-3.7.2-1]
#[tokio::test]
async fn a_release_of_an_unknown_id_is_answered_with_its_id() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.send(&ack(PUBREL, 77)).await;
        assert_eq!(client.packet().await.body[..2], [0, 77]);
        client.send(&ack(PUBREC, 78)).await;
        let pubrel = client.packet().await;
        assert_eq!((pubrel.first, &pubrel.body[..2]), (PUBREL, &[0, 78][..]));
        // Acknowledgements of nothing are no reason to close.
        client.send(&ack(PUBACK, 79)).await;
        client.send(&ack(PUBCOMP, 80)).await;
        client.ping().await;
    }
}

/// 5: [MQTT-2.1.3-1] [MQTT-3.6.1-1]
/// 3.1.1: [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1]
#[tokio::test]
async fn reserved_flags_of_an_acknowledgement_end_the_connection() {
    let listener = Listener::open().await;
    for version in BOTH {
        for first in [0x60, 0x6a, 0x63, 0x42, 0x51, 0x78] {
            let mut client = listener.client(version, "c").await;
            client.send(&packet(first, &[&[0, 1]])).await;
            client.ends_with(0x81).await;
        }
    }
}

/// A kept session that subscribes to `t/#`, and somebody who publishes.
async fn kept(listener: &Listener, version: u8, qos: u8) -> (Client, Client) {
    let mut client = listener.resume(version, &format!("c{version}{qos}")).await;
    client.subscribe("t/#", qos).await;
    (client, listener.client(version, "p").await)
}

async fn again(listener: &Listener, client: Client, qos: u8) -> Client {
    let version = client.version;
    drop(client);
    let client = listener.resume(version, &format!("c{version}{qos}")).await;
    assert!(client.session_present);
    client
}

/// 5: [MQTT-2.2.1-2] [MQTT-2.2.1-4] [MQTT-3.3.1-2] [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-2]
/// [MQTT-4.3.2-3] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5]
/// [MQTT-4.3.3-6] [MQTT-4.4.0-1] 3.1.1: [MQTT-2.3.1-4] [MQTT-2.3.1-5] [MQTT-3.3.1-2] [MQTT-4.3.1-1]
/// [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.4.0-1]
#[tokio::test]
async fn what_goes_out_has_an_id_of_its_own_and_is_not_sent_again_on_the_same_connection() {
    let listener = Listener::open().await;
    for version in BOTH {
        for qos in [1, 2] {
            let (mut client, mut publisher) = kept(&listener, version, qos).await;
            let mut ids = vec![];
            for n in 0..3 {
                publisher.publish("t/a", 2, &n.to_string()).await;
                let got = client.got().await;
                assert_eq!((got.payload, got.qos, got.dup), (n.to_string(), qos, false));
                assert!(got.id != 0 && !ids.contains(&got.id));
                ids.push(got.id);
            }
            // Neither is any of them sent again, nor is an id used that is in flight.
            publisher.publish("t/a", 0, "fence").await;
            let got = client.got().await;
            assert_eq!((got.payload.as_str(), got.id, got.dup), ("fence", 0, false));
            client.leave().await;
            drop(listener.client(version, &format!("c{version}{qos}")).await);
        }
    }
}

/// 5: [MQTT-3.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT-4.3.3-1] [MQTT-4.3.3-2]
/// [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [MQTT-4.6.0-1]
/// [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4] 3.1.1: [MQTT-3.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
/// [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4]
#[tokio::test]
async fn what_was_not_acknowledged_comes_again_with_its_id_dup_and_in_order() {
    let listener = Listener::open().await;
    for version in BOTH {
        for qos in [1, 2] {
            let (mut client, mut publisher) = kept(&listener, version, qos).await;
            let mut sent = vec![];
            for n in 0..4 {
                publisher.publish("t/a", 2, &n.to_string()).await;
                sent.push(client.got().await);
            }
            // The second is acknowledged.
            let second = sent.remove(1);
            if qos == 1 {
                client.send(&ack(PUBACK, second.id)).await;
            } else {
                client.send(&ack(PUBREC, second.id)).await;
                assert_eq!(client.packet().await, acked(PUBREL, second.id));
                client.send(&ack(PUBCOMP, second.id)).await;
            }
            client.ping().await;
            let mut client = again(&listener, client, qos).await;
            publisher.publish("t/a", 1, "later").await;
            for wanted in sent {
                assert_eq!(client.take().await, Got { dup: true, ..wanted });
            }
            let got = client.take().await;
            assert_eq!((got.payload.as_str(), got.dup), ("later", false));
        }
    }
}

/// 5: [MQTT-3.3.1-1] [MQTT-4.4.0-1]
/// 3.1.1: [MQTT-3.3.1-1] [MQTT-4.4.0-1]
#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_restart() {
    for version in BOTH {
        for qos in [1, 2] {
            let listener = Listener::open().await;
            let (mut client, mut publisher) = kept(&listener, version, qos).await;
            publisher.publish("t/a", 2, "one").await;
            publisher.publish("t/a", 2, "two").await;
            let (one, two) = (client.got().await, client.got().await);
            let listener = listener.restart().await;
            let mut client = again(&listener, client, qos).await;
            assert_eq!(client.take().await, Got { dup: true, ..one });
            assert_eq!(client.take().await, Got { dup: true, ..two });
        }
    }
}

/// 5: [MQTT-2.2.1-5] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5]
/// [MQTT-4.3.3-6] [MQTT-4.4.0-1] 3.1.1: [MQTT-2.3.1-6] [MQTT-4.3.3-1] [MQTT-4.4.0-1]
#[tokio::test]
async fn after_pubrec_the_release_comes_again_and_the_publish_does_not() {
    let listener = Listener::open().await;
    for version in BOTH {
        let (mut client, mut publisher) = kept(&listener, version, 2).await;
        publisher.publish("t/a", 2, "x").await;
        let got = client.got().await;
        client.send(&ack(PUBREC, got.id)).await;
        assert_eq!(client.packet().await, acked(PUBREL, got.id));
        for _ in 0..2 {
            client = again(&listener, client, 2).await;
            assert_eq!(client.packet().await, acked(PUBREL, got.id));
        }
        client.send(&ack(PUBCOMP, got.id)).await;
        client.ping().await;
        client = again(&listener, client, 2).await;
        publisher.publish("t/a", 1, "fence").await;
        assert_eq!(client.take().await.payload, "fence");
    }
}

/// 5: [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6]
/// [MQTT-4.4.0-2] 3.1.1: [MQTT-4.3.3-1]
#[tokio::test]
async fn a_message_that_the_client_refuses_is_done_with() {
    let listener = Listener::open().await;
    for qos in [1, 2] {
        let (mut client, mut publisher) = kept(&listener, 5, qos).await;
        publisher.publish("t/a", 2, "refused").await;
        let got = client.got().await;
        let first = if qos == 1 { PUBACK } else { PUBREC };
        client.send(&packet(first, &[&got.id.to_be_bytes(), &[0x83]])).await;
        client.ping().await;
        let mut client = again(&listener, client, qos).await;
        publisher.publish("t/a", 1, "fence").await;
        assert_eq!(client.take().await.payload, "fence", "neither PUBREL nor PUBLISH came");
    }
}

/// 5: [MQTT-4.3.3-7]
#[tokio::test]
async fn what_was_sent_is_finished_though_its_time_is_over() {
    let listener = Listener::open().await;
    let (mut client, mut publisher) = kept(&listener, 5, 2).await;
    for payload in ["first", "second"] {
        publisher.publish_with("t/a", 2, false, &[2, 0, 0, 0, 1], payload).await;
    }
    let (first, second) = (client.got().await, client.got().await);
    client.send(&ack(PUBREC, first.id)).await;
    assert_eq!(client.packet().await, acked(PUBREL, first.id));
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let mut client = again(&listener, client, 2).await;
    assert_eq!(client.packet().await, acked(PUBREL, first.id));
    client.send(&ack(PUBCOMP, first.id)).await;
    let got = client.take().await;
    assert_eq!((got.payload.as_str(), got.id, got.dup), ("second", second.id, true));
}

/// 5: [MQTT-4.3.3-13]
#[tokio::test]
async fn a_qos_2_publish_is_acknowledged_to_the_end_though_its_time_is_over() {
    let listener = Listener::open().await;
    let mut client = listener.client(5, "c").await;
    client.subscribe("t/a", 2).await;
    client.publish_with("t/a", 2, false, &[2, 0, 0, 0, 0], "over at once").await;
    client.publish("t/a", 2, "fence").await;
    assert_eq!(client.take().await.payload, "fence");
}

/// 5: [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
#[tokio::test]
async fn a_smaller_receive_maximum_holds_for_what_is_sent_again() {
    let listener = Listener::open().await;
    let (mut client, mut publisher) = kept(&listener, 5, 1).await;
    let mut ids = vec![];
    for n in 0..3 {
        publisher.publish("t/a", 1, &n.to_string()).await;
        ids.push(client.got().await.id);
    }
    drop(client);
    let mut client = listener.connect(&Connect::new(5, "c51").kept().property(&[0x21, 0, 1])).await;
    for id in ids {
        let got = client.got().await;
        assert_eq!((got.id, got.dup), (id, true));
        client.ping().await;
        client.send(&ack(PUBACK, id)).await;
    }
}

/// 5: [MQTT-2.2.1-4]
/// 3.1.1: [MQTT-2.3.1-4]
#[tokio::test]
async fn the_ids_of_both_directions_have_nothing_to_do_with_each_other() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.subscribe("t/a", 2).await;
        listener.client(version, "p").await.publish("t/a", 2, "out").await;
        let got = client.got().await;
        // The same id, the other way, and all steps interleaved.
        client.send(&publish(version, QOS2, "s/a", got.id, &[], "in")).await;
        assert_eq!(client.packet().await, acked(PUBREC, got.id));
        client.send(&ack(PUBREC, got.id)).await;
        assert_eq!(client.packet().await, acked(PUBREL, got.id));
        client.send(&ack(PUBREL, got.id)).await;
        assert_eq!(client.packet().await, acked(PUBCOMP, got.id));
        client.send(&ack(PUBCOMP, got.id)).await;
        client.ping().await;
    }
    assert_eq!(listener.upstream(2).await, ["in", "in"]);
}
