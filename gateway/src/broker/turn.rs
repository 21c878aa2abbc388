//! Routing gives way: one block of the log, or one read of a socket, may hold a thousand messages,
//! each for many subscribers, and whoever has nothing to do with them is not to wait until all are
//! routed.

/// Copies that are routed before others get their turn: some 0.1 ms.
pub const COPIES_IN_A_TURN: usize = 512;

/// How long the broker has had a thread of the runtime.
#[derive(Debug, Default)]
pub(super) struct Turn {
    copies: usize,
}

impl Turn {
    /// A message was routed in so many copies.
    pub async fn took(&mut self, copies: usize) {
        self.copies += copies;
        if self.copies >= COPIES_IN_A_TURN {
            self.copies = 0;
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[tokio::test]
    async fn others_get_their_turn_before_many_copies_are_routed() {
        let (local, others) = (tokio::task::LocalSet::new(), Rc::new(Cell::new(0)));
        let counted = others.clone();
        local.spawn_local(async move {
            loop {
                counted.set(counted.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        let messages = async {
            let mut turn = Turn::default();
            for _ in 0..1000 {
                turn.took(28).await;
            }
        };
        local.run_until(messages).await;
        assert!(others.get() >= 1000 * 28 / (COPIES_IN_A_TURN + 28), "{} turns", others.get());
    }
}
