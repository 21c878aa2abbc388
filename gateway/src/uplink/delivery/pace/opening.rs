//! How wide a window opens, and how it goes on opening: wide soon, and after trouble by little.
//! Pure.
//!
//! ```text
//!  limit ┤                      ┌───────            ____----
//!        │              ┌───────┘           ___----'          by one for each window acknowledged
//!   half ┤        ┌─────┘             ┌----'
//!     16 ┤────────┘ doubles           │ too much: half
//!        └────────────────────────────┴──────────────────────▶ windows acknowledged
//! ```
//! A whole window at once would be discarded by an upstream that limits a rate, and come again. So
//! a new uplink's window begins at [`START`](Opening::START) and doubles with each that is
//! acknowledged; and by as much for each quarter of a second in which nothing is, for an upstream
//! whose acknowledgements take half a minute. Where it was too much, it halves, and opens again
//! slowly.

use std::time::Duration;

/// A window that is full opens after so long without an acknowledgement.
pub const OPENS_AFTER: Duration = Duration::from_millis(250);
/// Messages that a window has room for at first.
const FIRST: u16 = 16;
/// The least that trouble leaves.
const LEAST: u16 = 4;
/// A wary window opens by one for so many that are acknowledged.
const WARY_AFTER: usize = 4;

/// How wide a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Messages it may hold for now.
    open: u16,
    /// It opens fast up to here.
    fast_to: u16,
    /// Not as fast, for one event may be the matter.
    is_wary: bool,
    /// Acknowledged since it last opened.
    acked: usize,
}

impl Opening {
    /// Of an uplink that has not sent anything.
    pub const START: Self = Self { open: FIRST, fast_to: u16::MAX, is_wary: false, acked: 0 };

    /// As wide as it may ever be.
    #[cfg(test)]
    pub const WIDE: Self = Self { open: u16::MAX, ..Self::START };

    /// Messages it may hold for now.
    #[must_use]
    pub fn messages(self) -> u16 {
        self.open
    }

    /// No wider than this.
    #[must_use]
    pub fn at_most(self, limit: u16) -> Self {
        Self { open: self.open.min(limit), ..self }
    }

    /// Where one event was the matter: narrow at first, so that an upstream that one event stops is
    /// not sent a whole window of copies again and again.
    #[must_use]
    pub fn wary(self) -> Self {
        Self { open: self.open.min(LEAST), is_wary: true, ..self }
    }

    /// After it was too much.
    #[must_use]
    pub fn halved(self) -> Self {
        let half = (self.open / 2).max(LEAST);
        Self { open: half, fast_to: half, is_wary: false, acked: 0 }
    }

    /// For the next connection.
    #[must_use]
    pub fn carried(self) -> Self {
        Self { is_wary: false, acked: 0, ..self }
    }

    /// It may open with time, before anything is acknowledged.
    #[must_use]
    pub fn opens_with_time(self, limit: u16) -> bool {
        !self.is_wary && self.open < self.fast_to.min(limit)
    }

    /// It was full for [`OPENS_AFTER`], and nothing was acknowledged or is missing. Whether it
    /// opens.
    pub fn waited(&mut self, limit: u16) -> bool {
        let opens = self.opens_with_time(limit);
        if opens {
            self.open = self.open.saturating_add(FIRST).min(self.fast_to).min(limit);
        }
        opens
    }

    /// After an event that was suspected turned out to be sound.
    #[must_use]
    pub fn trusted(self) -> Self {
        Self { open: self.open.max(FIRST.min(self.fast_to)), is_wary: false, acked: 0, ..self }
    }

    /// So many of a window that was full were acknowledged.
    pub fn acked(&mut self, messages: usize, limit: u16) {
        self.acked += messages;
        let after = match () {
            () if self.open >= self.fast_to => self.open.into(),
            () if self.is_wary => WARY_AFTER,
            () => 1,
        };
        let opens = u16::try_from(self.acked / after).unwrap_or(u16::MAX);
        self.open = self.open.saturating_add(opens).min(limit);
        self.acked %= after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How wide it is after each of so many windows that were acknowledged whole.
    fn widths(mut opening: Opening, windows: usize) -> Vec<u16> {
        let widths = (0..windows).map(|_| {
            opening.acked(opening.open.into(), 100);
            opening.open
        });
        widths.collect()
    }

    #[test]
    fn a_window_doubles_at_first_and_grows_by_one_after_it_was_too_much() {
        assert_eq!(widths(Opening::START, 4), [32, 64, 100, 100]);
        let wide = Opening { open: 60, ..Opening::START };
        assert_eq!(wide.halved().messages(), 30);
        assert_eq!(widths(wide.halved(), 3), [31, 32, 33]);
        assert_eq!(widths(wide.wary(), 4), [5, 6, 7, 9], "one for four");
        assert_eq!(wide.halved().halved().halved().halved().halved().messages(), LEAST);
    }

    #[test]
    fn a_window_opens_with_time_unless_it_is_wary_or_was_too_much() {
        let mut opening = Opening::START;
        let widths: Vec<u16> = (0..4)
            .map(|_| {
                opening.waited(60);
                opening.open
            })
            .collect();
        assert_eq!(widths, [32, 48, 60, 60]);
        assert!(!opening.waited(60) && opening.waited(61));
        assert!(!opening.wary().waited(100) && !opening.halved().waited(100));
        assert_eq!(opening.wary().trusted(), Opening { open: FIRST, ..Opening::START });
    }

    #[test]
    fn it_opens_fast_to_where_it_was_half_of_too_much() {
        let wary = Opening { open: 20, ..Opening::START }.halved().wary();
        assert_eq!((wary.messages(), wary.fast_to), (4, 10));
        assert_eq!(widths(wary, 7), [5, 6, 7, 9, 11, 12, 13]);
    }
}
