//! When the end of a certificate is warned of, and in which words. Pure.

use super::summary::date;

/// From this many days before the end of a certificate on, it is warned of.
const EXPIRY_WARNING_DAYS: u64 = 30;
const DAY_S: u64 = 24 * 3600;

/// What is to be said of the end of a certificate, if it is near or over.
///
/// The number of days is part of the words, so that they are new, and logged, every day.
pub fn expiry(what: &str, not_after_s: u64, now_s: u64) -> Option<String> {
    let on = date(not_after_s);
    match not_after_s.checked_sub(now_s).map(|left_s| left_s / DAY_S) {
        None => Some(format!("{what} expired on {on}: renew it")),
        Some(days) if days < EXPIRY_WARNING_DAYS => {
            Some(format!("{what} expires in {days} days, on {on}: renew it"))
        }
        Some(_) => None,
    }
}

/// What is to be said of a certificate that is not good yet.
pub fn early(what: &str, not_before_s: u64, now_s: u64) -> Option<String> {
    let from = date(not_before_s);
    (not_before_s > now_s)
        .then(|| format!("{what} is not valid before {from}: is this machine's clock right?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_from_thirty_days_before_it_on() {
        let end = 100 * DAY_S;
        for (now_s, said) in [
            (end - 30 * DAY_S, None),
            (end - 30 * DAY_S + 1, Some("it expires in 29 days, on 1970-04-11T00:00:00Z: renew it")),
            (end - 6 * DAY_S, Some("it expires in 6 days, on 1970-04-11T00:00:00Z: renew it")),
            (end, Some("it expires in 0 days, on 1970-04-11T00:00:00Z: renew it")),
            (end + 1, Some("it expired on 1970-04-11T00:00:00Z: renew it")),
        ] {
            assert_eq!(expiry("it", end, now_s).as_deref(), said);
        }
    }
}
