//! The `Date` of a response, made once a second.

use std::cell::RefCell;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::proxy::io::buffer::Buffer;

/// Writes the `Date` (RFC 9110 §6.6.1).
pub(crate) fn write_date(out: &mut Buffer) {
    with_date(|date| out.push_field("date", date.as_bytes()));
}

/// Calls `take` with the value of `Date`.
pub(crate) fn with_date(take: impl FnOnce(&str)) {
    thread_local! {
        static MADE: RefCell<Option<Made>> = const { RefCell::new(None) };
    }
    let now = SystemTime::now();
    MADE.with_borrow_mut(|made| {
        let current = made.take_if(|made| now < made.from || now >= made.until);
        let made = made.get_or_insert_with(|| Made::at(now, current));
        take(&made.text);
    });
}

/// A `Date`, and when it is the right one.
struct Made {
    from: SystemTime,
    until: SystemTime,
    text: String,
}

impl Made {
    /// That of now; `old` gives its memory.
    fn at(now: SystemTime, old: Option<Self>) -> Self {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut text = old.map_or_else(String::new, |old| old.text);
        text.clear();
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", httpdate::HttpDate::from(from));
        Self { from, until: from + Duration::from_secs(1), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_now_and_is_made_again_for_another_second() {
        let now = SystemTime::now();
        with_date(|date| {
            let date = httpdate::parse_http_date(date).unwrap();
            assert!(date <= SystemTime::now() && date + Duration::from_secs(1) > now);
        });
        let first = Made::at(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500), None);
        assert_eq!(first.text, "Thu, 01 Jan 1970 00:00:01 GMT");
        let until = first.until;
        let second = Made::at(until, Some(first));
        assert_eq!(second.text, "Thu, 01 Jan 1970 00:00:02 GMT");
    }
}
