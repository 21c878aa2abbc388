//! Births, statuses and definitions: what is written is read again, and any other bytes are an
//! error that says where.

mod common;

use common::to_hex;
use proptest::prelude::*;
use tidegate_protocol::limits::{BIRTH_BYTES_MAX, DEFINITION_BYTES_MAX, KINDS_MAX, STATUS_BYTES_MAX};
use tidegate_protocol::{
    Birth, DefinitionHead, Kind, Kinds, MessageCause, MessageError, ResetReason, State, Status,
    birth_bytes_max,
};

const LOSS: Kind = Kind { name: "loss", version: 1, definition: b"\x01\x04loss\x01\x0d" };
const SOIL: Kind =
    Kind { name: "soil", version: 7, definition: b"\x01\x04soil\x07\x11\x01\x01m\x01%\xff\x03" };
const KINDS: &[Kind] = &[LOSS, SOIL];

fn birth() -> Birth<'static> {
    Birth {
        boot: 17,
        connection: 2,
        uptime_ms: 3_600_123,
        wall_ms: Some(1_763_000_000_000),
        reset: ResetReason::Watchdog,
        firmware: "greenhouse",
        version: "1.4.0",
        build: "a1b2c3d",
        kinds: Kinds::new(KINDS),
    }
}

fn written(birth: &Birth<'_>) -> Vec<u8> {
    let mut out = vec![0; BIRTH_BYTES_MAX];
    birth.write(&mut out).expect("a birth that may be written").to_vec()
}

fn status() -> Status {
    Status {
        boot: 17,
        connection: 2,
        state: State::Sleeping,
        uptime_ms: 3_600_123,
        wall_ms: None,
        next_contact_s: Some(900),
        battery_percent: Some(87),
        signal_dbm: Some(-71),
    }
}

fn status_bytes(status: &Status) -> Vec<u8> {
    status.write(&mut [0; STATUS_BYTES_MAX]).expect("room").to_vec()
}

#[test]
fn a_birth_has_these_bytes() {
    let expected = [
        "1200", // version 1, birth; no flags
        "11",
        "02",
        "fbdddb01",                         // boot 17, connection 2, uptime 3600123
        "0180bcf4d7a733",                   // wall_ms 1763000000000
        "04",                               // watchdog
        "0a677265656e686f757365",           // greenhouse
        "05312e342e30",                     // 1.4.0
        "0761316232633364",                 // a1b2c3d
        "02",                               // two kinds
        "0801046c6f7373010d",               // loss 1
        "0f0104736f696c071101016d0125ff03", // soil 7
    ]
    .concat();
    assert_eq!(to_hex(&written(&birth())), expected);
}

#[test]
fn a_birth_that_was_written_is_read_again() {
    let bytes = written(&birth());
    let read = Birth::parse(&bytes).unwrap();
    assert_eq!(read, birth());
    assert_eq!(read.kinds.len(), 2);
    assert_eq!(read.kinds.iter().collect::<Vec<_>>(), [LOSS.definition, SOIL.definition]);
    assert_eq!(written(&read), bytes, "and writing what was read gives the same bytes");
}

#[test]
fn a_birth_fits_in_the_room_that_is_known_beforehand() {
    let longest = "x".repeat(64);
    let birth = Birth {
        boot: u32::MAX,
        connection: u32::MAX,
        uptime_ms: u64::MAX,
        wall_ms: Some(u64::MAX),
        firmware: &longest,
        version: &longest[..32],
        build: &longest,
        ..birth()
    };
    // The definitions are short: a length of one byte where two are allowed for.
    assert_eq!(written(&birth).len() + KINDS.len(), birth_bytes_max(KINDS));
}

#[test]
fn a_birth_without_room_says_how_much_it_needs() {
    let needed = written(&birth()).len();
    for room in 0..needed {
        let failed = birth().write(&mut vec![0; room]).map(<[u8]>::len);
        assert_eq!(failed, Err(MessageError { at: 0, cause: MessageCause::BufferTooSmall { needed } }));
    }
}

#[test]
fn what_no_birth_may_say_is_not_written() {
    let refused = |birth: &Birth<'_>| birth.write(&mut [0; 4096]).unwrap_err().cause;
    assert_eq!(refused(&Birth { kinds: Kinds::new(&[]), ..birth() }), MessageCause::Kinds { found: 0 });
    assert_eq!(refused(&Birth { kinds: Kinds::new(&[SOIL, LOSS]), ..birth() }), MessageCause::FirstKind);
    let many = [LOSS; KINDS_MAX + 1];
    assert_eq!(refused(&Birth { kinds: Kinds::new(&many), ..birth() }), MessageCause::Kinds { found: 33 });
    let long = "x".repeat(65);
    assert_eq!(
        refused(&Birth { build: &long, ..birth() }),
        MessageCause::Length { bytes: 65, bytes_max: 64 }
    );
}

#[test]
fn a_status_has_these_bytes_and_is_read_again() {
    let bytes = status_bytes(&status());
    assert_eq!(
        to_hex(&bytes),
        ["1300", "11", "02", "02", "fbdddb01", "00", "018407", "0157", "01b9"].concat()
    );
    assert_eq!(Status::parse(&bytes), Ok(status()));
}

#[test]
fn an_error_says_where_it_is() {
    let bytes = written(&birth());
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Birth::parse(&bytes).map(|_| ()).map_err(|error| (error.at, error.cause))
    };
    assert_eq!(with(0, 0x22), Err((0, MessageCause::Version { found: 2 })));
    assert_eq!(with(0, 0x13), Err((0, MessageCause::MessageKind { found: 3, expected: 2 })));
    assert_eq!(with(1, 1), Err((1, MessageCause::Flags { found: 1 })));
    assert_eq!(with(8, 2), Err((8, MessageCause::Presence { found: 2 })));
    assert_eq!(with(15, 9), Err((15, MessageCause::Meaning { found: 9 })));
    assert_eq!(with(16, 65), Err((16, MessageCause::Length { bytes: 65, bytes_max: 64 })));
    assert_eq!(with(18, 0x1b), Err((16, MessageCause::Text)), "an escape is no text");
    assert_eq!(with(18, 0xff), Err((16, MessageCause::Text)));
    let kinds_at = bytes.len() - 9 - 16 - 1;
    assert_eq!(with(kinds_at, 0), Err((kinds_at, MessageCause::Kinds { found: 0 })));
    assert_eq!(with(kinds_at, 33), Err((kinds_at, MessageCause::Kinds { found: 33 })));
    assert_eq!(with(kinds_at, 1), Err((kinds_at + 10, MessageCause::Trailing { bytes: 16 })));
    assert_eq!(with(kinds_at + 2, 2), Err((kinds_at + 2, MessageCause::Format { found: 2 })));
    assert_eq!(with(kinds_at + 4, b'L'), Err((kinds_at + 3, MessageCause::KindName)));
    assert_eq!(with(kinds_at + 4, b'b'), Err((kinds_at + 1, MessageCause::FirstKind)));
    let battery_at = status_bytes(&status()).len() - 3;
    let mut bytes = status_bytes(&status());
    bytes[battery_at] = 101;
    let error = MessageError { at: battery_at, cause: MessageCause::Meaning { found: 101 } };
    assert_eq!(Status::parse(&bytes), Err(error));
    assert_eq!(error.to_string(), "byte 14: 101 stands for nothing here");
}

#[test]
fn every_message_that_is_cut_short_or_goes_on_is_an_error() {
    let (birth, status) = (written(&birth()), status_bytes(&status()));
    for bytes in 0..birth.len() {
        let error = Birth::parse(&birth[..bytes]).unwrap_err();
        assert_eq!(error, MessageError { at: bytes, cause: MessageCause::Truncated });
    }
    for bytes in 0..status.len() {
        let error = Status::parse(&status[..bytes]).unwrap_err();
        assert_eq!(error, MessageError { at: bytes, cause: MessageCause::Truncated });
    }
    let trailing = |at| MessageError { at, cause: MessageCause::Trailing { bytes: 1 } };
    assert_eq!(Birth::parse(&[birth.as_slice(), &[0]].concat()), Err(trailing(birth.len())));
    assert_eq!(Status::parse(&[status.as_slice(), &[0]].concat()), Err(trailing(status.len())));
}

#[test]
fn a_message_over_its_limit_is_not_read() {
    let long = |bytes, bytes_max| MessageError { at: 0, cause: MessageCause::TooLong { bytes, bytes_max } };
    let bytes = vec![0x12; BIRTH_BYTES_MAX + 1];
    assert_eq!(Birth::parse(&bytes), Err(long(bytes.len(), BIRTH_BYTES_MAX)));
    assert_eq!(Status::parse(&[0x13; 60]), Err(long(60, STATUS_BYTES_MAX)));
    let bytes = [1; DEFINITION_BYTES_MAX + 1];
    assert_eq!(DefinitionHead::parse(&bytes), Err(long(bytes.len(), DEFINITION_BYTES_MAX)));
}

prop_compose! {
    fn any_status()(
        numbers in (any::<u32>(), any::<u32>(), 0..4_u8, any::<u64>()),
        options in (any::<Option<u64>>(), any::<Option<u32>>(), prop::option::of(0..=100_u8), any::<Option<i8>>()),
    ) -> Status {
        let (boot, connection, state, uptime_ms) = numbers;
        let (wall_ms, next_contact_s, battery_percent, signal_dbm) = options;
        let state = State::from_number(state).expect("below 4");
        Status { boot, connection, state, uptime_ms, wall_ms, next_contact_s, battery_percent, signal_dbm }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_status_is_read_as_it_was_written(status in any_status()) {
        let bytes = status_bytes(&status);
        prop_assert_eq!(Status::parse(&bytes), Ok(status));
    }

    #[test]
    fn any_birth_is_read_as_it_was_written(
        numbers in (any::<u32>(), any::<u32>(), any::<u64>(), any::<Option<u64>>(), 0..9_u8),
        texts in ("[a-zäß0-9. -]{0,30}", "[a-z0-9.]{0,32}", "[a-f0-9]{0,64}"),
        more in 0..KINDS_MAX,
    ) {
        let (boot, connection, uptime_ms, wall_ms, reset) = numbers;
        let (firmware, version, build) = (&texts.0, &texts.1, &texts.2);
        let mut kinds = vec![SOIL; more + 1];
        kinds[0] = LOSS;
        let reset = ResetReason::from_number(reset).expect("below 9");
        let kinds = Kinds::new(&kinds);
        let birth = Birth { boot, connection, uptime_ms, wall_ms, reset, firmware, version, build, kinds };
        let bytes = written(&birth);
        prop_assert_eq!(Birth::parse(&bytes), Ok(birth));
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = DefinitionHead::parse(&bytes);
        for first in [0x12, 0x13] {
            let bytes = [&[first, 0], bytes.as_slice()].concat();
            // What is read is written as the same bytes: each message has one spelling.
            if let Ok(birth) = Birth::parse(&bytes) {
                prop_assert_eq!(written(&birth), bytes.clone());
            }
            if let Ok(status) = Status::parse(&bytes) {
                prop_assert_eq!(status_bytes(&status), bytes);
            }
        }
    }

    #[test]
    fn an_altered_birth_is_read_or_refused_without_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = written(&birth());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(birth) = Birth::parse(&bytes) {
            prop_assert_eq!(written(&birth), bytes);
        }
    }
}
