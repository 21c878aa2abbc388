//! What a segment says of the journal's epochs (`journal/`). Pure.
//!
//! ```text
//!  epochs  1 … over │ open
//!          in segments │ begins behind this segment's rows; frames of it may be acknowledged
//! ```
//! A segment that notes no open epoch was written without a journal, or at a stop: nothing that was
//! acknowledged is anywhere but in segments.

/// Which epochs of the journal are over, and which one is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epochs {
    /// Epochs up to this one are in segments.
    pub over: u64,
    /// The journal has to know this epoch, and may hold frames of it; 0 for none.
    pub open: u64,
}
