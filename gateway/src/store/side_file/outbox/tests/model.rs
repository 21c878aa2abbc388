//! The book against a model of it.

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Put(u8, u8, u8),
    Delivered(u8, u8),
    Refused(u8, u8),
    Cancelled(u8, u8),
    Replied(u8, u8),
    Later(u16),
}

fn action() -> impl Strategy<Value = Action> {
    let place = || (0..3_u8, 0..5_u8);
    prop_oneof![
        4 => (place(), 0..2_u8).prop_map(|((device, id), payload)| Action::Put(device, id, payload)),
        2 => place().prop_map(|(device, id)| Action::Delivered(device, id)),
        1 => place().prop_map(|(device, id)| Action::Refused(device, id)),
        1 => place().prop_map(|(device, id)| Action::Cancelled(device, id)),
        2 => place().prop_map(|(device, id)| Action::Replied(device, id)),
        1 => (0..600_u16).prop_map(Action::Later),
    ]
}

/// How a command of this state goes on.
fn next(state: CommandState, action: &Action) -> CommandState {
    use CommandState::{Cancelled, Delivered, Expired, Failed, Pending, Replied};
    match (action, state) {
        (Action::Delivered(..), Pending | Expired | Cancelled) => Delivered,
        (Action::Refused(..), Pending | Expired | Cancelled) => Failed,
        (Action::Cancelled(..), Pending) => Cancelled,
        (Action::Replied(..), _) => Replied,
        (_, state) => state,
    }
}

proptest! {
    #[test]
    fn the_book_does_as_the_model_and_a_copy_of_what_was_touched_is_the_book(
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let (mut book, mut copy, mut now_ms) = (Book::new(BYTES_MAX), Book::new(BYTES_MAX), NOW_MS);
        // By device and id: payload, state, when it expires, and its place in the order.
        let mut model = BTreeMap::<(String, String), (u8, CommandState, u64, usize)>::new();
        for (order, action) in actions.iter().enumerate() {
            let place = match *action {
                Action::Put(d, i, _) | Action::Delivered(d, i) | Action::Refused(d, i)
                | Action::Cancelled(d, i) | Action::Replied(d, i) => Some((format!("d{d}"), format!("i{i}"))),
                Action::Later(_) => None,
            };
            if let Action::Later(minutes) = action {
                now_ms += u64::from(*minutes) * 60_000;
            }
            book.tidy(&at(now_ms));
            for of in model.values_mut() {
                if of.1 == CommandState::Pending && of.2 <= now_ms { of.1 = CommandState::Expired }
            }
            // What ended long ago is gone from both.
            model.retain(|(device, id), _| book.get(device, id).is_some());
            let Some((device, id)) = place else { continue };
            let known = model.get_mut(&(device.clone(), id.clone()));
            let change = match action {
                Action::Put(_, _, payload) => {
                    let put = book.put(&given(&device, &id, &[*payload]), &at(now_ms));
                    match known {
                        None => {
                            taken(put.unwrap());
                            let of = (*payload, CommandState::Pending, now_ms + EXPIRY_DEFAULT_MS, order);
                            model.insert((device.clone(), id.clone()), of);
                        }
                        Some(of) if of.0 == *payload => prop_assert!(is_known(&put.unwrap())),
                        Some(_) => prop_assert!(matches!(put, Err(PutError::Conflict { .. })), "a conflict"),
                    }
                    None
                }
                Action::Delivered(..) => Some(Change::Delivered { device: &device, id: &id }),
                Action::Refused(..) => Some(Change::Refused { device: &device, id: &id, reason: 0x80 }),
                Action::Cancelled(..) => Some(Change::Cancelled { device: &device, id: &id }),
                _ => Some(Change::Replied { device: &device, correlation: Some(id.as_bytes()), payload: b"r" }),
            };
            if let Some(change) = change {
                let known = model.get_mut(&(device.clone(), id.clone()));
                prop_assert_eq!(book.apply(&change, now_ms).is_some(), known.is_some());
                if let Some(of) = known { of.1 = next(of.1, action) }
            }
            for number in book.take_touched() { copy.copy(number, &book) }
        }
        for number in book.take_touched() { copy.copy(number, &book) }
        for book in [&book, &copy] {
            prop_assert_eq!(book.newest_first().count(), model.len());
            for ((device, id), of) in &model {
                let command = book.get(device, id).unwrap();
                prop_assert_eq!((command.payload[0], command.state), (of.0, of.1));
            }
            for device in ["d0", "d1", "d2"] {
                let mut expected: Vec<_> = model.iter()
                    .filter(|((of, _), (_, state, ..))| of == device && *state == CommandState::Pending)
                    .map(|((_, id), of)| (of.3, id.clone())).collect();
                expected.sort();
                let waiting: Vec<_> = book.pending(device).map(|command| command.id.clone()).collect();
                prop_assert_eq!(waiting, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
            }
        }
    }
}
