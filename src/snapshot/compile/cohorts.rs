//! The cohorts of a service of the file, compiled: for the choice, and for the counts.

use super::inputs::Inputs;
use super::routes::header_test;
use crate::config;
use crate::model::{Name, Weight};
use crate::snapshot::{Service, ServiceCohort};
use crate::telemetry::Recorder;
use crate::traffic::route::ValueTest;
use crate::traffic::split::{Cohort, CohortCondition};

/// The cohorts, as the choice needs them.
pub(super) fn compile((name, file): (&Name, &config::Service), inputs: &Inputs) -> Vec<Cohort> {
    let compile = |cohort: &config::Cohort| Cohort {
        name: cohort.name.clone(),
        condition: condition(&cohort.matches),
        weights: weights((name, file), cohort, inputs),
    };
    file.cohorts.iter().map(compile).collect()
}

/// The cohorts with their counters in `recorder`.
pub(super) fn counted(
    (name, file): (&Name, &config::Service),
    inputs: &Inputs,
    recorder: &Recorder,
) -> Vec<ServiceCohort> {
    let counted = |cohort: &config::Cohort| ServiceCohort {
        name: cohort.name.clone(),
        weights: weights((name, file), cohort, inputs),
        series: file.versions.iter().map(|(version, _)| recorder.cohort(name, &cohort.name, version)).collect(),
    };
    file.cohorts.iter().map(counted).collect()
}

/// Whether the cohorts of `service`, compiled from the same section of the file, have the splits that these inputs give.
pub(super) fn are_same(service: &Service, file: &config::Service, inputs: &Inputs) -> bool {
    let mut pairs = service.cohorts.iter().zip(&file.cohorts);
    pairs.all(|(compiled, cohort)| compiled.weights == weights((&service.name, file), cohort, inputs))
}

fn weights((name, file): (&Name, &config::Service), cohort: &config::Cohort, inputs: &Inputs) -> Vec<Weight> {
    let split = inputs.split(name, Some(&cohort.name), &cohort.split);
    file.versions.iter().map(|(version, _)| split.weight(version)).collect()
}

fn condition(matches: &config::CohortMatch) -> CohortCondition {
    CohortCondition {
        headers: matches.headers.iter().map(|(name, test)| (name.as_str().into(), value_test(test))).collect(),
        cookies: matches.cookies.iter().map(|(name, test)| (name.as_str().into(), value_test(test))).collect(),
        from: matches.from.as_ref().map(|nets| nets.iter().map(|cidr| cidr.get()).collect()),
    }
}

/// A test that does not compile, which the file is refused for, is met by nobody who has the value.
fn value_test(test: &config::HeaderMatch) -> ValueTest {
    ValueTest::compile(&header_test(test)).unwrap_or(ValueTest::Absent)
}
