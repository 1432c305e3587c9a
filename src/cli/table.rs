//! The status as text for a person.
//!
//! Pure: from the API's JSON and the time to text with colours, which the writer strips where nobody looks.
//!
//! Invariant: what comes from outside (names, reasons, errors) is written without control characters; a status
//! cannot drive a terminal.

mod health;

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};

use crate::admin::wire::{
    CohortStatus, DrainStatus, DrillStatus, EndpointStatus, NameStatus, RefusedCommand, ServiceStatus, ShiftStatus,
    Status, VersionStatus,
};

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const CAUTION: Style = AnsiColor::Yellow.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const PLAIN: Style = Style::new();

/// The whole status. `now` is in seconds since the Unix epoch.
pub(super) fn render(status: &Status, now: u64) -> String {
    let mut out = head(status);
    for service in &status.services {
        out.push('\n');
        out.push_str(&render_service(service, now));
    }
    if status.services.is_empty() {
        out.push_str("\nno services\n");
    }
    out
}

fn head(status: &Status) -> String {
    let state = paint(state_style(&status.state), &clean(&status.state));
    let mut out = format!(
        "{} {state}, pid {}, up {}, revision {}\n",
        paint(BOLD, &format!("weir {}", clean(&status.build.version))),
        status.pid,
        span(status.uptime_seconds),
        status.revision
    );
    let path = clean(&status.config.path);
    match &status.config.errors {
        None => out.push_str(&format!("file {path}\n")),
        Some(errors) => out.push_str(&faults(&format!("file {path} is refused:"), errors.lines())),
    }
    let faulty = &status.config.faulty_certificates;
    if !faulty.is_empty() {
        out.push_str(&faults("faulty certificates; all else is served:", faulty.iter().map(|line| &**line)));
    }
    for listener in &status.listeners {
        let connections = count(listener.connections, "connection");
        out.push_str(&format!("listener {} on {}, {connections}\n", clean(&listener.name), clean(&listener.address)));
    }
    for name in &status.names {
        out.push_str(&name_line(name));
    }
    if let Some(telemetry) = &status.telemetry {
        out.push_str(&format!("telemetry on {}\n", clean(telemetry)));
    }
    out
}

/// A DNS name that cannot be looked up; nothing of one that can.
fn name_line(name: &NameStatus) -> String {
    let Some(error) = &name.error else { return String::new() };
    let known = match name.age_seconds {
        Some(age) => {
            let plural = if name.addresses == 1 { "" } else { "es" };
            format!("{} address{plural} from {} ago in use", name.addresses, span(age))
        }
        None => "no address yet".to_owned(),
    };
    format!("{}\n", paint(BAD, &format!("name {}: {known}: {}", clean(&name.name), clean(error))))
}

fn faults<'a>(headline: &str, lines: impl Iterator<Item = &'a str>) -> String {
    let mut out = format!("{}\n", paint(BAD, headline));
    for line in lines.take(ERROR_LINES) {
        out.push_str(&format!("  {}\n", clean(line)));
    }
    out
}

/// Lines of the errors of a refused file, and of faulty certificates, that are shown; `weir check` shows all.
const ERROR_LINES: usize = 20;

const COLUMNS: [&str; 12] = [
    "VERSION",
    "STATE",
    "CONFIGURED",
    "EFFECTIVE",
    "OBSERVED",
    "REQ/S",
    "ERRORS",
    "P50",
    "P95",
    "P99",
    "IN FLIGHT",
    "STREAMS",
];
/// Columns of words; all others are numbers and stand on the right.
const WORDS: usize = 2;

type Cell = (Style, String);

/// A line for each cohort: who gets what of it.
fn cohort_lines(service: &ServiceStatus, now: u64) -> String {
    let weights = |cohort: &CohortStatus| {
        let shown = cohort.weights.iter().filter(|(_, weight)| **weight > 0.0);
        shown.map(|(version, weight)| format!("{} {}", clean(version), percent(*weight))).collect::<Vec<_>>().join(", ")
    };
    let line = |cohort: &CohortStatus| {
        let over =
            cohort.shift.as_ref().map(|shift| paint(CAUTION, &format!(" ({})", shift_line(shift, service, now))));
        format!("  cohort {}: {}{}\n", clean(&cohort.name), weights(cohort), over.unwrap_or_default())
    };
    service.cohorts.iter().map(line).collect()
}

fn render_service(service: &ServiceStatus, now: u64) -> String {
    let mut out = format!("{}\n", paint(BOLD, &clean(&service.name)));
    if let Some(shift) = &service.shift {
        out.push_str(&format!("  {}\n", paint(CAUTION, &shift_line(shift, service, now))));
    }
    if let Some(behind) = &service.behind {
        out.push_str(&format!("  {}\n", paint(CAUTION, &clean(behind))));
    }
    if let Some(refused) = &service.refused_command {
        out.push_str(&format!(
            "  {}\n",
            paint(CAUTION, &refused_line(refused, &ago(now.saturating_sub(refused.at_ms / 1_000))))
        ));
    }
    out.push_str(&cohort_lines(service, now));
    let rows: Vec<[Cell; 12]> = service.versions.iter().map(row).collect();
    let header = COLUMNS.map(|title| (DIM, title.to_owned()));
    let mut widths = COLUMNS.map(width);
    for row in &rows {
        for (widest, (_, text)) in widths.iter_mut().zip(row) {
            *widest = width(text).max(*widest);
        }
    }
    out.push_str(&line(&header, &widths));
    let endpoints = service.versions.iter().flat_map(|version| &version.endpoints);
    let name_width = endpoints.map(|endpoint| width(&clean(&endpoint.name))).max().unwrap_or(0);
    for (version, row) in service.versions.iter().zip(&rows) {
        out.push_str(&line(row, &widths));
        if let Some(drill) = &version.drill {
            out.push_str(&format!("    {}\n", paint(CAUTION, &drill_line(drill))));
        }
        if version.min_ready > 0 {
            let VersionStatus { ready, min_ready, .. } = version;
            let style = if ready < min_ready { BAD } else { DIM };
            out.push_str(&format!("    {}\n", paint(style, &format!("{ready} ready, min_ready {min_ready}"))));
        }
        for endpoint in &version.endpoints {
            out.push_str(&endpoint_line(endpoint, name_width));
        }
    }
    out
}

fn row(version: &VersionStatus) -> [Cell; 12] {
    let plain = |text: String| (PLAIN, text);
    let latency = |ms: Option<f64>| plain(ms.map_or_else(none, milliseconds));
    let errors = match version.error_rate {
        None => plain(none()),
        Some(rate) => (if rate > 0.0 { BAD } else { PLAIN }, format!("{rate:.2}%")),
    };
    [
        (BOLD, clean(&version.name)),
        (state_style(&version.state), clean(&version.state)),
        plain(percent(version.configured)),
        plain(percent(version.effective)),
        plain(version.observed.map_or_else(none, percent)),
        plain(format!("{:.1}", version.requests_per_second)),
        errors,
        latency(version.p50_ms),
        latency(version.p95_ms),
        latency(version.p99_ms),
        plain(version.in_flight.to_string()),
        plain(version.streams.values().sum::<u64>().to_string()),
    ]
}

fn line(cells: &[Cell; 12], widths: &[usize; 12]) -> String {
    let mut out = String::from(" ");
    for (at, ((style, text), column)) in cells.iter().zip(widths).enumerate() {
        let blanks = " ".repeat(column.saturating_sub(width(text)));
        let text = paint(*style, text);
        out.push_str(&if at < WORDS { format!(" {text}{blanks} ") } else { format!(" {blanks}{text} ") });
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn endpoint_line(endpoint: &EndpointStatus, name_width: usize) -> String {
    let name = clean(&endpoint.name);
    let blanks = " ".repeat(name_width.saturating_sub(width(&name)));
    let state = paint(state_style(&endpoint.state), &clean(&endpoint.state));
    let work = match &endpoint.drain {
        None => work(endpoint.in_flight, endpoint.streams),
        Some(drain) => drain_line(drain, endpoint),
    };
    format!("    {}{blanks}  {state}  {work}{}\n", paint(DIM, &name), health::words(endpoint))
}

/// `drill: 5% errors, 300 ms, 1m20s left`.
pub(super) fn drill_line(drill: &DrillStatus) -> String {
    let errors = (drill.errors > 0.0).then(|| format!("{} errors, ", percent(drill.errors)));
    let delay = (drill.delay_ms > 0).then(|| format!("{} ms, ", drill.delay_ms));
    format!("drill: {}{}{} left", errors.unwrap_or_default(), delay.unwrap_or_default(), span(drill.left_seconds))
}

fn drain_line(drain: &DrainStatus, endpoint: &EndpointStatus) -> String {
    let cut = if drain.cut > 0 { format!(", {} cut", drain.cut) } else { String::new() };
    if endpoint.in_flight == 0 {
        return format!("drained, nothing in flight{cut}");
    }
    let due = |what: &str, seconds: f64| {
        if seconds > 0.0 { format!("{what} cut in {}", span(seconds)) } else { format!("{what} are being cut") }
    };
    let requests = endpoint.in_flight.saturating_sub(endpoint.streams);
    let mut deadlines = Vec::new();
    if requests > 0 {
        deadlines.push(due("requests", drain.requests_cut_in_seconds));
    }
    if endpoint.streams > 0 {
        deadlines.push(due("streams", drain.streams_cut_in_seconds));
    }
    let work = work(endpoint.in_flight, endpoint.streams);
    format!("draining {}: {work}; {}{cut}", span(drain.seconds), deadlines.join(", "))
}

fn shift_line(shift: &ShiftStatus, service: &ServiceStatus, now: u64) -> String {
    let reason = if shift.reason.is_empty() { String::new() } else { format!(": {}", clean(&shift.reason)) };
    let base = in_order(&shift.base, service);
    let base = if base.is_empty() { base } else { format!("; the file says {base}") };
    format!("shifted by {}{reason}, {}{base}", clean(&shift.author), ago(now.saturating_sub(shift.at)))
}

/// The command that was refused, and when.
pub(super) fn refused_line(refused: &RefusedCommand, when: &str) -> String {
    let reason = if refused.reason.is_empty() { String::new() } else { format!(": {}", refused.reason) };
    clean(&format!("last refused command: {} (asked by {}{reason}, {when})", refused.why, refused.author))
}

/// Percentages in the order in which the versions are shown; versions that are gone come last.
fn in_order(weights: &BTreeMap<String, f64>, service: &ServiceStatus) -> String {
    let at = |name: &str| service.versions.iter().position(|version| version.name == name).unwrap_or(usize::MAX);
    let mut ordered: Vec<(&String, &f64)> = weights.iter().collect();
    ordered.sort_by_key(|(name, _)| at(name));
    let shares = ordered.into_iter().map(|(name, share)| format!("{} {}", clean(name), percent(*share)));
    shares.collect::<Vec<_>>().join(", ")
}

/// What is in flight, in words.
pub(super) fn work(in_flight: u64, streams: u64) -> String {
    let open = if streams == 0 { String::new() } else { format!(", {} of them", count(streams, "stream")) };
    format!("{in_flight} in flight{open}")
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn state_style(state: &str) -> Style {
    match state {
        "ready" => GOOD,
        "removed" => DIM,
        _ => CAUTION,
    }
}

pub(super) fn paint(style: Style, text: &str) -> String {
    if style == PLAIN { text.to_owned() } else { format!("{style}{text}{style:#}") }
}

fn none() -> String {
    "-".to_owned()
}

/// At most two decimals, none that say nothing.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{share:.2}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1_000.0),
    }
}

/// A stretch of time, as short as it is still useful.
pub(super) fn span(seconds: f64) -> String {
    let seconds = rounded(seconds);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and NaN becomes 0")]
fn rounded(seconds: f64) -> u64 {
    seconds.round() as u64
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Cells on the screen; every character is taken for one cell, which names of the configuration are.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

/// `text` without what would drive a terminal.
pub(super) fn clean(text: &str) -> String {
    let direction = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || direction(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
