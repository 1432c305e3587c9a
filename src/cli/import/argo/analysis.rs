//! Which metrics judge a Rollout: its analyses with their templates and arguments.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::super::field::{Wrong, flag, left, list, place, printed, text};
use super::super::resource::{Resource, find};
use super::super::words::{Filled, fill};
use crate::config::ImportedValue;

/// The templates of the files.
#[derive(Default)]
pub(super) struct Templates<'f> {
    pub(super) own: Vec<Resource<'f>>,
    pub(super) cluster: Vec<Resource<'f>>,
}

/// Where an analysis stands in a Rollout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Beside the steps.
    Background,
    /// As one of the steps, or before or after a switch.
    Once,
}

/// A metric as an analysis uses it.
pub(super) struct Metric<'f> {
    pub(super) value: &'f ImportedValue,
    pub(super) called: &'f str,
    pub(super) role: Role,
    pub(super) arguments: Arguments<'f>,
    pub(super) dry_run: bool,
}

/// An argument of an analysis.
struct Argument<'f> {
    /// Where it is said.
    said: &'f ImportedValue,
    meaning: Meaning<'f>,
    /// A text that became part of the result has it.
    used: Cell<bool>,
}

/// What an argument is.
enum Meaning<'f> {
    Text(&'f str),
    /// The hash of the pods of a version, for which Weir has the version's name.
    Version(&'static str, &'f ImportedValue),
    /// What only Kubernetes knows.
    Unknown,
}

/// The arguments of an analysis, by name.
#[derive(Clone, Default)]
pub(super) struct Arguments<'f>(HashMap<&'f str, Rc<Argument<'f>>>);

impl<'f> Arguments<'f> {
    /// Adds the arguments of a list; those of a template do not replace what the Rollout says.
    fn add(&mut self, node: &'f ImportedValue, rollout: &Resource<'f>, found: &mut Found<'f>) -> Result<(), Wrong> {
        for argument in list(node, "args")? {
            let name = text(argument, "name")?.ok_or_else(|| Wrong::at(argument, "an argument has no `name`"))?;
            if self.0.get(name).is_some_and(|said| !matches!(said.meaning, Meaning::Unknown)) {
                for default in ["value", "valueFrom"].iter().filter_map(|field| argument.get(field)) {
                    let what = format!("is not used where {} says the argument", rollout.title());
                    found.comments.add(left(default, &what));
                }
                continue;
            }
            let meaning = match (text(argument, "value")?, argument.get("valueFrom")) {
                (Some(value), _) => Meaning::Text(value),
                (None, Some(from)) => from_elsewhere(name, from, rollout, &mut found.comments)?,
                (None, None) => Meaning::Unknown,
            };
            let argument = Rc::new(Argument { said: argument, meaning, used: Cell::new(false) });
            found.arguments.push(Rc::clone(&argument));
            self.0.insert(name, argument);
        }
        Ok(())
    }

    /// A text with `{{ args.NAME }}` replaced, and comments on what is replaced by something else than Argo would.
    pub(super) fn fill(&self, written: &str, comments: &mut Vec<String>) -> Filled {
        let versions = RefCell::new(Vec::new());
        let filled = fill(written, |word| {
            let argument = self.0.get(word.strip_prefix("args.")?)?;
            argument.used.set(true);
            match argument.meaning {
                Meaning::Text(value) => Some(value.to_owned()),
                Meaning::Version(name, value) => {
                    versions.borrow_mut().push((name, value));
                    Some(format!("{{{{{name}}}}}"))
                }
                Meaning::Unknown => None,
            }
        });
        for (version, value) in versions.into_inner() {
            let what = format!("{} is a hash of pods, for which stands the name of the {version}", place(value));
            let comment = format!("DECIDE: {what}: label the series so, or change the query.");
            if !comments.contains(&comment) {
                comments.push(comment);
            }
        }
        filled
    }

    /// A field that is a single value, with its arguments replaced; none if it is not there or something is unknown.
    pub(super) fn field(&self, node: &ImportedValue, field: &str) -> Result<Option<String>, Wrong> {
        let Some(written) = text(node, field)? else { return Ok(None) };
        let filled = self.fill(written, &mut Vec::new());
        if let Some(word) = filled.unknown.first() {
            let what = format!("nothing says what `{{{{ {} }}}}` is in `{field}`", printed(word));
            return Err(Wrong::at(node.get(field).unwrap_or(node), what));
        }
        Ok(Some(filled.text))
    }
}

/// What an argument takes from elsewhere.
fn from_elsewhere<'f>(
    name: &str,
    from: &'f ImportedValue,
    rollout: &Resource<'f>,
    comments: &mut Comments,
) -> Result<Meaning<'f>, Wrong> {
    if let (Some(which), Some(value)) = (text(from, "podTemplateHashValue")?, from.get("podTemplateHashValue")) {
        return match which {
            "Latest" => Ok(Meaning::Version("canary", value)),
            "Stable" => Ok(Meaning::Version("stable", value)),
            _ => Err(Wrong::at(value, "`podTemplateHashValue` is `Stable` or `Latest`")),
        };
    }
    let path = from.get("fieldRef").map(|reference| text(reference, "fieldPath")).transpose()?.flatten();
    if let Some(found) = path.and_then(|path| at_path(rollout.node, path)) {
        return Ok(Meaning::Text(found));
    }
    let what = match path {
        Some(path) => format!("is {}, which is not in the Rollout", printed(path)),
        None => "is nothing that Weir reads, such as a Secret".to_owned(),
    };
    comments.add(format!("DECIDE: the argument {}: {}", printed(name), left(from, &what)));
    Ok(Meaning::Unknown)
}

/// The single value at a path such as `metadata.labels['region']`.
fn at_path<'f>(root: &'f ImportedValue, path: &str) -> Option<&'f str> {
    let mut value = root;
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        value = value.get(step.trim_matches(['\'', '"']))?;
    }
    value.text()
}

/// How deep templates may name further templates.
const MAX_DEPTH: usize = 8;
/// How many metrics one Rollout may have; each is a check, of which Weir takes fewer.
const MAX_METRICS: usize = 200;

/// Adds the metrics of the analysis that stands at `node`.
pub(super) fn collect<'f>(
    node: &'f ImportedValue,
    role: Role,
    rollout: &Resource<'f>,
    templates: &Templates<'f>,
    found: &mut Found<'f>,
) -> Result<(), Wrong> {
    let mut arguments = Arguments::default();
    arguments.add(node, rollout, found)?;
    let mut own = Vec::new();
    add_templates(node, rollout.namespace, templates, (&mut own, found), 0)?;
    let dry = dry_runs(node)?;
    for template in own {
        let spec = template.spec()?;
        let mut arguments = arguments.clone();
        arguments.add(spec, rollout, found)?;
        let own_dry = dry_runs(spec)?;
        for metric in list(spec, "metrics")? {
            let called = text(metric, "name")?.ok_or_else(|| Wrong::at(metric, "a metric has no `name`"))?;
            if found.metrics.len() >= MAX_METRICS {
                return Err(Wrong::at(metric, format!("one Rollout has more than {MAX_METRICS} metrics")));
            }
            let mut dry_run = false;
            for dry in dry.iter().chain(&own_dry).filter(|dry| fits(dry.pattern, called)) {
                dry.fits.set(true);
                dry_run = true;
            }
            let arguments = arguments.clone();
            found.metrics.push(Metric { value: metric, called, role, arguments, dry_run });
        }
        name_unfit(&own_dry, &mut found.comments);
    }
    name_unfit(&dry, &mut found.comments);
    if let Some(value) = node.get("startingStep") {
        let what = left(value, "has no equal: Weir judges from the first weight on");
        found.comments.add(format!("DECIDE: {what}"));
    }
    for (field, why) in [
        ("measurementRetention", "has no equal: `weir rollout history` has the last 400 analysis runs"),
        ("analysisRunMetadata", "has no equal: there are no AnalysisRun resources"),
    ] {
        if let Some(value) = node.get(field) {
            found.comments.add(left(value, why));
        }
    }
    Ok(())
}

/// What the analyses of a Rollout amount to.
#[derive(Default)]
pub(super) struct Found<'f> {
    pub(super) metrics: Vec<Metric<'f>>,
    pub(super) comments: Comments,
    arguments: Vec<Rc<Argument<'f>>>,
}

impl Found<'_> {
    /// Adds comments on the arguments that are part of nothing that is written, once all is.
    pub(super) fn name_unused_arguments(&mut self) {
        for argument in self.arguments.iter().filter(|argument| !argument.used.get()) {
            if let Meaning::Text(_) | Meaning::Version(..) = argument.meaning {
                self.comments.add(left(argument.said, "is an argument that nothing here uses"));
            }
        }
    }
}

/// Comments, each once.
#[derive(Default)]
pub(super) struct Comments {
    list: Vec<String>,
    known: HashSet<String>,
}

impl Comments {
    fn add(&mut self, comment: String) {
        if self.known.insert(comment.clone()) {
            self.list.push(comment);
        }
    }

    pub(super) fn list(&self) -> &[String] {
        &self.list
    }
}

/// Adds the templates that `node` names, and those that they name.
fn add_templates<'f>(
    node: &'f ImportedValue,
    namespace: Option<&str>,
    templates: &Templates<'f>,
    (own, found): (&mut Vec<Resource<'f>>, &mut Found<'f>),
    depth: usize,
) -> Result<(), Wrong> {
    let listed = list(node, "templates")?.iter();
    for reference in listed.chain(node.get("templateName").map(|_| node)) {
        let wanted = text(reference, "templateName")?;
        let wanted = wanted.ok_or_else(|| Wrong::at(reference, "a template has no `templateName`"))?;
        let in_cluster = flag(reference, "clusterScope")?.unwrap_or(false);
        let (kind, all) = if in_cluster {
            ("ClusterAnalysisTemplate", &templates.cluster)
        } else {
            ("AnalysisTemplate", &templates.own)
        };
        let Some(template) = find(all, wanted, namespace.filter(|_| !in_cluster)) else {
            let what = format!("DECIDE: the {kind} {} ({}:{})", printed(wanted), reference.file(), reference.line);
            found.comments.add(format!("{what} is not in these files: import all together, or add its checks."));
            continue;
        };
        if depth >= MAX_DEPTH || own.len() >= MAX_METRICS {
            return Err(Wrong::at(reference, "too many AnalysisTemplates that name each other"));
        }
        own.push(*template);
        add_templates(template.spec()?, namespace, templates, (own, found), depth + 1)?;
    }
    Ok(())
}

/// Which metrics do not decide.
struct DryRun<'f> {
    item: &'f ImportedValue,
    /// Their name, or a regular expression.
    pattern: &'f str,
    /// There is such a metric.
    fits: Cell<bool>,
}

fn dry_runs(node: &ImportedValue) -> Result<Vec<DryRun<'_>>, Wrong> {
    let mut found = Vec::new();
    for item in list(node, "dryRun")? {
        if let Some(pattern) = text(item, "metricName")? {
            found.push(DryRun { item, pattern, fits: Cell::new(false) });
        }
    }
    Ok(found)
}

/// Names those that fit no metric.
fn name_unfit(dry: &[DryRun<'_>], comments: &mut Comments) {
    for dry in dry.iter().filter(|dry| !dry.fits.get()) {
        comments.add(left(dry.item, "fits no metric"));
    }
}

/// Whether a metric is meant by a name or a regular expression.
fn fits(pattern: &str, called: &str) -> bool {
    pattern == called || regex::Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|pattern| pattern.is_match(called))
}
