//! Rollouts as text for a person: the live view, one line, and the history.
//!
//! Pure, like [`table`](crate::cli::table), and with its invariant: nothing that comes from outside drives a terminal.

use anstyle::Style;

use crate::admin::wire::{History, HistoryEntry, Rollout, RolloutCheck};
use crate::cli::table::{
    BAD, BOLD, CAUTION, DIM, GOOD, PLAIN, clean, drill_line, paint, percent, refused_line, span, width,
};
use crate::rollout::verdict::CheckOutcome;

/// Where one rollout is, in a dozen lines.
pub(in crate::cli) fn render(rollout: &Rollout) -> String {
    let mut out = format!(
        "{} {}  {}\n",
        paint(BOLD, &clean(&rollout.service)),
        paint(phase_style(&rollout.phase), &clean(&rollout.phase)),
        versions(rollout)
    );
    if !rollout.reason.is_empty() {
        out.push_str(&format!("  {}\n", clean(&rollout.reason)));
    }
    out.push_str(&format!("  {}\n", rail(rollout)));
    if let Some(more) = timing(rollout) {
        out.push_str(&format!("  {more}\n"));
    }
    // The reason says it already, unless something else happened since.
    if let Some(refused) = rollout.refused.as_ref().filter(|refused| **refused != rollout.reason) {
        out.push_str(&format!("  {}\n", paint(CAUTION, &clean(refused))));
    }
    if let Some(refused) = &rollout.refused_command {
        out.push_str(&format!("  {}\n", paint(CAUTION, &refused_line(refused, &moment(refused.at_ms)))));
    }
    if let Some(hint) = &rollout.hint {
        out.push_str(&format!("  {}\n", clean(hint)));
    }
    if is_under_way(rollout) {
        let weights = &rollout.weights;
        out.push_str(&format!(
            "  canary: configured {}, effective {}, observed {}\n",
            percent(weights.configured),
            percent(weights.effective),
            weights.observed.map_or_else(
                || "-".to_owned(),
                |observed| format!("{} of {} requests at this weight", percent(observed), weights.requests)
            )
        ));
    }
    for (version, drill) in &rollout.drills {
        out.push_str(&format!("  {}\n", paint(CAUTION, &format!("{}: {}", clean(version), drill_line(drill)))));
    }
    if let Some(why) = &rollout.unwritable {
        out.push_str(&format!("  {}\n", paint(BAD, &format!("decisions cannot be written: {}", clean(why)))));
    }
    if let Some(behind) = &rollout.behind {
        out.push_str(&format!("  {}\n", paint(CAUTION, &clean(behind))));
    }
    out.push_str(&checks(rollout));
    for given in &rollout.given_up {
        // The reason of the rollout that is shown is on the second line already.
        let why = if given.why == rollout.reason { String::new() } else { format!(": {}", given.why) };
        let line = format!("{} is not tried again by itself ({}){why}", given.version, given.phase);
        out.push_str(&format!("  {}\n", paint(CAUTION, &clean(&line))));
    }
    if !rollout.entries.is_empty() {
        out.push_str(&format!("  {}\n", paint(DIM, "LAST EVENTS (UTC)")));
        rollout.entries.iter().for_each(|entry| out.push_str(&event(entry)));
    }
    out
}

/// Where one rollout is, in one line without colours.
pub(in crate::cli) fn line(rollout: &Rollout) -> String {
    let weight =
        if is_under_way(rollout) { format!(" at {}", percent(rollout.weights.configured)) } else { String::new() };
    let reason = if rollout.reason.is_empty() { String::new() } else { format!(": {}", rollout.reason) };
    let behind = rollout.behind.as_ref().filter(|_| !is_under_way(rollout));
    let behind = behind.map_or_else(String::new, |behind| format!("; {behind}"));
    clean(&format!("{} {}{weight}{reason}{behind}", rollout.service, rollout.phase))
}

/// Every decision, oldest first.
pub(in crate::cli) fn history(history: &History) -> String {
    if history.entries.is_empty() {
        return format!("{}: nothing was decided yet\n", clean(&history.service));
    }
    let mut out = String::new();
    for entry in &history.entries {
        out.push_str(&event(entry));
        entry.checks.iter().for_each(|check| out.push_str(&format!("      {}\n", paint(DIM, &clean(&check.sentence)))));
    }
    out
}

pub(super) fn is_under_way(rollout: &Rollout) -> bool {
    !matches!(&*rollout.phase, "idle" | "succeeded" | "rolled_back" | "aborted")
}

fn versions(rollout: &Rollout) -> String {
    let name = |version: &Option<String>| version.as_deref().map_or_else(|| "?".to_owned(), clean);
    if is_under_way(rollout) || matches!(&*rollout.phase, "rolled_back" | "aborted") {
        format!("{} → {}", name(&rollout.stable), name(&rollout.canary))
    } else {
        format!("{} serves", name(&rollout.stable))
    }
}

/// The steps in a row; the current one stands in brackets, gates are `|`.
fn rail(rollout: &Rollout) -> String {
    let under_way = is_under_way(rollout);
    let last = matches!(&*rollout.phase, "baking" | "promoting");
    let mut out = String::new();
    for (at, step) in rollout.steps.iter().enumerate() {
        if at > 0 {
            out.push_str(" ─ ");
        }
        let weight = percent(step.weight);
        out.push_str(&match at + 1 {
            number if under_way && !last && number == rollout.step => paint(BOLD, &format!("[{weight}]")),
            number if (under_way && number <= rollout.step) || rollout.phase == "succeeded" => paint(GOOD, &weight),
            _ => paint(DIM, &weight),
        });
        if step.gate {
            out.push_str(&paint(CAUTION, " |"));
        }
    }
    let end = match &*rollout.phase {
        "baking" => paint(BOLD, "[bake]"),
        "promoting" => paint(BOLD, "[promote]"),
        "succeeded" => paint(GOOD, "stable"),
        _ => paint(DIM, "stable"),
    };
    format!("{out} ─ {end}")
}

fn timing(rollout: &Rollout) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(left) = &rollout.left {
        let what = clean(&left.what);
        parts.push(if left.seconds > 0.0 {
            format!("{what}: {} left", span(left.seconds))
        } else {
            format!("{what}: time is over, the next analysis run decides")
        });
    }
    if let Some(waiting) = &rollout.waiting_for {
        let hook = rollout.hook.as_ref().map_or_else(String::new, |when| format!(" `{}`", clean(when)));
        parts.push(paint(CAUTION, &format!("waits for {}{hook}", clean(waiting))));
    }
    if let Some(gate) = &rollout.gate {
        let default = clean(&gate.default);
        parts.push(match gate.left_seconds {
            Some(seconds) => format!("in {}: {default}", span(seconds)),
            None => "for ever".to_owned(),
        });
    }
    if let Some(from) = &rollout.paused_from {
        parts.push(format!("paused while {}", clean(from)));
    }
    if let Some(holding) = rollout.holding_seconds {
        parts.push(paint(CAUTION, &format!("held for {} so far", span(holding))));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

const COLUMNS: [&str; 4] = ["CHECK", "VERDICT", "VALUE", "SAMPLE"];
/// Columns of words; the others stand on the right.
const WORDS: usize = 3;

/// One line of the table of checks, each cell as wide as its column.
fn check_line(cells: &[(Style, String); 4], widths: [usize; 4]) -> String {
    let cells = cells.iter().zip(widths).enumerate().map(|(at, ((style, text), column))| {
        let blanks = " ".repeat(column.saturating_sub(width(text)));
        let text = paint(*style, text);
        if at < WORDS { format!("{text}{blanks}") } else { format!("{blanks}{text}") }
    });
    format!("  {}", cells.collect::<Vec<_>>().join("  "))
}

fn checks(rollout: &Rollout) -> String {
    if rollout.checks.is_empty() {
        return String::new();
    }
    let rows: Vec<[(Style, String); 4]> = rollout.checks.iter().map(row).collect();
    let mut widths = COLUMNS.map(width);
    for row in &rows {
        for (widest, (_, text)) in widths.iter_mut().zip(row) {
            *widest = width(text).max(*widest);
        }
    }
    let mut out = check_line(&COLUMNS.map(|title| (DIM, title.to_owned())), widths) + "\n";
    for (row, check) in rows.iter().zip(&rollout.checks) {
        let check = &check.verdict;
        let dry = if check.dry_run { "  (dry run)" } else { "" };
        let both = if check.stable_fails_too { "  stable fails too" } else { "" };
        out.push_str(&format!("{}{dry}{both}\n", check_line(row, widths).trim_end()));
        if check.outcome != CheckOutcome::Pass {
            out.push_str(&format!("    {}\n", clean(&check.sentence)));
        }
    }
    let failures = &rollout.failures;
    let of = |limit: Option<u32>| limit.map_or_else(String::new, |limit| format!(" of {limit}"));
    out.push_str(&format!(
        "  failed analysis runs: {}{}, in a row {}{}\n",
        failures.total,
        of(failures.total_limit),
        failures.consecutive,
        of(failures.consecutive_limit)
    ));
    out
}

fn row(check: &RolloutCheck) -> [(Style, String); 4] {
    let RolloutCheck { verdict: check, text } = check;
    let style = match check.outcome {
        CheckOutcome::Pass => GOOD,
        CheckOutcome::Fail => BAD,
        CheckOutcome::Suspect | CheckOutcome::WarmingUp | CheckOutcome::NoData | CheckOutcome::Error => CAUTION,
    };
    // A check that left the plan has no unit any more.
    let value = || check.value.map_or_else(|| "-".to_owned(), short);
    [
        (PLAIN, clean(&check.check)),
        (style, check.outcome.as_str().to_owned()),
        (PLAIN, if text.is_empty() { value() } else { clean(text) }),
        (PLAIN, check.samples.to_string()),
    ]
}

/// A number with at most four decimals, none that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn event(entry: &HistoryEntry) -> String {
    let who = entry.author.as_deref().unwrap_or(&entry.by);
    // A promotion moves no traffic: what had everything as the canary has it as stable.
    let moves = entry.what != "promoted" && (entry.weight_before - entry.weight_after).abs() > f64::EPSILON;
    let moved = if moves {
        format!(" {} → {}", percent(entry.weight_before), percent(entry.weight_after))
    } else {
        String::new()
    };
    let phase = if entry.from == entry.to { String::new() } else { format!(" [{}]", entry.to) };
    format!(
        "    {} {} {}{}{}: {}\n",
        paint(DIM, &moment(entry.at_ms)),
        clean(&entry.what),
        paint(DIM, &clean(who)),
        clean(&phase),
        moved,
        clean(&entry.why)
    )
}

/// The last second of the year 9999, after which RFC 3339 has no words.
const LAST_SECOND: u64 = 253_402_300_799;

/// The moment in UTC, to the second.
pub(in crate::cli) fn moment(at_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs((at_ms / 1_000).min(LAST_SECOND));
    humantime::format_rfc3339_seconds(at).to_string()
}

fn phase_style(phase: &str) -> Style {
    match phase {
        "succeeded" | "idle" => GOOD,
        "rolled_back" | "rolling_back" | "aborted" => BAD,
        "paused" | "waiting" => CAUTION,
        _ => BOLD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{
        DrillStatus, FailedVersion, RefusedCommand, RolloutFailures, RolloutGate, RolloutLeft, RolloutStep,
        RolloutWeights,
    };
    use crate::rollout::verdict::Verdict;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn shop() -> Rollout {
        let step = |weight, gate| RolloutStep { weight, hold_seconds: 60.0, gate };
        let check = |name: &str, outcome, text: &str, sentence: &str| {
            let (check, sentence) = (name.into(), sentence.to_owned());
            let verdict = Verdict { check, outcome, value: Some(97.25), samples: 820, sentence, ..Verdict::default() };
            RolloutCheck { verdict, text: text.to_owned() }
        };
        Rollout {
            service: "shop".to_owned(),
            phase: "progressing".to_owned(),
            reason: "step 2 of 3: 10 %".to_owned(),
            stable: Some("v1".to_owned()),
            canary: Some("v2".to_owned()),
            step: 2,
            steps: vec![step(1.0, false), step(10.0, true), step(100.0, false)],
            weights: RolloutWeights { configured: 10.0, effective: 10.0, observed: Some(9.87), requests: 1_234 },
            checks: vec![
                check("success", CheckOutcome::Pass, "99.5 % ≥ 99 %", "fine"),
                check("orders", CheckOutcome::Fail, "", "orders: 97.25, limit 99 → failed analysis run"),
            ],
            failures: RolloutFailures { total: 1, consecutive: 1, total_limit: Some(5), consecutive_limit: None },
            left: Some(RolloutLeft { what: "step".to_owned(), seconds: 200.0 }),
            entries: vec![HistoryEntry {
                at_ms: 1_767_225_600_000,
                by: "judge".to_owned(),
                what: "stepped".to_owned(),
                why: "every check passed".to_owned(),
                from: "progressing".to_owned(),
                to: "progressing".to_owned(),
                weight_before: 1.0,
                weight_after: 10.0,
                ..HistoryEntry::default()
            }],
            ..Rollout::default()
        }
    }

    #[test]
    fn the_view_has_the_rail_the_weights_the_checks_and_the_last_events() {
        let expected = "\
shop progressing  v1 → v2
  step 2 of 3: 10 %
  1% ─ [10%] | ─ 100% ─ stable
  step: 3m20s left
  canary: configured 10%, effective 10%, observed 9.87% of 1234 requests at this weight
  CHECK    VERDICT  VALUE          SAMPLE
  success  pass     99.5 % ≥ 99 %     820
  orders   fail     97.25             820
    orders: 97.25, limit 99 → failed analysis run
  failed analysis runs: 1 of 5, in a row 1
  LAST EVENTS (UTC)
    2026-01-01T00:00:00Z stepped judge 1% → 10%: every check passed
";
        assert_eq!(plain(&render(&shop())), expected);
        assert_eq!(line(&shop()), "shop progressing at 10%: step 2 of 3: 10 %");
    }

    #[test]
    fn gates_pauses_and_versions_that_are_given_up_are_said() {
        let waiting = Rollout {
            phase: "waiting".to_owned(),
            waiting_for: Some("gate".to_owned()),
            gate: Some(RolloutGate { left_seconds: Some(60.0), default: "abort".to_owned() }),
            hint: Some("`weir rollout approve shop` opens the gate".to_owned()),
            refused: Some("a hook refuses: \x1b not yet".to_owned()),
            drills: [("v2".to_owned(), DrillStatus { errors: 5.0, delay_ms: 300, left_seconds: 80.0 })].into(),
            left: None,
            given_up: vec![FailedVersion { version: "v0".into(), phase: "aborted".into(), why: "abort by ann".into() }],
            ..shop()
        };
        let text = plain(&render(&waiting));
        assert!(text.contains("  waits for gate, in 1m00s: abort\n"), "{text}");
        assert!(
            text.contains("  a hook refuses: \u{fffd} not yet\n  `weir rollout approve shop` opens the gate\n"),
            "{text}"
        );
        assert!(text.contains("  v2: drill: 5% errors, 300 ms, 1m20s left\n"), "{text}");
        assert!(text.contains("  v0 is not tried again by itself (aborted): abort by ann\n"), "{text}");
        let late = RefusedCommand { author: "ann".into(), why: "not \x1bnow".into(), ..RefusedCommand::default() };
        let text = plain(&render(&Rollout { refused_command: Some(late), ..shop() }));
        assert!(
            text.contains("\n  last refused command: not \u{fffd}now (asked by ann, 1970-01-01T00:00:00Z)\n"),
            "{text}"
        );
        assert_eq!(moment(u64::MAX), "9999-12-31T23:59:59Z");
        let behind = Rollout { phase: "succeeded".into(), behind: Some("write `stable: v2`".to_owned()), ..shop() };
        assert!(plain(&render(&behind)).contains("\n  write `stable: v2`\n"), "{}", plain(&render(&behind)));
        assert!(line(&behind).ends_with("; write `stable: v2`"), "{}", line(&behind));
        let hostile = Rollout { reason: "\x1b[2J".to_owned(), ..waiting };
        assert!(!line(&hostile).contains('\x1b'));
    }

    #[test]
    fn a_history_has_a_line_for_each_decision_and_its_evidence() {
        let mut entry = shop().entries.remove(0);
        entry.by = "person".to_owned();
        entry.author = Some("ann@host".to_owned());
        entry.to = "paused".to_owned();
        entry.checks = vec![Verdict { sentence: "errors: 1 of 10".to_owned(), ..Verdict::default() }];
        let text = plain(&history(&History { service: "shop".to_owned(), entries: vec![entry] }));
        assert_eq!(
            text,
            "    2026-01-01T00:00:00Z stepped ann@host [paused] 1% → 10%: every check passed\n      errors: 1 of 10\n"
        );
    }
}
