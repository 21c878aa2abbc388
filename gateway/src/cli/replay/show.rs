//! A replay's progress as people read it. Pure.

use super::super::people;
use crate::{
    http::{KindName, Progress, ReplayState},
    printable,
};

/// Characters of the bar.
const BAR_WIDTH: u64 = 24;

/// One line that fits a terminal: `[#####-----] 52 %  1,234 of 2,000 acknowledged`.
pub(super) fn bar(progress: &Progress) -> String {
    let counted = &progress.counted;
    // Looked through and sent are two ways to go: the bar is at its end when both are.
    let part = |done: u64, all: u64| if all == 0 { 1.0 } else { done as f64 / all as f64 };
    let settled = counted.acknowledged_events + counted.set_aside_events;
    let looked = part(counted.scanned_bytes, counted.total_bytes);
    let sent = if progress.request.dry_run { 1.0 } else { part(settled, counted.matched_events) };
    let done = if progress.state == ReplayState::Complete { 1.0 } else { (looked * sent).min(0.99) };
    let filled = (done * BAR_WIDTH as f64) as u64;
    let picture: String = (0..BAR_WIDTH).map(|at| if at < filled { '#' } else { '-' }).collect();
    format!("[{picture}] {:>3.0} %  {}", done * 100.0, line(progress))
}

/// The figures in a line.
pub(super) fn line(progress: &Progress) -> String {
    let counted = &progress.counted;
    let mut text = if progress.request.dry_run {
        format!("{} events found", people::count(counted.matched_events))
    } else {
        format!(
            "{} of {} events acknowledged",
            people::count(counted.acknowledged_events),
            people::count(counted.matched_events)
        )
    };
    if counted.set_aside_events > 0 {
        text += &format!(", {} refused", people::count(counted.set_aside_events));
    }
    if counted.unreadable_segments > 0 {
        text += &format!(", {} segments cannot be read", counted.unreadable_segments);
    }
    let waits = progress.state == ReplayState::Running && !progress.connected && !progress.request.dry_run;
    if let Some(error) = progress.last_error.as_ref().filter(|_| waits) {
        text += &format!(", no connection: {}", printable::line(error));
    }
    text
}

/// All that is to be said at the end.
pub(super) fn summary(progress: &Progress) -> String {
    let counted = &progress.counted;
    let how = match progress.state {
        ReplayState::Running => "is under way",
        ReplayState::Complete if progress.request.dry_run => "would send",
        ReplayState::Complete => "complete",
        ReplayState::Cancelled => "cancelled",
        ReplayState::Failed => "FAILED",
    };
    let mut text = format!("replay {} {how}: {}\n", progress.id, line(progress));
    for found in &counted.found {
        let kind = match found.kind {
            KindName::Frame => "frame",
            KindName::Json => "json",
            KindName::Text => "text",
            KindName::Opaque => "opaque",
        };
        let device = printable::line(&found.device);
        text += &format!("  {device:<32}  {kind:<6}  {:>12}\n", people::count(found.events));
    }
    if counted.found_other_events > 0 {
        text +=
            &format!("  {:<32}  {:<6}  {:>12}\n", "others", "", people::count(counted.found_other_events));
    }
    if counted.gone_records > 0 {
        let gone = people::count(counted.gone_records);
        text += &format!("{gone} records were let go of by the store before the replay came to them\n");
    }
    text
}

/// Why not every event was acknowledged; `None` if each was.
pub(super) fn verdict(progress: &Progress) -> Option<String> {
    let counted = &progress.counted;
    if progress.is_whole() {
        return None;
    }
    let missing = counted.matched_events.saturating_sub(counted.acknowledged_events);
    Some(match (progress.state, &progress.failure) {
        (_, Some(failure)) => format!("the replay could not go on: {}", printable::line(failure)),
        (ReplayState::Cancelled, _) => {
            format!(
                "the replay was cancelled: {} events found so far were not acknowledged",
                people::count(missing)
            )
        }
        _ if counted.unreadable_segments > 0 => format!(
            "{} segments could not be read, and what they hold was not sent: see the gateway's log",
            counted.unreadable_segments
        ),
        _ => format!(
            "{} events were refused by the upstream: see \"tidegate dead-letters list\"",
            people::count(missing)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Counted, Found, ReplayRequest, Stored, What};

    fn progress(state: ReplayState, dry_run: bool, counted: Counted) -> Progress {
        let what = What::Stored(Stored { from_ms: 0, to_ms: 1, device: None, kind: None });
        Progress {
            id: "abc".into(),
            request: ReplayRequest { uplink: "cloud".into(), what, dry_run, events_per_s: None },
            started_ms: 0,
            ended_ms: None,
            state,
            failure: None,
            connected: true,
            last_error: Some("connection refused".into()),
            counted,
        }
    }

    fn half() -> Counted {
        Counted {
            matched_events: 2_000,
            acknowledged_events: 1_000,
            scanned_bytes: 50,
            total_bytes: 50,
            ..Counted::default()
        }
    }

    #[test]
    fn the_bar_reaches_its_end_with_the_replay_and_not_before() {
        let running = |counted| progress(ReplayState::Running, false, counted);
        assert_eq!(
            bar(&running(half())),
            "[############------------]  50 %  1,000 of 2,000 events acknowledged"
        );
        let all = Counted { acknowledged_events: 2_000, ..half() };
        assert!(bar(&running(all.clone())).contains(" 99 %"));
        assert!(
            bar(&progress(ReplayState::Complete, false, all)).starts_with("[########################] 100 %")
        );
        let nothing = Counted { total_bytes: 10, ..Counted::default() };
        assert!(bar(&running(nothing)).contains("   0 %"));
    }

    #[test]
    fn a_line_says_what_holds_the_replay_up() {
        let waiting = Progress { connected: false, ..progress(ReplayState::Running, false, half()) };
        assert!(line(&waiting).ends_with(", no connection: connection refused"));
        let refused = Counted { set_aside_events: 3, unreadable_segments: 1, ..half() };
        let expected = "1,000 of 2,000 events acknowledged, 3 refused, 1 segments cannot be read";
        assert_eq!(line(&progress(ReplayState::Running, false, refused)), expected);
    }

    #[test]
    fn only_a_replay_whose_every_event_was_acknowledged_ends_well() {
        let all = Counted { acknowledged_events: 2_000, ..half() };
        for (state, dry_run, counted, why) in [
            (ReplayState::Complete, false, all.clone(), None),
            (ReplayState::Complete, true, half(), None),
            (ReplayState::Complete, false, half(), Some("1,000 events were refused")),
            (ReplayState::Cancelled, false, half(), Some("cancelled: 1,000 events")),
            (ReplayState::Cancelled, false, all.clone(), Some("cancelled")),
            (ReplayState::Complete, false, Counted { unreadable_segments: 2, ..all }, Some("2 segments")),
        ] {
            let said = verdict(&progress(state, dry_run, counted));
            match why {
                None => assert_eq!(said, None),
                Some(why) => assert!(said.as_ref().is_some_and(|said| said.contains(why)), "{said:?}"),
            }
        }
    }

    #[test]
    fn a_dry_run_says_what_it_found() {
        let found = vec![Found { device: "s\u{1b}3".into(), kind: KindName::Frame, events: 1_200 }];
        let counted = Counted { found, found_other_events: 5, matched_events: 1_205, ..half() };
        let expected = format!(
            "replay abc would send: 1,205 events found\n  {:<32}  frame          1,200\n  {:<32}                     5\n",
            "s\\u001b3", "others"
        );
        assert_eq!(summary(&progress(ReplayState::Complete, true, counted)), expected);
    }
}
