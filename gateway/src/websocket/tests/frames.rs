//! Frames are taken apart where they lie, and what may not be sent is told by its cause and its
//! code.

use tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::websocket::frames::*;

/// What is left of one read, and what ended it.
fn take(bytes: &[u8]) -> (Vec<u8>, Option<End>) {
    let mut bytes = bytes.to_vec();
    let (kept, end) = Frames::new(Role::Server).take(&mut bytes);
    bytes.truncate(kept);
    (bytes, end)
}

#[test]
fn payloads_are_left_one_behind_the_other_and_heads_are_gone() {
    let read = [
        frame(FIN | BINARY, b"one "),
        frame(BINARY, b"t"),
        frame(FIN | PING, b"here?"),
        frame(CONTINUE, b""),
        frame(FIN | CONTINUE, b"wo "),
        frame(FIN | PONG, b"not asked for"),
        frame(FIN | BINARY, &[b'3'; 70_000]),
    ]
    .concat();
    let mut bytes = read.clone();
    let mut frames = Frames::new(Role::Server);
    let (kept, end) = frames.take(&mut bytes);
    assert_eq!(bytes[..kept], [&b"one two "[..], &[b'3'; 70_000]].concat());
    assert_eq!(end, None);
    assert_eq!(frames.take_ping().as_deref(), Some(&b"here?"[..]));
    assert_eq!(frames.take_ping(), None);
}

#[test]
fn what_a_client_may_not_send_has_its_close_code_and_what_came_before_it_counts() {
    let long = |last: u64| {
        let length: &[u8] = &last.to_be_bytes();
        [&[FIN | BINARY, 0xff][..], length, &MASK].concat()
    };
    let not_short = [&[FIN | BINARY, 0x80 | 126, 0, 5][..], &MASK, b"12345"].concat();
    let (protocol, unsupported) = (CloseCode::Protocol, CloseCode::Unsupported);
    for (bad, violation, code) in [
        (frame(FIN | TEXT, b"text"), Violation::Text, unsupported),
        (frame(TEXT, b""), Violation::Text, unsupported),
        (vec![FIN | BINARY, 1, 0], Violation::Unmasked, protocol),
        (frame(FIN | BINARY | 0x40, b"deflated"), Violation::Reserved, protocol),
        (frame(FIN | BINARY | 0x20, b""), Violation::Reserved, protocol),
        (frame(FIN | BINARY | 0x10, b""), Violation::Reserved, protocol),
        (frame(FIN | 0x3, b""), Violation::Opcode, protocol),
        (frame(FIN | 0xb, b""), Violation::Opcode, protocol),
        (long(1 << 63), Violation::Length, protocol),
        (long(u64::MAX), Violation::Length, protocol),
        (long(5), Violation::Length, protocol),
        (not_short, Violation::Length, protocol),
        (frame(FIN | PING, &[0; 126]), Violation::Control, protocol),
        (frame(FIN | CLOSE, &[0; 126]), Violation::Control, protocol),
        (frame(PING, b"split"), Violation::Control, protocol),
        (frame(FIN | CONTINUE, b"of what?"), Violation::Sequence, protocol),
        ([frame(BINARY, b""), frame(FIN | BINARY, b"")].concat(), Violation::Sequence, protocol),
        (frame(FIN | CLOSE, &[3]), Violation::CloseCode, protocol),
        (frame(FIN | CLOSE, &1005u16.to_be_bytes()), Violation::CloseCode, protocol),
        (frame(FIN | CLOSE, &999u16.to_be_bytes()), Violation::CloseCode, protocol),
        (frame(FIN | CLOSE, b"\x03\xe8\xff"), Violation::CloseReason, CloseCode::Invalid),
    ] {
        let read = [frame(FIN | BINARY, b"before"), bad, frame(FIN | BINARY, b"behind")].concat();
        assert_eq!(take(&read), (b"before".to_vec(), Some(End::Violation(violation))), "{violation:?}");
        assert_eq!(violation.code(), code, "{violation:?}");
    }
}

#[test]
fn a_close_frame_ends_the_input_with_its_code() {
    for (payload, code) in [
        (&b""[..], None),
        (b"\x03\xe8", Some(CloseCode::Normal)),
        (b"\x03\xe9going", Some(CloseCode::Away)),
        (b"\x0f\xa0", Some(CloseCode::Library(4000))),
    ] {
        let read = [frame(FIN | BINARY, b"last"), frame(FIN | CLOSE, payload)].concat();
        assert_eq!(take(&read), (b"last".to_vec(), Some(End::Closed(code))));
    }
}

#[test]
fn a_frame_of_any_length_that_may_be_goes_on_as_it_comes() {
    let mut bytes = [&[FIN | BINARY, 0xff][..], &(i64::MAX as u64).to_be_bytes(), &[0; 4], &[7; 99]].concat();
    let mut frames = Frames::new(Role::Server);
    assert_eq!(frames.take(&mut bytes), (99, None));
    assert_eq!(bytes[..99], [7; 99]);
    for _ in 0..1000 {
        assert_eq!(frames.take(&mut [8; 64]), (64, None));
    }
}
