//! Feature flags at the edge. A flag is a service without endpoints: its versions are `off` and `on`, and whatever moves a
//! service's weights moves it.

use std::ops::RangeInclusive;

use super::affinity::{Affinity, AffinityKey};
use super::health::OutlierDetection;
use super::retry::Retry;
use super::rollout::default_plan;
use super::service::{FlagSettings, Service};
use super::upstream::{Balance, Drain, HostHeader, Pool, Protocol, Timeouts};
use super::version::Version;
use super::version_headers::VersionHeaders;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::map::Map;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read as _, Reader};
use crate::config::syntax::section::{section, words};
use crate::config::syntax::tree::Node;
use crate::model::{FLAG_PREFIX, Name, Split, Weight};
use crate::rollout::plan::Plan;

/// How many flags a file may have.
const MAX_FLAGS: usize = 256;
/// How many services a flag may be for.
const MAX_SERVICES: usize = 256;
/// How many flags a service's requests may carry: each is a header field.
pub(crate) const MAX_FLAGS_OF_SERVICE: usize = 16;

words! {
    /// The value of a flag.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum FlagValue {
        /// Off.
        #[default]
        Off = "off",
        /// On.
        On = "on",
    }
}

section! {
    /// A feature flag. Requests to its services get the header `x-weir-flag-NAME: on` or `off`.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Flag {
        /// The services whose requests carry it, 1 to 256.
        pub(crate) services: Vec<Name> = required_list(1..=MAX_SERVICES, read_names),
        /// The percentage of clients, or of requests without an affinity key, for whom it is on: the base that `weir flag`
        /// shifts. Instead of `release`.
        pub(crate) percent: Option<Weight> = optional(),
        /// What it should be for everybody; a change of it starts a rollout. Instead of `percent`.
        pub(crate) release: Option<FlagValue> = optional(),
        /// What it is where no state of a rollout is known.
        pub(crate) stable: FlagValue = or(FlagValue::Off),
        /// How a change of `release` is rolled out. With `release` the default is `{}`, which is careful; without, no rollout.
        pub(crate) rollout: Option<Plan> = optional(),
        /// What tells clients apart. Default: as the service does; where it does not, each request is decided by itself.
        pub(crate) affinity: Option<Affinity> = optional(),
    }
    rules(fields) {
        check_base(&mut fields);
        check_made_cookie(&mut fields, affinity.as_ref());
    }
}

fn check_base(fields: &mut Fields<'_, '_>) {
    let both = fields.get("percent").is_some() && fields.get("release").is_some();
    if both || (fields.get("percent").is_some() && fields.get("rollout").is_some()) {
        fields.fault_at("percent", |place| {
            Problem::new(place, "`percent` beside `release` or `rollout`")
                .help("keep `release: on` if rollouts move the flag, and `percent` if you do")
        });
    }
    if fields.get("rollout").is_some() && fields.get("release").is_none() {
        fields.fault_at("rollout", |place| {
            Problem::new(place, "`rollout` without `release`")
                .help("add `release: off`; a change to `on` is rolled out")
        });
    }
}

/// A client would have a cookie for each flag.
fn check_made_cookie(fields: &mut Fields<'_, '_>, affinity: Option<&Option<Affinity>>) {
    let makes = |affinity: &Affinity| matches!(affinity.key, AffinityKey::Cookie { made: Some(_), .. });
    if affinity.is_some_and(|affinity| affinity.as_ref().is_some_and(makes)) {
        fields.fault_at("affinity", |place| {
            Problem::new(place, "a flag sets no cookie")
                .help("remove `ttl`; or give the service an affinity with a cookie, which the flag then uses")
        });
    }
}

/// The section `flags`.
pub(crate) fn read<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Map<Flag>> {
    reader.map(node, MAX_FLAGS, |reader, node| Flag::read(node, reader))
}

fn read_names<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<Name>> {
    reader.list::<Name>(node, bounds)
}

impl FlagValue {
    /// As a version.
    fn name(self) -> Name {
        match self {
            Self::Off => "off".into(),
            Self::On => "on".into(),
        }
    }
}

impl Flag {
    /// The service that a flag is inside.
    pub(crate) fn service(&self, name: &Name) -> (Name, Service) {
        let [off, on] = [FlagValue::Off, FlagValue::On].map(FlagValue::name);
        let version = |name: &Name| (name.clone(), Version::of_flag());
        let on_weight = match self.release {
            Some(FlagValue::On) => Weight::FULL,
            Some(FlagValue::Off) => Weight::ZERO,
            None => self.percent.unwrap_or_default(),
        };
        let off_weight = Weight::FULL.basis_points() - on_weight.basis_points();
        let split =
            vec![(off.clone(), Weight::from_basis_points(off_weight).unwrap_or_default()), (on.clone(), on_weight)];
        let service = Service {
            // The last version's range is the first one: raising its weight moves clients one way only.
            versions: Map::new([&off, &on].map(version).into()),
            split: Split::new(split).unwrap_or_else(|_| Split::all_to(off)),
            release: self.release.map(FlagValue::name),
            stable: self.release.map(|_| self.stable.name()),
            rollout: self.rollout.clone().or_else(|| self.release.map(|_| default_plan())),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            health: None,
            outlier_detection: OutlierDetection::default(),
            panic_threshold: 0,
            slow_start: None,
            failover: true,
            drain: Drain::default(),
            affinity: self.affinity.clone(),
            overrides: None,
            cohorts: Vec::new(),
            mirror: None,
            version_headers: VersionHeaders::default(),
            concurrency: None,
            balance: Balance::default(),
            protocol: Protocol::default(),
            tls: None,
            host: HostHeader::default(),
            pool: Pool::default(),
            upgrades: Vec::new(),
            max_body: None,
            flag: Some(FlagSettings { name: name.clone(), services: self.services.clone() }),
        };
        (format!("{FLAG_PREFIX}{name}").into(), service)
    }
}
