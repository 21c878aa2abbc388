//! Flow control and the maximum packet size: sections 4.9, 3.1.2.11 and 3.2.2.3.

use tidegate::ingest::Settings;

use super::{
    client::{Connect, PUBACK, PUBREC, QOS1, QOS2, ack, acked, packet, publish, subscribe},
    listener::Listener,
};

/// 5: [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[tokio::test]
async fn no_more_goes_out_than_the_clients_receive_maximum_and_all_else_does() {
    let listener = Listener::open().await;
    for (qos, max) in [(1, 1), (1, 3), (2, 2)] {
        let mut client = listener.connect(&Connect::new(5, "c").property(&[0x21, 0, max])).await;
        client.subscribe("t/a", qos).await;
        let mut publisher = listener.client(5, "p").await;
        for n in 0..6 {
            publisher.publish("t/a", 2, &n.to_string()).await;
        }
        let mut open = vec![];
        for _ in 0..max {
            open.push(client.got().await);
        }
        // The next thing that comes is what is not a PUBLISH.
        for _ in 0..3 {
            client.send(&[0xc0, 0]).await;
            assert_eq!(client.packet().await.first, 0xd0);
        }
        client.send(&publish(5, QOS1, "s/a", 100, &[], "x")).await;
        assert_eq!(client.packet().await, acked(PUBACK, 100));
        client.subscribe("t/b", 0).await;
        // Each that is done with makes room for one.
        for n in usize::from(max)..6 {
            let done = open.remove(0);
            if qos == 1 {
                client.send(&ack(PUBACK, done.id)).await;
            } else if n % 2 == 0 {
                client.send(&packet(PUBREC, &[&done.id.to_be_bytes(), &[0x80]])).await;
            } else {
                client.send(&ack(PUBREC, done.id)).await;
                assert_eq!(client.packet().await, acked(0x62, done.id));
                client.send(&ack(0x70, done.id)).await;
            }
            let got = client.got().await;
            assert_eq!(got.payload, n.to_string());
            open.push(got);
            client.send(&[0xc0, 0]).await;
            assert_eq!(client.packet().await.first, 0xd0, "one and not two");
        }
    }
}

/// 5: [MQTT-3.3.4-7]
#[tokio::test]
async fn a_client_that_sends_more_than_the_receive_maximum_is_disconnected() {
    let listener = Listener::with(Settings { inflight_max: 3, ..Settings::default() }).await;
    let mut client = listener.client(5, "c").await;
    assert!(client.connack.windows(3).any(|bytes| bytes == [0x21, 0, 3]));
    // Received, and not released: they count.
    for id in 1..=3 {
        client.send(&publish(5, QOS2, "s/a", id, &[], "")).await;
        assert_eq!(client.packet().await, acked(PUBREC, id));
    }
    client.ping().await;
    client.send(&publish(5, QOS1, "s/a", 4, &[], "")).await;
    client.ends_with(0x93).await;
}

/// 5: [MQTT-3.1.2-25]
#[tokio::test]
async fn a_packet_that_the_client_does_not_take_is_as_if_it_had_been_sent() {
    let listener = Listener::open().await;
    for qos in 0..3 {
        let mut client = listener.connect(&Connect::new(5, "c").property(&[0x27, 0, 0, 0, 60])).await;
        client.subscribe("t/a", qos).await;
        let mut publisher = listener.client(5, "p").await;
        publisher.publish("t/a", 2, "small").await;
        publisher.publish("t/a", 2, &"large".repeat(20)).await;
        publisher
            .publish_with("t/a", 2, false, &[&[9, 0, 50][..], &[7; 50]].concat(), "by its properties")
            .await;
        publisher.publish("t/a", 2, "small too").await;
        assert_eq!(client.payloads(2).await, ["small", "small too"]);
        client.leave().await;
    }
}

/// 5: [MQTT-3.1.2-24]
#[tokio::test]
async fn a_packet_of_just_the_clients_maximum_is_sent() {
    let listener = Listener::open().await;
    // Fixed header, topic, properties, payload.
    let whole = 2 + 5 + 1 + 40;
    for (max, comes) in [(whole, true), (whole - 1, false)] {
        let mut client = listener.connect(&Connect::new(5, "c").property(&[0x27, 0, 0, 0, max])).await;
        client.subscribe("t/a", 0).await;
        let payload = "x".repeat(40);
        client.publish("t/a", 1, &payload).await;
        client.publish("t/a", 1, "fence").await;
        assert_eq!(client.take().await.payload == payload, comes);
    }
}

/// 5: [MQTT-3.2.2-15]
#[tokio::test]
async fn a_client_that_sends_more_than_the_maximum_packet_size_is_disconnected() {
    let listener = Listener::with(Settings { packet_bytes_max: 4096, ..Settings::default() }).await;
    for version in super::listener::BOTH {
        let mut client = listener.client(version, "c").await;
        if version == 5 {
            assert!(client.connack.windows(5).any(|bytes| bytes == [0x27, 0, 0, 16, 0]));
        }
        let whole = |bytes: usize| {
            let head = publish(version, QOS1, "s/a", 1, &[], &"x".repeat(1000)).len() - 1000;
            publish(version, QOS1, "s/a", 1, &[], &"x".repeat(bytes - head))
        };
        assert_eq!(whole(4096).len(), 4096);
        client.send(&whole(4096)).await;
        assert_eq!(client.packet().await, acked(PUBACK, 1));
        client.send(&whole(4097)).await;
        client.ends_with(0x95).await;
    }
}

/// 5: [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[tokio::test]
async fn an_answer_that_the_client_does_not_take_is_left_out() {
    let listener = Listener::open().await;
    let mut client = listener.connect(&Connect::new(5, "c").property(&[0x27, 0, 0, 0, 24])).await;
    // An answer of 45 bytes, and the subscriptions stand.
    client.send(&subscribe(5, 1, &[], &[("t", 0); 40])).await;
    client.send(&[0xc0, 0]).await;
    assert_eq!(client.packet().await.first, 0xd0);
    client.publish("t", 1, "x").await;
    assert_eq!(client.take().await.payload, "x");
}
