//! Whatever way a stream of bytes is cut into frames, reads and writes, the same bytes arrive, and
//! every end has its close frame.

use std::task::{Context, Poll, Waker, ready};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::websocket::{frames::*, stream::Stream};

/// One frame of a client that cuts its bytes as it likes.
#[derive(Debug, Clone)]
enum Cut {
    /// So many bytes, and whether the message ends with them.
    Data(usize, bool),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn cuts() -> impl Strategy<Value = Vec<(Cut, [u8; 4])>> {
    let control = || prop::collection::vec(any::<u8>(), 0..=CONTROL_BYTES_MAX);
    let sizes = prop_oneof![4 => 0..10usize, 4 => 10..300usize, 1 => 65_000..70_000usize];
    let cut = prop_oneof![
        6 => (sizes, any::<bool>()).prop_map(|(bytes, ends)| Cut::Data(bytes, ends)),
        1 => control().prop_map(Cut::Ping),
        1 => control().prop_map(Cut::Pong),
    ];
    prop::collection::vec((cut, any::<[u8; 4]>()), 0..40)
}

/// What goes over the wire, which bytes are in it, and which pings.
fn cut(cuts: &[(Cut, [u8; 4])]) -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
    let (mut wire, mut stream, mut pings) = (vec![], vec![], vec![]);
    let mut in_message = false;
    for (cut, mask) in cuts {
        match cut {
            Cut::Data(bytes, ends) => {
                let start = stream.len();
                stream.extend((start..start + bytes).map(|at| (at * 7 + at / 251) as u8));
                let first = if in_message { CONTINUE } else { BINARY } | if *ends { FIN } else { 0 };
                in_message = !ends;
                wire.extend(frame_masked(first, &stream[start..], *mask));
            }
            Cut::Ping(payload) => {
                pings.push(payload.clone());
                wire.extend(frame_masked(FIN | PING, payload, *mask));
            }
            Cut::Pong(payload) => wire.extend(frame_masked(FIN | PONG, payload, *mask)),
        }
    }
    (wire, stream, pings)
}

/// Polls until it is done: the script is asked again, and not waited for.
pub fn drive<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = poll(&mut context) {
            return value;
        }
    }
    panic!("it never ends");
}

/// Reads to the end, `size` bytes at most at a time.
fn read_all(stream: &mut Stream<Script>, sizes: &[usize]) -> Vec<u8> {
    let mut read = vec![];
    for size in sizes.iter().cycle() {
        let mut memory = vec![0; *size];
        let mut buffer = ReadBuf::new(&mut memory);
        drive(|context| Pin::new(&mut *stream).poll_read(context, &mut buffer)).unwrap();
        if buffer.filled().is_empty() {
            break;
        }
        read.extend_from_slice(buffer.filled());
    }
    read
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_cut_of_a_stream_into_frames_and_reads_gives_the_same_bytes(
        cuts in cuts(),
        early in 0..100usize,
        came in prop::collection::vec(1..5000usize, 1..8),
        wanted in prop::collection::vec(1..5000usize, 1..8),
        takes in prop::collection::vec(0..9usize, 0..200),
    ) {
        let (wire, bytes, pings) = cut(&cuts);
        let (early, later) = wire.split_at(early.min(wire.len()));
        let io = Script { takes: takes.into(), ..Script::reading(later, &came) };
        let mut stream = Stream::server(io, early.to_vec());
        prop_assert_eq!(read_all(&mut stream, &wanted), bytes);
        prop_assert_eq!(stream.ended(), Some(End::Lost));
        drive(|context| Pin::new(&mut stream).poll_flush(context)).unwrap();
        // Pings are answered in their order, and those that a later one has overtaken are not.
        let mut asked = pings.iter();
        for (first, payload) in server_frames(&stream.below_mut().written) {
            prop_assert_eq!(first, FIN | PONG);
            prop_assert!(asked.any(|ping| *ping == payload));
        }
    }

    #[test]
    fn any_writes_that_are_taken_in_any_pieces_arrive_as_binary_frames(
        writes in prop::collection::vec((1..300usize, any::<bool>()), 1..20),
        takes in prop::collection::vec(0..50usize, 0..300),
        pings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..10), 20),
    ) {
        let io = Script { takes: takes.into(), ..Script::default() };
        let mut stream = Stream::server(io, vec![]);
        let mut written = vec![];
        for ((bytes, is_pinged), ping) in writes.into_iter().zip(pings) {
            if is_pinged {
                // It reads beside its writing, as a connection does.
                stream.below_mut().reads.push_back([frame(FIN | PING, &ping), frame(FIN | BINARY, b"in")].concat());
                let mut memory = [0; 10];
                let mut buffer = ReadBuf::new(&mut memory);
                drive(|context| Pin::new(&mut stream).poll_read(context, &mut buffer)).unwrap();
            }
            let start = written.len();
            written.extend((0..bytes).map(|at| at as u8));
            let mut at = start;
            while at < written.len() {
                at += drive(|context| Pin::new(&mut stream).poll_write(context, &written[at..])).unwrap();
            }
        }
        drive(|context| Pin::new(&mut stream).poll_shutdown(context)).unwrap();
        let mut frames = server_frames(&stream.below_mut().written);
        prop_assert_eq!(frames.pop(), Some((FIN | CLOSE, 1000u16.to_be_bytes().to_vec())));
        frames.retain(|(first, _)| *first != FIN | PONG);
        prop_assert!(frames.iter().all(|(first, _)| *first == FIN | BINARY));
        prop_assert_eq!(frames.into_iter().flat_map(|(_, payload)| payload).collect::<Vec<_>>(), written);
    }
}

#[tokio::test]
async fn every_end_has_its_close_frame() {
    for (last, code) in [
        (frame(FIN | TEXT, b"x"), &1003u16.to_be_bytes()[..]),
        (frame(FIN | CONTINUE, b"x"), &1002u16.to_be_bytes()),
        (frame(FIN | CLOSE, b"\x03\xe8\xff"), &1007u16.to_be_bytes()),
        (frame(FIN | CLOSE, b"\x03\xe9bye"), &1001u16.to_be_bytes()),
        (frame(FIN | CLOSE, b""), b""),
        (frame(FIN | BINARY, b"only lost"), &1000u16.to_be_bytes()),
    ] {
        let mut stream = Stream::server(Script::reading(&last, &[1]), vec![]);
        let mut read = vec![];
        stream.read_to_end(&mut read).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(stream.write(b"too late").await.is_err());
        assert_eq!(server_frames(&stream.below_mut().written), [(FIN | CLOSE, code.to_vec())]);
        assert!(stream.below_mut().is_shut);
    }
}

#[test]
fn a_frame_that_is_broken_off_is_not_followed_by_a_close_frame_that_would_be_its_payload() {
    let mut stream = Stream::server(Script { takes: [5].into(), ..Script::default() }, vec![]);
    let wrote = drive(|context| Pin::new(&mut stream).poll_write(context, b"0123456789")).unwrap();
    assert_eq!(wrote, 3, "behind a head of two bytes");
    drive(|context| Pin::new(&mut stream).poll_shutdown(context)).unwrap();
    assert_eq!(stream.below_mut().written, b"\x82\x0a012");
}

#[test]
fn pings_of_a_client_that_does_not_read_do_not_pile_up() {
    let pings: Vec<_> = (0..10_000u32).flat_map(|count| frame(FIN | PING, &count.to_be_bytes())).collect();
    let io = Script { takes: vec![0; 1_000_000].into(), ..Script::reading(&pings, &[64]) };
    let mut stream = Stream::server(io, vec![]);
    assert_eq!(read_all(&mut stream, &[64]), b"");
    stream.below_mut().takes.clear();
    drive(|context| {
        ready!(Pin::new(&mut stream).poll_write(context, b"x"))?;
        Pin::new(&mut stream).poll_flush(context)
    })
    .unwrap();
    let frames = server_frames(&stream.below_mut().written);
    assert!(frames.len() <= 3, "the first, the last and what was written: {}", frames.len());
    assert_eq!(frames[frames.len() - 2].1, 9_999u32.to_be_bytes());
}
