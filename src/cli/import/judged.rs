//! Checks of a rollout as they are written.

use std::collections::HashMap;

use super::field::cite;
use super::page::{Page, free_name, name, quoted};
use crate::config::ImportedValue;

/// What a metric becomes.
pub(super) struct Judged<'f> {
    /// The metric.
    pub(super) metric: &'f ImportedValue,
    pub(super) called: &'f str,
    /// What differs, and what has to be decided.
    pub(super) comments: Vec<String>,
    /// The fields of the check besides its name; none: there is no check.
    pub(super) check: Option<String>,
    /// The check does not work as it stands, so it is written as a comment.
    pub(super) dormant: bool,
}

impl<'f> Judged<'f> {
    pub(super) const fn new(metric: &'f ImportedValue, called: &'f str) -> Self {
        Self { metric, called, comments: Vec::new(), check: None, dormant: false }
    }

    /// Adds a comment on something that has to be decided.
    pub(super) fn decide(&mut self, what: &str) {
        self.comments.push(format!("DECIDE: {what}"));
    }

    /// As a metric that no check comes from, for a reason.
    pub(super) fn nothing(mut self, why: &str) -> Self {
        let what = format!("metric {} has no check: {why}.", name(self.called));
        self.decide(&what);
        self
    }

    /// As the check that asks Prometheus, with what stands beside it.
    pub(super) fn prometheus(mut self, query: &Query<'_>, more: &str) -> Self {
        if !query.unknown.is_empty() {
            let words: Vec<String> = query.unknown.iter().map(|word| format!("`{{{{ {word} }}}}`")).collect();
            self.decide(&format!("nothing says what {} is in the query. Once it is known:", words.join(", ")));
            self.dormant = true;
        }
        let Query { url, text, timeout, .. } = query;
        self.check = Some(format!("prometheus: {{ url: {}, query: {}{timeout} }}{more}", quoted(url), quoted(text)));
        self
    }
}

/// What Prometheus is asked.
pub(super) struct Query<'q> {
    pub(super) url: &'q str,
    pub(super) text: &'q str,
    /// The field for how long the answer may take; empty: what Weir takes by itself.
    pub(super) timeout: &'q str,
    /// Words of the query that keep it from working, for nothing is known of them.
    pub(super) unknown: &'q [String],
}

/// Writes `checks`, each with a name of its own. Returns whether something is judged.
pub(super) fn write<'f>(page: &mut Page<'f>, judged: Vec<Judged<'f>>) -> bool {
    let some = judged.iter().any(|judged| judged.check.is_some() && !judged.dormant);
    if !some {
        page.comment(3, "DECIDE: nothing is judged.");
    }
    page.line(3, if some { "checks:" } else { "checks: []" });
    let level = if some { 4 } else { 3 };
    let mut taken = HashMap::new();
    for Judged { metric, called, comments, check, dormant } in judged {
        page.cite(metric);
        if comments.is_empty() && check.is_none() {
            page.comment(level, &format!("{} became nothing.", cite(metric)));
        }
        comments.iter().for_each(|comment| page.comment(level, comment));
        if let Some(fields) = check {
            let name = free_name(&name(called), &mut taken);
            let dormant = if dormant { "# " } else { "" };
            page.line(level, &format!("{dormant}- {{ name: {name}, {fields} }}"));
        }
    }
    some
}
