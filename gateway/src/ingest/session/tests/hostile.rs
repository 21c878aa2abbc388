//! Conversations that were changed, and reads that are cut anywhere.

use super::*;

/// A conversation of valid packets.
fn conversation(version: Version) -> Vec<u8> {
    [
        connect_with_will(version, "s/will"),
        publish(version, QOS1, "s/a", 1, "one"),
        publish(version, QOS2, "json/a", 2, "{}"),
        packet(0x62, &[0, 2]),
        packet(
            0x82,
            &[&[0, 9][..], if version == Version::V5 { &[0] } else { &[] }, &text("a/#"), &[1]].concat(),
        ),
        packet(0xa2, &[&[0, 9][..], if version == Version::V5 { &[0] } else { &[] }, &text("a/#")].concat()),
        packet(0xc0, &[]),
        publish(version, 0, "tg/a/e", 0, "zero"),
        packet(0xe0, &[]),
    ]
    .concat()
}

/// Plays `bytes` cut into pieces, as reads would cut them; gives all output and what was stored.
fn play(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<String>) {
    let mut rig = Rig::new();
    let mut out = vec![];
    let mut held = vec![];
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() && !rig.session.has_ended() {
        let n = cuts.next().map_or(rest.len(), |&n| n.clamp(1, rest.len()));
        held.extend_from_slice(&rest[..n]);
        rest = &rest[n..];
        loop {
            let taken = rig.input(&held);
            held.drain(..taken);
            rig.append();
            out.extend(rig.commit(rig.appended as u64));
            if let Some(connect) = rig.session.take_connect() {
                rig.session.accept(rig.now, *connect, Opening::fresh("c".into()));
            } else if taken == 0 {
                break;
            }
        }
    }
    rig.session.handle_lost();
    rig.session.handle_end(rig.now, false, &mut rig.list);
    (out, rig.list.0)
}

proptest! {
    #[test]
    fn how_reads_cut_the_bytes_changes_nothing_that_is_stored(five: bool, cuts in prop::collection::vec(1usize..9, 1..9)) {
        let bytes = conversation(if five { Version::V5 } else { Version::V311 });
        let (_, stored) = play(&bytes, &cuts);
        let (_, whole) = play(&bytes, &[]);
        prop_assert_eq!(&stored, &whole);
        prop_assert_eq!(stored.len(), 4);
    }

    #[test]
    fn no_mutated_conversation_panics_or_acknowledges_more_than_it_stores(
        five: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cuts in prop::collection::vec(1usize..60, 1..4),
    ) {
        let mut bytes = conversation(if five { Version::V5 } else { Version::V311 });
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (_, stored) = play(&bytes, &cuts);
        prop_assert!(stored.len() <= bytes.len());
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, after_connect: bool, five: bool) {
        let version = if five { Version::V5 } else { Version::V311 };
        let mut all = if after_connect { connect(version, "c", 2, 0) } else { vec![] };
        all.extend(bytes);
        play(&all, &[]);
    }
}
