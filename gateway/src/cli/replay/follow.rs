//! Starts a replay and follows it to its end. Ctrl-C cancels it.
//!
//! The replay is the gateway's, not this process's: one that is killed leaves it running, to be
//! seen at `/api/replay`. When the gateway goes away the replay has ended with it, and that is
//! said.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use super::{
    super::{Failure, ask::Gateway, runtime, stop_signal},
    show::{bar, line, verdict},
};
use crate::{
    http::{Progress, ReplayRequest, ReplayState},
    printable,
};

/// How often the gateway is asked while somebody looks on.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A line goes out after this many looks where nobody does.
const LOOKS_A_LINE: u32 = 20;

/// Starts a replay and waits for its end.
///
/// # Errors
/// [`Failure`]: it did not begin, or not every event was acknowledged.
pub(in super::super) fn follow(
    gateway: &Gateway,
    request: &ReplayRequest,
    json: bool,
) -> Result<(), Failure> {
    let body = serde_json::to_string(request)
        .map_err(|cause| Failure::Io(format!("the request cannot be written as JSON: {cause}")))?;
    let last = runtime()?.block_on(async {
        let signal = stop_signal();
        tokio::pin!(signal);
        // From here on Ctrl-C is ours: nothing was started yet.
        tokio::select! {
            biased;
            _ = &mut signal => return Err(Failure::Lost("cancelled before it began".to_owned())),
            () = std::future::ready(()) => {}
        }
        let mut progress: Progress = gateway.parse(&gateway.post("/api/replay", &body)?)?;
        let mut screen = Screen::new(json);
        let mut asked_to_end = false;
        while progress.state == ReplayState::Running {
            screen.show(&progress);
            let path = format!("/api/replay/{}", progress.id);
            let answer = tokio::select! {
                _ = &mut signal, if !asked_to_end => {
                    asked_to_end = true;
                    gateway.delete(&path)
                }
                () = tokio::time::sleep(LOOK_EVERY) => gateway.get(&path),
            };
            progress = gateway.parse(&answer.map_err(|why| gone(&progress, &why))?)?;
        }
        screen.end(&progress);
        Ok(progress)
    })?;
    if json {
        let text = serde_json::to_string(&last)
            .map_err(|cause| Failure::Io(format!("the progress cannot be written as JSON: {cause}")))?;
        say!("{text}");
    }
    verdict(&last).map_or(Ok(()), |why| Err(Failure::Lost(why)))
}

/// What it means that the gateway does not answer for a replay that it ran.
fn gone(last: &Progress, why: &Failure) -> Failure {
    let counted = &last.counted;
    Failure::Unavailable(format!(
        "the gateway does not know this replay any more ({why}): it has stopped or started anew, and the replay ended with it, \
         after {} of {} events found so far were acknowledged; start it again, copies have the same ids",
        counted.acknowledged_events, counted.matched_events
    ))
}

/// Where progress is shown: a bar on a terminal, a line now and then elsewhere, nothing for
/// scripts.
struct Screen {
    terminal: bool,
    silent: bool,
    looks: u32,
}

impl Screen {
    fn new(silent: bool) -> Self {
        Self { terminal: std::io::stderr().is_terminal(), silent, looks: 0 }
    }

    fn show(&mut self, progress: &Progress) {
        let mut out = std::io::stderr();
        if self.silent {
            return;
        }
        // Without somebody who looks on there is nobody to tell.
        if self.terminal {
            let _ = write!(out, "\r{}\x1b[K", printable::line(&bar(progress)));
        } else if self.looks.is_multiple_of(LOOKS_A_LINE) {
            let _ = writeln!(out, "{}", printable::line(&line(progress)));
        }
        let _ = out.flush();
        self.looks += 1;
    }

    fn end(&self, progress: &Progress) {
        if self.silent {
            return;
        }
        if self.terminal {
            let _ = writeln!(std::io::stderr(), "\r{}\x1b[K", printable::line(&bar(progress)));
        }
        say!("{}", super::show::summary(progress).trim_end());
    }
}
