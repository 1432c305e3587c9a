//! Fields of an imported file: what they must be, and how they are cited.

use std::time::Duration;

use super::page::quoted;
use crate::config::{ImportedValue, Period};

/// Why a file cannot be imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// In which file; empty: in none of them.
    pub(super) file: String,
    /// Where, from 1.
    pub(super) line: u32,
    /// What, and what to do.
    pub(super) what: String,
}

impl Wrong {
    pub(super) fn at(node: &ImportedValue, what: impl Into<String>) -> Self {
        Self { file: node.file().to_owned(), line: node.line, what: what.into() }
    }

    /// There is nothing of that kind to import.
    pub(super) fn nothing(documents: &[ImportedValue], kind: &str) -> Self {
        let what = format!("there is no {kind} in what is imported; it has a line `kind: {kind}`");
        match documents.first() {
            Some(document) => Self::at(document, what),
            None => Self { file: String::new(), line: 1, what },
        }
    }
}

/// A text of the imported file in a comment.
pub(super) fn printed(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Where a value stands of which something is carried over, for a sentence on how.
pub(super) fn cite(value: &ImportedValue) -> String {
    format!("{}:{} (`{}`)", printed(value.file()), value.line, value.path())
}

/// Where a value stands that a sentence names whole: its path, file and line.
pub(super) fn place(value: &ImportedValue) -> String {
    format!("`{}` ({}:{})", value.path(), printed(value.file()), value.line)
}

/// A sentence on a value that is not carried over, with all that is in it.
pub(super) fn left(value: &ImportedValue, why: &str) -> String {
    value.name_all();
    format!("{} {why}.", place(value))
}

/// A sentence on everything below `node` that nobody has asked for; none if there is nothing.
pub(super) fn unknown(node: &ImportedValue) -> Option<String> {
    let unseen = node.unseen();
    unseen.iter().for_each(|value| value.name_all());
    let places: Vec<String> = unseen.into_iter().map(place).collect();
    (!places.is_empty()).then(|| format!("Left out, for Weir has nothing like it: {}.", places.join(", ")))
}

/// A field that is a single value, if it is there.
pub(super) fn text<'f>(node: &'f ImportedValue, field: &str) -> Result<Option<&'f str>, Wrong> {
    let wrong = |value: &ImportedValue| Wrong::at(value, format!("`{field}` is not a single value"));
    node.get(field).map(|value| value.text().ok_or_else(|| wrong(value))).transpose()
}

/// A field that is a list; none if it is not there.
pub(super) fn list<'f>(node: &'f ImportedValue, field: &str) -> Result<&'f [ImportedValue], Wrong> {
    let wrong = |value: &ImportedValue| Wrong::at(value, format!("`{field}` is not a list"));
    node.get(field).map_or(Ok(&[]), |value| value.items().ok_or_else(|| wrong(value)))
}

/// Whether a field is there and says yes.
pub(super) fn flag(node: &ImportedValue, field: &str) -> Result<Option<bool>, Wrong> {
    let (Some(written), Some(value)) = (text(node, field)?, node.get(field)) else { return Ok(None) };
    match written.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(Some(true)),
        "false" | "no" | "off" => Ok(Some(false)),
        _ => Err(Wrong::at(value, format!("`{field}` is {}; `true` or `false` is expected", quoted(written)))),
    }
}

/// A field that is a number, with its node.
pub(super) fn number<'f>(node: &'f ImportedValue, field: &str) -> Result<Option<(f64, &'f ImportedValue)>, Wrong> {
    let (Some(written), Some(value)) = (text(node, field)?, node.get(field)) else { return Ok(None) };
    match written.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some((number, value))),
        _ => Err(Wrong::at(value, format!("`{field}` is {}, which is no number", quoted(written)))),
    }
}

/// A field that is a whole number from 0 on.
pub(super) fn whole_number(node: &ImportedValue, field: &str, most: u32) -> Result<Option<u32>, Wrong> {
    let Some((found, value)) = number(node, field)? else { return Ok(None) };
    let fitting = value.text().and_then(|text| text.parse().ok()).filter(|number| *number <= most);
    let wrong = || Wrong::at(value, format!("`{field}` is {found}; a whole number from 0 to {most} is expected"));
    fitting.map(Some).ok_or_else(wrong)
}

/// A field that is a length of time as Go writes it, such as `30s`, `1m30s` or `0.5m`.
pub(super) fn duration(node: &ImportedValue, field: &str) -> Result<Option<Period>, Wrong> {
    let (Some(written), Some(value)) = (text(node, field)?, node.get(field)) else { return Ok(None) };
    let wrong = || Wrong::at(value, format!("`{field}` is {}; expected a time such as 30s or 1m30s", quoted(written)));
    go_duration(written).map(Some).ok_or_else(wrong)
}

/// A length of time that Weir takes between these bounds, and a comment where that changes it.
pub(super) fn bounded(
    value: &ImportedValue,
    time: Period,
    (least, most): (Period, Period),
) -> (Period, Option<String>) {
    let taken = time.clamp(least, most);
    let comment = || format!("{} is {time}; Weir takes {least} to {most}.", place(value));
    (taken, (taken != time).then(comment))
}

/// The units of a length of time, in seconds: those of Go, then those that Prometheus has besides.
const UNITS: [(&str, f64); 9] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3_600.0),
    ("d", 86_400.0),
    ("w", 604_800.0),
];

/// A length of time as Go writes it: numbers, with or without a fraction, each with its unit.
pub(super) fn go_duration(text: &str) -> Option<Period> {
    let (mut rest, mut seconds) = (text, 0.0);
    if rest.is_empty() || rest == "0" {
        return (rest == "0").then_some(Period::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit)?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    let milliseconds = Duration::try_from_secs_f64((seconds * 1e3).round() / 1e3).ok()?.as_millis();
    u64::try_from(milliseconds).ok().map(Period::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_read_as_go_does() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("0.5m", 30_000),
            ("1.5h", 5_400_000),
            ("1h0m0s", 3_600_000),
            ("250ms", 250),
            ("1500us", 2),
            ("0", 0),
            ("1d", 86_400_000),
        ] {
            assert_eq!(go_duration(text), Some(Period::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "30", "s", "1 m", "-1m", "1x", "1.2.3s", "1min", "99999999999999999999h"] {
            assert_eq!(go_duration(wrong), None, "{wrong}");
        }
    }
}
