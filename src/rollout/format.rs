//! How verdicts write numbers: in one way everywhere.
//!
//! Counts have thousands separators, measured shares two decimals, limits as many decimals as they were given, and
//! durations the unit an operator would use. A blank stands between a number and its unit.

use std::time::Duration;

/// Characters of text from outside that go into a sentence.
const MAX_QUOTED_CHARS: usize = 200;

/// A count with thousands separators: `16,410`.
pub(super) fn count(count: u64) -> String {
    separated(&count.to_string())
}

/// So many of so many, and their share with two decimals: `14 of 820 (1.71 %)`. What else there is to say about them,
/// such as `of which 3 connect`, goes into the brackets.
pub(super) fn part_of(part: u64, whole: u64, more: &str) -> String {
    if whole == 0 {
        return "no requests".to_owned();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    let comma = if more.is_empty() { "" } else { ", " };
    format!("{} of {} ({percent:.2} %{comma}{more})", count(part), count(whole))
}

/// So many and what they are: `1 request`, `1,250 requests`.
pub(super) fn requests(requests: u64) -> String {
    format!("{} {}", count(requests), if requests == 1 { "request" } else { "requests" })
}

/// A number as it was given, up to six decimals: `0.5`, `1,250`. Very large and very small ones as powers of ten.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size >= 1e15 || (size > 0.0 && size < 1e-6) {
        return format!("{value:e}");
    }
    let text = format!("{value:.6}");
    separated(text.trim_end_matches('0').trim_end_matches('.'))
}

/// A limit in percent: `1 %`, `99.95 %`.
pub(super) fn percent(value: f64) -> String {
    format!("{} %", number(value))
}

/// The chance of an error of the judge, as far as it matters: `0.0042`, `< 0.0001`.
pub(super) fn chance(chance: f64) -> String {
    if chance < 0.000_1 { "< 0.0001".to_owned() } else { number((chance * 1e4).round() / 1e4) }
}

/// One line of text from outside, at most 200 characters of it.
pub(super) fn line(text: &str) -> String {
    let mut words = String::new();
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|w| !w.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if words.chars().nth(MAX_QUOTED_CHARS).is_some() {
            return words.chars().take(MAX_QUOTED_CHARS).chain(['…']).collect();
        }
    }
    words
}

/// A quantile as it is spoken of: 0.99 is `p99`, 0.999 is `p99.9`.
pub(super) fn quantile(quantile: f64) -> String {
    format!("p{}", number((quantile * 1e8).round() / 1e6))
}

/// A duration: `4.2 ms`, `612 ms`, `1.25 s`, `60 s`, `2m00s`, `1h05m`.
pub(super) fn duration(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_secs_f64() * 1e3, duration.as_secs_f64());
    match seconds {
        ..0.01 => format!("{} ms", number((millis * 10.0).round() / 10.0)),
        ..0.9995 => format!("{millis:.0} ms"),
        ..9.995 => format!("{} s", number((seconds * 100.0).round() / 100.0)),
        // A window of a minute is a little longer or shorter than that; it is 60 s all the same.
        ..61.5 => format!("{seconds:.0} s"),
        _ => long(duration.as_secs() + u64::from(duration.subsec_millis() >= 500)),
    }
}

fn long(seconds: u64) -> String {
    if seconds < 3_600 {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60)
    }
}

/// Thousands separators in the whole part of a decimal number.
fn separated(number: &str) -> String {
    let (whole, part) = number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
    let mut text = String::with_capacity(number.len() + number.len() / 3);
    for (at, letter) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if letter.is_ascii_digit() && left.is_multiple_of(3) && text.ends_with(|last: char| last.is_ascii_digit()) {
            text.push(',');
        }
        text.push(letter);
    }
    if let Some(part) = part {
        text.push('.');
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        let texts: Vec<String> = [0, 7, 999, 1_000, 16_410, 1_234_567].map(count).into();
        assert_eq!([requests(1), requests(1_250)], ["1 request", "1,250 requests"]);
        assert_eq!(texts, ["0", "7", "999", "1,000", "16,410", "1,234,567"]);
    }

    #[test]
    fn numbers_are_written_as_they_were_given() {
        let given = [1.0, 0.5, 99.95, -1250.25, 0.0, 1e-9, 1e20, 0.1 + 0.2, -100.0];
        let texts: Vec<String> = given.map(number).into();
        assert_eq!(texts, ["1", "0.5", "99.95", "-1,250.25", "0", "1e-9", "1e20", "0.3", "-100"]);
        assert_eq!([0.5, 0.9, 0.99, 0.999, 1.0].map(quantile), ["p50", "p90", "p99", "p99.9", "p100"]);
    }

    #[test]
    fn shares_have_two_decimals() {
        assert_eq!(part_of(14, 820, ""), "14 of 820 (1.71 %)");
        assert_eq!(part_of(4, 1_000, "of which 3 connect"), "4 of 1,000 (0.40 %, of which 3 connect)");
        assert_eq!(part_of(0, 0, ""), "no requests");
    }

    #[test]
    fn text_from_outside_is_one_short_line() {
        assert_eq!(line("  the\r\n database\u{1b}[31m\tis   slow "), "the database [31m is slow");
        assert_eq!(line(&"é".repeat(100_000)).chars().count(), 201);
        assert_eq!(line(&"word ".repeat(100)).chars().count(), 201);
        assert_eq!(line(&"x".repeat(200)).len(), 200);
    }

    #[test]
    fn chances_are_as_fine_as_matters() {
        assert_eq!(
            [1.0, 0.01, 0.004_23, 0.000_1, 0.000_01, 0.0].map(chance),
            ["1", "0.01", "0.0042", "0.0001", "< 0.0001", "< 0.0001"]
        );
    }

    #[test]
    fn durations_have_the_unit_that_is_read_most_easily() {
        let texts =
            [0.0, 0.0042, 0.0099, 0.5, 0.61234, 0.9996, 1.25, 9.999, 60.4, 61.4, 120.0, 125.6, 3_900.0, 90_000.0]
                .map(|seconds| duration(Duration::from_secs_f64(seconds)));
        let want = [
            "0 ms", "4.2 ms", "9.9 ms", "500 ms", "612 ms", "1 s", "1.25 s", "10 s", "60 s", "61 s", "2m00s", "2m06s",
            "1h05m", "25h00m",
        ];
        assert_eq!(texts, want);
    }
}
