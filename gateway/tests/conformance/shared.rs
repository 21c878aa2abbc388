//! Shared subscriptions: section 4.8.

use super::{
    client::{PUBACK, PUBREC, packet, subscribe},
    listener::Listener,
};

/// 5: [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[tokio::test]
async fn a_shared_filter_has_a_name_and_a_filter() {
    let listener = Listener::open().await;
    for filter in ["$share/g/t", "$share/g/#", "$share/g//", "$share/g/+/a"] {
        assert_eq!(listener.client(5, "c").await.subscribe(filter, 1).await, 1, "{filter}");
    }
    for filter in
        ["$share/", "$share/g", "$share/g/", "$share//t", "$share/+/t", "$share/g#/t", "$share/g/t#"]
    {
        let mut client = listener.client(5, "c").await;
        client.send(&subscribe(5, 1, &[], &[(filter, 1)])).await;
        // Refused as a filter or as a packet.
        let answer = client.packet().await;
        match answer.first {
            0x90 => assert_eq!(answer.body[3], 0x8f, "{filter}"),
            _ => assert!([0x81, 0x82].contains(&answer.body[0]), "{filter} {answer:02x?}"),
        }
    }
}

/// 5: [MQTT-3.3.4-5] [MQTT-4.8.2-3]
#[tokio::test]
async fn each_message_goes_to_one_member_of_each_group_with_its_qos_and_identifier() {
    let listener = Listener::open().await;
    let mut members = [listener.client(5, "a").await, listener.client(5, "b").await];
    for (n, member) in members.iter_mut().enumerate() {
        member.subscribe_with(&[0x0b, n as u8 + 1], "$share/g/t/+", n as u8).await;
    }
    let mut other = listener.client(5, "other").await;
    other.subscribe("$share/h/t/a", 2).await;
    let mut plain = listener.client(5, "plain").await;
    plain.subscribe("t/a", 2).await;
    let mut publisher = listener.client(5, "p").await;
    let wanted: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    for payload in &wanted {
        publisher.publish("t/a", 2, payload).await;
    }
    assert_eq!(plain.payloads(10).await, wanted);
    assert_eq!(other.payloads(10).await, wanted);
    let mut found = vec![];
    for (n, member) in members.iter_mut().enumerate() {
        for _ in 0..5 {
            let got = member.take().await;
            assert_eq!((got.qos, got.properties), (n as u8, vec![0x0b, n as u8 + 1]));
            found.push(got.payload);
        }
    }
    found.sort();
    assert_eq!(found, wanted);
}

/// 5: [MQTT-4.8.2-4]
#[tokio::test]
async fn what_one_member_has_begun_it_finishes_when_it_is_back() {
    let listener = Listener::open().await;
    let mut a = listener.resume(5, "a").await;
    a.subscribe("$share/g/t", 2).await;
    let mut publisher = listener.client(5, "p").await;
    publisher.publish("t", 2, "begun").await;
    let begun = a.got().await;
    let mut b = listener.client(5, "b").await;
    b.subscribe("$share/g/t", 2).await;
    drop(a);
    // Whoever is there gets what is new.
    for n in 0..4 {
        publisher.publish("t", 2, &n.to_string()).await;
    }
    assert_eq!(b.payloads(4).await, ["0", "1", "2", "3"]);
    let mut a = listener.resume(5, "a").await;
    let again = a.take().await;
    assert_eq!((again.payload.as_str(), again.id, again.dup), ("begun", begun.id, true));
}

/// 5: [MQTT-4.8.2-5]
#[tokio::test]
async fn what_a_member_had_begun_goes_to_nobody_else_when_its_session_ends() {
    let listener = Listener::open().await;
    let mut a = listener.client(5, "a").await;
    a.subscribe("$share/g/t", 2).await;
    let mut publisher = listener.client(5, "p").await;
    publisher.publish("t", 2, "begun").await;
    a.got().await;
    let mut b = listener.client(5, "b").await;
    b.subscribe("$share/g/t", 2).await;
    a.leave().await;
    publisher.publish("t", 2, "fence").await;
    assert_eq!(b.take().await.payload, "fence");
}

/// 5: [MQTT-4.8.2-6]
#[tokio::test]
async fn what_a_member_refuses_goes_to_nobody_else() {
    let listener = Listener::open().await;
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        let mut a = listener.client(5, "a").await;
        a.subscribe("$share/g/t", qos).await;
        let mut publisher = listener.client(5, "p").await;
        publisher.publish("t", 2, "refused").await;
        let got = a.got().await;
        let mut b = listener.client(5, "b").await;
        b.subscribe("$share/g/t", qos).await;
        a.send(&packet(first, &[&got.id.to_be_bytes(), &[0x80]])).await;
        a.ping().await;
        a.leave().await;
        publisher.publish("t", 2, "fence").await;
        assert_eq!(b.take().await.payload, "fence");
        b.leave().await;
    }
}
