//! What a restart remembers of sessions: who has a client id, which packet ids are in use, what was
//! promised with CONNACK.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/client.rs"]
#[allow(dead_code, reason = "each file of tests uses its part of it")]
mod client;
mod session_world;
#[allow(unused_imports, reason = "each file of tests uses its part of it")]
mod simulated_disk;

use client::{Client, PUBREL, QOS2, Will, ack, acked, publish};
use session_world::{Hello, World};

const PUBREC: u8 = 0x50;
/// "Client identifier not valid" on MQTT 5, and "identifier rejected" on MQTT 3.1.1.
const FOREIGN: [u8; 2] = [0x85, 0x02];
const BOTH: [u8; 2] = [4, 5];

/// Stops or kills the gateway, and starts it again.
async fn restart(world: &mut World, is_kill: bool) {
    if is_kill {
        world.kill(vec![]).await
    } else {
        world.stop(vec![]).await
    }
    world.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_message_of_a_new_session_is_stored_whatever_packet_ids_the_one_before_left() {
    for is_kill in [false, true] {
        let mut world = World::open(1).await;
        let hello = Hello { expiry_s: 10, ..Hello::new(5, "one", "publisher") };
        let mut client = world.connect(&hello).await;
        client.send(&publish(5, QOS2, "s/a", 1, &[], "before")).await;
        assert_eq!(client.packet().await, acked(PUBREC, 1));
        client.leave().await;
        restart(&mut world, is_kill).await;
        world.pass(11_000);
        restart(&mut world, false).await;
        let mut client = world.connect(&hello).await;
        assert!(!client.session_present, "its time was over, kill: {is_kill}");
        client.send(&publish(5, QOS2, "s/a", 1, &[], "after")).await;
        assert_eq!(client.packet().await, acked(PUBREC, 1));
        client.send(&ack(PUBREL, 1)).await;
        client.packet().await;
        assert_eq!(world.stored(), ["before", "after"]);
        world.stop(vec![]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publishers_session_and_its_packet_ids_are_there_after_a_restart() {
    for version in BOTH {
        for is_kill in [false, true] {
            let mut world = World::open(2).await;
            let hello = Hello::new(version, "one", "publisher");
            let mut client = world.connect(&hello).await;
            assert!(!client.session_present);
            client.send(&publish(version, QOS2, "s/a", 1, &[], "once")).await;
            assert_eq!(client.packet().await, acked(PUBREC, 1));
            restart(&mut world, is_kill).await;
            let mut client = world.connect(&hello).await;
            assert!(client.session_present, "version {version}, kill: {is_kill}");
            client.send(&publish(version, QOS2 | client::DUP, "s/a", 1, &[], "once")).await;
            assert_eq!(client.packet().await, acked(PUBREC, 1));
            assert_eq!(world.stored(), ["once"]);
            world.stop(vec![]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_id_is_its_owners_after_a_restart() {
    for version in BOTH {
        for is_kill in [false, true] {
            let mut world = World::open(3).await;
            let hello = Hello::new(version, "one", "mine");
            let client = world.connect(&hello).await;
            restart(&mut world, is_kill).await;
            let (_, code) = world.try_connect(&Hello::new(version, "two", "mine")).await;
            assert!(FOREIGN.contains(&code), "{code:#x}: version {version}, kill: {is_kill}");
            assert!(world.connect(&hello).await.session_present);
            drop(client);
            world.stop(vec![]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_a_client_has_ended_does_not_come_back_with_a_kill() {
    let mut world = World::open(4).await;
    let kept = Hello::new(5, "one", "c");
    let mut client = world.connect(&kept).await;
    client.send(&publish(5, QOS2, "s/a", 1, &[], "first")).await;
    assert_eq!(client.packet().await, acked(PUBREC, 1));
    // DISCONNECT with an expiry of 0.
    client.send(&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    assert_eq!(client.next().await, None);
    restart(&mut world, true).await;
    let mut client = world.connect(&kept).await;
    assert!(!client.session_present);
    drop(client);
    // A clean start ends it as well, by the time of its CONNACK.
    client = world.connect(&Hello { clean: true, expiry_s: 0, ..kept.clone() }).await;
    client.send(&publish(5, QOS2, "s/a", 1, &[], "second")).await;
    assert_eq!(client.packet().await, acked(PUBREC, 1));
    restart(&mut world, true).await;
    let mut client = world.connect(&kept).await;
    assert!(!client.session_present);
    client.send(&publish(5, QOS2, "s/a", 1, &[], "third")).await;
    assert_eq!(client.packet().await, acked(PUBREC, 1));
    assert_eq!(world.stored(), ["first", "second", "third"]);
    world.stop(vec![]).await;
}

/// Longer than a client may take to come back after a start.
const BEYOND_THE_GRACE_MS: u64 = 31_000;

async fn watcher(world: &World) -> Client {
    let mut watcher = world.connect(&Hello::new(5, "two", "watcher")).await;
    if !watcher.session_present {
        watcher.subscribe("w/#", 1).await;
    }
    watcher
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_will_of_a_client_that_does_not_come_back_after_a_restart_is_published() {
    for is_kill in [false, true] {
        let mut world = World::open(5).await;
        drop(watcher(&world).await);
        let mut clients = vec![];
        for (version, id) in [(4, "gone4"), (5, "gone5"), (4, "back4"), (5, "back5"), (5, "left")] {
            let (clean, expiry_s) = (true, 0);
            let will = Some(Will::new(&format!("w/{id}"), id));
            clients.push(
                world.connect(&Hello { clean, expiry_s, will, ..Hello::new(version, "one", id) }).await,
            );
        }
        // One that takes its leave takes its will along, and a kill does not bring it back.
        clients.pop().unwrap().leave().await;
        restart(&mut world, is_kill).await;
        let mut watcher = watcher(&world).await;
        let mut back = vec![];
        for (version, id) in [(4, "back4"), (5, "back5")] {
            back.push(world.connect(&Hello { clean: true, ..Hello::new(version, "one", id) }).await);
        }
        world.pass(BEYOND_THE_GRACE_MS);
        let mut gone = watcher.payloads(2).await;
        gone.sort();
        assert_eq!(gone, ["gone4", "gone5"], "kill: {is_kill}");
        // No other comes, and none a second time after a stop.
        restart(&mut world, is_kill).await;
        let mut watcher = self::watcher(&world).await;
        world.pass(BEYOND_THE_GRACE_MS);
        let mut fence = world.connect(&Hello::new(5, "one", "fence")).await;
        world.ticked().await;
        fence.publish("w/fence", 1, "fence").await;
        loop {
            let got = watcher.take().await;
            if got.payload == "fence" {
                break;
            }
            // A kill may come between a will's record and the file's knowing of it; and what was
            // read may not have been acknowledged.
            assert!(is_kill || got.dup, "{got:?} after the others");
            assert!(got.payload.starts_with("gone"), "{got:?}");
        }
        world.stop(vec![]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_whose_delay_a_new_session_ends_is_published_however_soon_a_kill_comes() {
    for version in BOTH {
        let mut world = World::open(9).await;
        // The will is due for a while before it is published.
        fail::cfg("bus-tick", "return(300)").unwrap();
        world.stop(vec![]).await;
        world.start().await;
        let will = Will { properties: vec![0x18, 0, 0, 0, 60], ..Will::new("s/will", "gone") };
        let hello = Hello { will: Some(will), ..Hello::new(5, "one", "a") };
        world.connect(&hello).await.lose().await;
        let next = Hello { version, clean: true, will: None, ..hello };
        let client = world.connect(&next).await;
        world.kill(vec![client]).await;
        world.start().await;
        world.pass(100_000);
        world.ticked().await;
        assert!(world.stored().contains(&"gone".to_owned()), "{:?}", world.stored());
        world.stop(vec![]).await;
    }
}
