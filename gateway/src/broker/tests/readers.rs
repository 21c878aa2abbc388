//! A reader that reads loses nothing of a burst: it is waited for, and nobody waits for one that
//! does not read for long.

use std::{pin::pin, sync::atomic::Ordering, time::Duration};

use tokio::time::timeout;

use super::*;
use crate::broker::WAIT_MAX;

const COUNT: usize = 5000;
const LIMIT: Duration = Duration::from_secs(20);

fn lost(house: &House) -> u64 {
    house.broker.0.counts.queue_full.load(Ordering::Relaxed)
}

/// Reads all there is.
fn read(reader: &mut Session, now: Now) -> Vec<String> {
    let mut read = vec![];
    loop {
        let more = payloads(&out(reader, now));
        if more.is_empty() {
            return read;
        }
        read.extend(more);
    }
}

/// A publisher, a reader that keeps nothing, and what the publisher is to send with this QoS.
fn burst(qos: u8) -> (House, Session, Session, Vec<u8>) {
    let mut house = House::new(Settings { queued_messages_max: 2 * COUNT, ..Settings::default() });
    let (publisher, _) = house.connect_with("publisher", true, &[]);
    let (mut reader, _) = house.connect_with("reader", true, &[]);
    house.subscribe(&mut reader, "n", qos);
    let publish = |n: usize| {
        let id = (n as u16 + 1).to_be_bytes();
        let id = if qos == 0 { &[][..] } else { &id };
        packet(0x30 | qos << 1, &[&text("n"), id, &[0], n.to_string().as_bytes()].concat())
    };
    let input = (0..COUNT).flat_map(publish).collect();
    (house, publisher, reader, input)
}

/// The publisher goes on until it is held up, or has sent all. Gives the bytes.
async fn feed(house: &mut House, publisher: &mut Session, input: &[u8]) -> usize {
    let mut at = 0;
    while at < input.len() && !publisher.waits_for_reader() {
        let taken = publisher.handle_input(house.now, &input[at..], &mut house.rows);
        assert!(taken > 0, "it is neither held up nor goes on: {:?}", publisher.end());
        at += taken;
        publisher.give_way().await;
        publisher.handle_appended(0);
        publisher.handle_watermark(house.now, Default::default());
        out(publisher, house.now);
    }
    at
}

#[test]
fn messages_of_qos_0_are_bound_by_their_bytes_and_not_by_their_number() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 0);
    for n in 0..1501 {
        house.broker.route(&message("x", &n.to_string(), 0, false));
    }
    assert_eq!((lost(&house), read(&mut a, house.now).len()), (0, 1501));
    for _ in 0..10_000 {
        house.broker.route(&message("x", "x", 0, false));
    }
    assert!(lost(&house) > 5000, "{}", lost(&house));
}

#[tokio::test]
async fn a_burst_waits_for_a_reader_that_reads_and_reaches_it_whole() {
    let (mut house, mut publisher, mut reader, input) = burst(0);
    let (mut at, mut got, mut times) = (0, vec![], 0);
    while at < input.len() {
        at += feed(&mut house, &mut publisher, &input[at..]).await;
        if publisher.waits_for_reader() {
            times += 1;
            assert!(!publisher.wants_input());
            assert!(timeout(Duration::from_millis(1), publisher.caught_up()).await.is_err());
            got.extend(read(&mut reader, house.now));
            timeout(LIMIT, publisher.caught_up()).await.expect("the reader has read");
            publisher.handle_caught_up(house.now);
        }
    }
    got.extend(read(&mut reader, house.now));
    assert!(times > 1, "the burst is too small for this test");
    assert!(got.iter().enumerate().all(|(n, text)| *text == n.to_string()), "out of order");
    assert_eq!((got.len(), lost(&house)), (COUNT, 0));
}

#[tokio::test]
async fn a_reader_that_reads_wakes_whoever_waits_for_it_and_so_does_one_that_leaves() {
    for leaves in [false, true] {
        let (mut house, mut publisher, mut reader, input) = burst(0);
        feed(&mut house, &mut publisher, &input).await;
        let mailbox = house.broker.0.sessions.lock()["reader"].clone();
        let broker = house.broker.clone();
        let mut waiting = pin!(broker.caught_up(&mailbox));
        assert!(timeout(Duration::from_millis(1), waiting.as_mut()).await.is_err());
        if leaves {
            house.end(&mut reader);
        } else {
            read(&mut reader, house.now);
        }
        timeout(LIMIT, waiting).await.expect("it is over");
    }
}

#[tokio::test]
async fn one_who_does_not_read_holds_a_publisher_up_once_and_not_for_long() {
    let (mut house, mut publisher, mut reader, input) = burst(0);
    let mut at = feed(&mut house, &mut publisher, &input).await;
    assert!(publisher.waits_for_reader());
    house.now.at += WAIT_MAX - Duration::from_millis(1);
    publisher.handle_timeout(house.now);
    assert!(publisher.waits_for_reader());
    let until = publisher.poll_timeout().expect("it waits for a time");
    house.now.at = until;
    publisher.handle_timeout(house.now);
    assert!(!publisher.waits_for_reader() && publisher.wants_input() && !publisher.has_ended());
    at += feed(&mut house, &mut publisher, &input[at..]).await;
    assert_eq!(at, input.len(), "it is not waited for again");
    assert!(lost(&house) > 0);
    // It reads again, and is waited for again.
    read(&mut reader, house.now);
    let at = feed(&mut house, &mut publisher, &input).await;
    assert!(at < input.len() && publisher.waits_for_reader());
}

#[tokio::test]
async fn nobody_waits_for_its_own_acknowledgements() {
    let mut house = House::new(Settings::default());
    let (mut own, _) = house.connect_with("own", true, &[]);
    house.subscribe(&mut own, "n", 1);
    for n in 0..900_u16 {
        let publish = packet(0x32, &[&text("n")[..], &(n + 1).to_be_bytes(), &[0], b"x"].concat());
        house.input(&mut own, &publish);
        own.handle_watermark(house.now, Default::default());
        out(&mut own, house.now);
        assert!(!own.waits_for_reader(), "{n}");
        own.give_way().await;
    }
}
