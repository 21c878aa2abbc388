//! Whether a connection leaves a last will. Pure.
//!
//! A broker whose rules forbid the will refuses the whole connection, or closes in the handshake.
//! For that no event waits: after a refusal the next connection is tried without a will, and after
//! one without a will with it again, so that a rule that is mended is found.

/// What is known of the upstream's mind about wills.
#[derive(Debug, Default)]
pub struct WillTrial {
    /// The next connection leaves none.
    is_left_out: bool,
    was_said: bool,
}

impl WillTrial {
    /// Whether the next connection leaves one.
    #[must_use]
    pub fn leaves(&self) -> bool {
        !self.is_left_out
    }

    /// The upstream refused the client: the will may be why, or not.
    pub fn refused(&mut self) {
        self.is_left_out = !self.is_left_out;
    }

    /// There is a connection. Whether it is to be said that it leaves no will: once.
    #[must_use]
    pub fn connected(&mut self) -> bool {
        let was_said = std::mem::replace(&mut self.was_said, self.is_left_out);
        self.is_left_out && !was_said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_tried_without_a_will_and_that_is_said_once_until_one_is_taken() {
        let mut trial = WillTrial::default();
        assert!(trial.leaves() && !trial.connected());
        trial.refused();
        assert!(!trial.leaves() && trial.connected() && !trial.connected());
        trial.refused();
        assert!(trial.leaves());
        trial.refused();
        assert!(!trial.leaves() && !trial.connected(), "it was said");
        trial.refused();
        assert!(trial.leaves() && !trial.connected());
        trial.refused();
        assert!(trial.connected(), "it took one meanwhile");
    }
}
