//! Makes the stores of a release: two sealed segments and an active one, every kind of record,
//! pending QoS 2 ids, a cursor in the first segment, and one event set aside. It stays as it is:
//! what a later format adds, a later maker adds.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};
use tidegate::store::{Batch, Kind, LetterReason, NewLetter, ReasonCode, Record, Store};

use super::{UPLINK, append, frame, listed, next, open, packed};

/// When the first record was received, in milliseconds since 1970.
const FIRST_MS: u64 = 1_790_000_000_000;
/// Where the cursor stands.
const RELEASED: u64 = 4;
/// The event that is set aside.
const ASIDE: u64 = 1;
/// Content type, and a user property, as they travel.
const PROPERTIES: &[u8] = b"\x03\x00\x10application/json\x26\x00\x04zone\x00\x04hall";

/// Makes both stores in `release`.
pub async fn make(release: &Path) {
    for (name, crashed) in [("clean", false), ("crashed", true)] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let mut records = fill(&store).await;
        let mut expected = listed::status(&store.status());
        assert_eq!(expected["segments"], 3);
        if crashed {
            store.crash();
        } else {
            store.close();
        }
        for (offset, record) in records.iter_mut().enumerate() {
            assert_eq!(record["offset"], offset);
        }
        expected["released"] = json!(RELEASED);
        expected["pending"] = json!([["meter", 7], ["meter", 9]]);
        expected["aside"] = json!([{ "uplink": UPLINK, "offset": ASIDE, "reason": "too large" }]);
        expected["records"] = Value::Array(records);
        let place = release.join(name);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("store.packed"), packed::pack(folder.path(), &["LOCK"])).unwrap();
        let text = serde_json::to_string_pretty(&expected).unwrap();
        std::fs::write(place.join("expected.json"), text + "\n").unwrap();
    }
}

/// Fills an empty store, and lists what is in it.
async fn fill(store: &Store) -> Vec<Value> {
    let mut records = Vec::new();
    for segment in 0..3 {
        for part in 0..4_u32 {
            let mut batch = Batch::default();
            for within in 0..2 {
                push(&mut batch, &mut records, segment, part * 2 + within);
            }
            append(store, &mut batch).await;
        }
        if segment == 0 {
            let mut reader = store.reader(UPLINK).unwrap();
            while reader.position() < RELEASED {
                let block = next(&mut reader).await;
                if let Some((offset, aside)) = block.records_from(ASIDE).next().filter(|(at, _)| *at == ASIDE)
                {
                    let letter = NewLetter::new(
                        offset,
                        &aside,
                        LetterReason::new(ReasonCode::TooLong, "too large"),
                        1,
                    );
                    reader.add_dead_letters(Arc::new(vec![letter])).await.unwrap();
                }
            }
            // Before the segment is sealed: the next one begins with it.
            reader.release(RELEASED);
        }
        if segment < 2 {
            let filler = "x".repeat(super::SEGMENT_BYTES as usize);
            let mut batch = Batch::default();
            let record = Record { payload: filler.as_bytes(), ..plain("plant/filler", b"") };
            note(&mut records, &record);
            batch.push(&record);
            append(store, &mut batch).await;
        }
    }
    records
}

fn push(batch: &mut Batch, records: &mut Vec<Value>, segment: u32, part: u32) {
    let received_ms = FIRST_MS + u64::from(segment * 1_000 + part);
    let text = format!("{{\"segment\":{segment},\"part\":{part}}}");
    let (topic, payload) = frame("press-1", 1, segment * 20 + part * 2);
    let plain = Record { received_ms, ..plain("plant/door", text.as_bytes()) };
    let record = match part {
        0 | 4 => Record { kind: Kind::Frame, events: 2, topic: &topic, payload: &payload, ..plain },
        1 => Record { kind: Kind::Json, properties: PROPERTIES, topic: "plant/json", ..plain },
        2 => Record { urgent: true, topic: "plant/alarm", ..plain },
        3 => Record { retain: true, payload: b"", topic: "plant/gr\u{fc}n", ..plain },
        5 => Record { client: "meter", topic: "plant/meter", ..plain },
        _ => plain,
    };
    note(records, &record);
    match (segment, part) {
        (0, 5) => batch.push_exactly_once(&record, 7),
        (1, 5) => {
            batch.push_exactly_once(&record, 8);
            batch.push_release("meter", 8);
        }
        (2, 5) => batch.push_exactly_once(&record, 9),
        _ => batch.push(&record),
    }
}

fn plain<'a>(topic: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record { events: 1, qos: 0, received_ms: FIRST_MS, client: "plc-1", topic, payload, ..Record::default() }
}

fn note(records: &mut Vec<Value>, record: &Record<'_>) {
    records.push(listed::record(records.len() as u64, record));
}
