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
        static MADE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    MADE.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            text.clear();
            let date = httpdate::HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(now));
            let _ = write!(text, "{date}");
            *second = now;
        }
        take(text);
    });
}
