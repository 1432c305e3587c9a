//! Cohorts: requests that are told apart by what they say, each group with a split of its own.
//!
//! They are asked in the file's order and the first that fits counts, so `internal users, then Europe, then everybody` is
//! said as it is meant. Who is in none goes by the service's own split.
//!
//! A client's key and its salt are the same in each, so a client that changes its cohort moves only where the weights
//! differ.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Name, Weight};
use crate::traffic::route::ValueTest;
use crate::traffic::{Request, cookie};

/// A cohort, as the choice needs it.
#[derive(Debug)]
pub struct Cohort {
    /// Its name.
    pub(crate) name: Name,
    /// Who is in it.
    pub(crate) condition: CohortCondition,
    /// The weight of each version.
    pub(crate) weights: Vec<Weight>,
}

/// What a request must meet: all of it.
#[derive(Debug, Default)]
pub(crate) struct CohortCondition {
    /// Headers, by their names in lower case. Of several of a name the first counts.
    pub(crate) headers: Vec<(Box<str>, ValueTest)>,
    /// Cookies, by their names.
    pub(crate) cookies: Vec<(Box<str>, ValueTest)>,
    /// The client is in one of these networks; none: anywhere.
    pub(crate) from: Option<Vec<IpNet>>,
}

impl CohortCondition {
    /// Whether `request` meets it.
    pub(super) fn is_met(&self, request: &impl Request) -> bool {
        // What costs least first.
        let is_from = |nets: &Vec<IpNet>| contains(nets, request.client());
        self.from.as_ref().is_none_or(is_from)
            && self.headers.iter().all(|(name, test)| test.is_met(request.header(name)))
            && self.cookies.iter().all(|(name, test)| {
                cookie::find(request, name, |value| test.is_met(Some(value))).unwrap_or_else(|| test.is_met(None))
            })
    }
}

/// Whether a client is in one of these networks.
pub(super) fn contains(nets: &[IpNet], client: Option<IpAddr>) -> bool {
    client.is_some_and(|client| nets.iter().any(|net| net.contains(&client)))
}
