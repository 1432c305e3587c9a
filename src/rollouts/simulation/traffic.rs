//! Models of traffic: which requests of the two versions fail, second by second.

use super::random::Random;
use crate::rollout::evidence::Tally;

/// What the requests of one version have as a chance to fail and to be slow, in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chances {
    pub(super) error: f64,
    pub(super) slow: f64,
    /// One endpoint of the version fails whatever it gets, beside that.
    pub(super) one_endpoint: bool,
}

/// How errors come. Both versions are alike but for what a model says of the canary.
#[derive(Clone, Copy, Debug)]
pub(super) enum Traffic {
    /// Each request by itself.
    Independent { share: f64 },
    /// The share of each version changes from block to block, so that requests of a block are correlated.
    Clustered { share: f64, correlation: f64, block: u64 },
    /// In some minutes a version has ten times the errors, each version its own minutes.
    BadMinutes { share: f64, chance: f64 },
    /// In some seconds both versions have so many errors.
    SharedBursts { share: f64, burst: f64, every: u64 },
    /// Every so many seconds one of ten endpoints, five of each version, fails for 5 to 30 s.
    OneEndpoint { share: f64, every: u64 },
    /// Users stay on their version, a part of them always fails, and few users make many of the requests. The canary has
    /// so much more errors, of any user.
    StickyUsers { share: f64, failing: f64, more: f64 },
    /// The canary's first requests fail in one of twenty cases, and are slow in one of ten.
    ColdStart { share: f64, requests: u64 },
    /// The canary has so much more errors.
    Regression { share: f64, more: f64 },
    /// The canary has so many slow requests more.
    Slower { share: f64, more: f64 },
}

/// Slow requests of a version that is well: p99 is below the limit.
const SLOW: f64 = 0.002;
const USERS: usize = 20_000;

/// One rollout's traffic.
pub(super) struct Generator {
    traffic: Traffic,
    /// The shares of canary and stable until the end of the block.
    block: (f64, f64),
    ends: u64,
    /// The failing endpoint: whether it is the canary's, and until when.
    endpoint: (bool, u64),
    next_endpoint: u64,
    served: u64,
    users: Vec<User>,
    /// What the users of each version do, for the share of the canary that it was last asked for.
    of_users: (f64, (f64, f64)),
    /// How many requests of users that are well, and of those that fail, are in each group: on the canary and on stable.
    groups: [Vec<(f64, f64)>; 2],
}

/// Groups of users.
const GROUPS: usize = 64;

struct User {
    group: usize,
    place: f64,
    requests: f64,
    fails: bool,
}

impl Generator {
    pub(super) fn new(traffic: Traffic, random: &mut Random) -> Self {
        let users = match traffic {
            Traffic::StickyUsers { failing, .. } => (0..GROUPS)
                .cycle()
                .take(USERS)
                .map(|at| User {
                    group: at,
                    place: random.unit(),
                    requests: random.unit().powf(-0.7),
                    fails: random.happens(failing),
                })
                .collect(),
            _ => Vec::new(),
        };
        let next_endpoint = match traffic {
            Traffic::OneEndpoint { every, .. } => random.between(0, 2 * every),
            _ => 0,
        };
        Self {
            traffic,
            block: (0.0, 0.0),
            ends: 0,
            endpoint: (false, 0),
            next_endpoint,
            served: 0,
            users,
            of_users: (-1.0, (0.0, 0.0)),
            groups: Default::default(),
        }
    }

    /// The chances of canary and stable in a second in which the canary gets so much of the traffic (0 to 1), and so many
    /// requests.
    pub(super) fn second(&mut self, second: u64, share: f64, requests: u64, random: &mut Random) -> (Chances, Chances) {
        let both = |error| (well(error), well(error));
        let chances = match self.traffic {
            Traffic::Independent { share } => both(share),
            Traffic::Clustered { share, correlation, block } => {
                if second >= self.ends {
                    self.ends = second + block;
                    self.block = (random.beta(share, correlation), random.beta(share, correlation));
                }
                (well(self.block.0), well(self.block.1))
            }
            Traffic::BadMinutes { share, chance } => {
                if second >= self.ends {
                    self.ends = second + 60;
                    let mut minute = || if random.happens(chance) { 10.0 * share } else { share };
                    self.block = (minute(), minute());
                }
                (well(self.block.0), well(self.block.1))
            }
            Traffic::SharedBursts { share, burst, every } => {
                if second >= self.ends && random.happens(1.0 / every as f64) {
                    self.ends = second + random.between(1, 6);
                }
                both(if second < self.ends { burst } else { share })
            }
            Traffic::OneEndpoint { share, every } => {
                if second >= self.next_endpoint {
                    self.endpoint = (random.happens(0.5), second + random.between(5, 31));
                    self.next_endpoint = self.endpoint.1 + random.between(0, 2 * every);
                }
                let (mut canary, mut stable) = both(share);
                if second < self.endpoint.1 {
                    let failing = if self.endpoint.0 { &mut canary } else { &mut stable };
                    failing.one_endpoint = true;
                }
                (canary, stable)
            }
            Traffic::StickyUsers { share: base, more, .. } => {
                if self.of_users.0.to_bits() != share.to_bits() {
                    self.of_users = (share, (self.bad_users(share, true), self.bad_users(share, false)));
                    self.groups = [true, false].map(|on_canary| self.weights(share, on_canary));
                }
                let (canary, stable) = self.of_users.1;
                (well(base + more + canary), well(base + stable))
            }
            Traffic::ColdStart { share, requests } => {
                let (mut canary, stable) = both(share);
                if self.served < requests {
                    canary = Chances { error: 0.05, slow: 0.1, one_endpoint: false };
                }
                (canary, stable)
            }
            Traffic::Regression { share, more } => (well(share + more), well(share)),
            Traffic::Slower { share, more } => (Chances { slow: SLOW + more, ..well(share) }, well(share)),
        };
        self.served += requests;
        chances
    }
}

impl Generator {
    /// How many of a version's requests, of which some failed, were those of each group of users; nothing where nobody
    /// stays on a version.
    pub(super) fn by_group(&self, on_canary: bool, served: Tally, random: &mut Random) -> Vec<Tally> {
        let Traffic::StickyUsers { share, more, .. } = self.traffic else { return Vec::new() };
        let [canary, stable] = &self.groups;
        let (groups, anybodys) = if on_canary { (canary, share + more) } else { (stable, share) };
        let (well, bad): (Vec<f64>, Vec<f64>) = groups.iter().copied().unzip();
        let failing = bad.iter().sum::<f64>() / groups.iter().map(|(well, bad)| well + bad).sum::<f64>().max(1.0);
        let of_failing = random.binomial(served.bad, failing / (failing + anybodys));
        let of_failing = random.multinomial(of_failing, &bad);
        let of_others = random.multinomial(served.bad - of_failing.iter().sum::<u64>(), &well);
        // Those that are well are many: as many as to be expected.
        let all: f64 = well.iter().sum::<f64>().max(1.0);
        let successes = (served.requests - served.bad) as f64;
        let errors = of_failing.into_iter().zip(of_others).map(|(failing, other)| failing + other);
        let group = |(well, bad): (f64, u64)| Tally { requests: super::whole(successes * well / all) + bad, bad };
        well.into_iter().zip(errors).map(group).collect()
    }

    /// The requests of a version's users by group.
    fn weights(&self, share: f64, on_canary: bool) -> Vec<(f64, f64)> {
        let mut weights = vec![(0.0, 0.0); GROUPS];
        for user in self.users.iter().filter(|user| (user.place <= share) == on_canary) {
            let (well, bad) = &mut weights[user.group];
            *(if user.fails { bad } else { well }) += user.requests;
        }
        weights
    }

    /// The share of the requests of a version that its failing users make.
    fn bad_users(&self, share: f64, on_canary: bool) -> f64 {
        let users = self.users.iter().filter(|user| (user.place <= share) == on_canary);
        let all: f64 = users.clone().map(|user| user.requests).sum();
        let bad: f64 = users.filter(|user| user.fails).map(|user| user.requests).sum();
        if all > 0.0 { bad / all } else { 0.0 }
    }
}

const fn well(error: f64) -> Chances {
    Chances { error, slow: SLOW, one_endpoint: false }
}
