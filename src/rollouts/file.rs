//! What a file says of a rollout: which version is stable, what is to be rolled out, by which plan.

use std::sync::Arc;

use super::adopt::{self, Start};
use super::record::SeenVersion;
use super::service::ServiceRollout;
use super::view::{self, Named, StableUnknown};
use crate::config;
use crate::model::{Name, Split, Weight};
use crate::rollout::engine::{By, Entry, Event, Phase, RolloutState, RolloutTarget, What};

impl ServiceRollout {
    /// What was kept of it could not be read. Nothing begins by itself: whether the version that the file names failed
    /// before is not known any more. Where not even the stable version can be told, no state is known.
    pub(super) fn damaged(&mut self, why: &str, file: &config::Service, at_ms: u64) {
        self.note_versions(file);
        let stable = self.record.state.stable.clone().filter(|stable| file.versions.get(&stable.version).is_some());
        let only = || view::wanted(file).filter(|_| file.versions.len() == 1).map(|version| self.target(version));
        let Some(stable) = stable.or_else(only) else {
            tracing::error!(service = %self.service, "what was kept of the rollout cannot be used and is set aside ({why})");
            self.record.state = RolloutState::default();
            self.dirty = true;
            return;
        };
        let name = &stable.version;
        let sentence =
            format!("what was kept of the rollout cannot be used and is set aside ({why}): {name} has all traffic");
        tracing::error!(service = %self.service, "{sentence}");
        let mut state =
            RolloutState { stable: Some(stable.clone()), reason: sentence.clone(), ..RolloutState::default() };
        state.desired = view::wanted(file).map(|version| self.target(version));
        let entry = Entry {
            by: By::Restart,
            what: What::Restored,
            why: sentence,
            from: Phase::Idle,
            to: Phase::Idle,
            weight_before: Weight::ZERO,
            weight_after: Weight::ZERO,
            stable: Some(stable),
            canary: None,
            taken: 0,
            evidence: Vec::new(),
        };
        self.record.state = state;
        self.record.history.add(entry, None, at_ms);
        self.logged = self.record.history.next();
        self.dirty = true;
    }

    /// Where the rollout starts of a service that was served by these `shares` until now. None: by a version that the file
    /// no longer has.
    ///
    /// # Errors
    /// Nobody can tell without giving a version more than it has.
    pub(super) fn adopt(&mut self, shares: &Split, file: &config::Service) -> Result<Option<Event>, StableUnknown> {
        let Some(release) = view::wanted(file) else { return Ok(None) };
        let start = adopt::start(shares, file.stable.as_ref(), &release)?;
        self.note_versions(file);
        Ok(match start {
            Start::Serves(version) => {
                let known = file.versions.get(&version).is_some();
                known.then(|| Event::Release(self.target(version)))
            }
            // Whoever takes the stable version out of the same file says himself which one is stable now.
            Start::GoesOn { stable, .. } if file.versions.get(&stable).is_none() => None,
            Start::GoesOn { stable, weight } => {
                let (stable, canary) = (self.target(stable), self.target(release));
                Some(Event::Adopted { stable, canary, weight })
            }
        })
    }

    /// What everything rests on where the state does not tell which version is stable, or names one that is no longer in
    /// the file: what the file names. None: the state tells, or there is no other.
    ///
    /// # Errors
    /// Why nobody can tell. The version to be released may be one that failed, so it is not guessed.
    pub(super) fn choose_stable(&mut self, file: &config::Service) -> Result<Option<Event>, StableUnknown> {
        let state = &self.record.state;
        let stable = state.stable.as_ref().map(|stable| &stable.version);
        if stable.is_some_and(|stable| file.versions.get(stable).is_some()) || file.versions.len() == 1 {
            return Ok(None);
        }
        let Some(named) = &file.stable else {
            return Err(match stable {
                Some(gone) => StableUnknown::Gone(gone.clone()),
                None => StableUnknown::NoState,
            });
        };
        let canary = state.canary.as_ref().filter(|_| state.is_under_way());
        if canary.is_some_and(|canary| canary.version == *named) {
            // It takes over from the version that is gone.
            return Ok(None);
        }
        self.note_versions(file);
        Ok(Some(Event::Stable(self.target(named.clone()))))
    }

    /// What the file should say, where it does not name the stable version: whoever does not know the state goes by it.
    pub(super) fn behind(&self) -> Option<String> {
        let stable = &self.record.state.stable.as_ref()?.version;
        match &self.named {
            Named::Version(named) if named != stable => Some(format!(
                "the file still says `stable: {named}`, but {stable} is stable now: write `stable: {stable}`"
            )),
            Named::Nothing => Some(format!("the file does not say which version is stable; add `stable: {stable}`")),
            Named::Only | Named::Version(_) => None,
        }
    }

    /// What the file as it is now has to say: versions that are gone, another plan, other endpoints of the canary, the
    /// version that should serve. `before` is what it said, where that is known.
    pub(super) fn take_config(&mut self, file: &config::Service, before: Option<&config::Service>) -> Vec<Event> {
        let mut events = Vec::new();
        self.named = match &file.stable {
            _ if file.versions.len() == 1 => Named::Only,
            Some(stable) => Named::Version(stable.clone()),
            None => Named::Nothing,
        };
        let state = &self.record.state;
        let named = [&state.stable, &state.canary, &state.previous].into_iter().flatten();
        let gone: Vec<Name> =
            named.map(|target| target.version.clone()).filter(|version| file.versions.get(version).is_none()).collect();
        if !gone.is_empty() {
            events.push(Event::VersionsGone(gone));
        }
        if let Some(plan) = &file.rollout {
            let text = view::fingerprint(&format!("{plan:?}"));
            if text != self.record.plan {
                if !self.record.plan.is_empty() {
                    events.push(Event::PlanChanged);
                }
                self.record.plan = text;
                self.plan = Arc::new(plan.clone());
                self.dirty = true;
            }
        }
        let canary = self.record.state.canary.clone().filter(|_| self.record.state.is_under_way());
        let replaced = canary.is_some_and(|canary| self.is_replaced(&canary.version, file, before));
        events.extend(replaced.then_some(Event::CanaryReplaced));
        self.note_versions(file);
        events.extend(view::wanted(file).map(|version| Event::Release(self.target(version))));
        events
    }

    /// Whether the endpoints of a version are others than they were. Where it is not known what they were, any difference
    /// counts.
    fn is_replaced(&self, version: &Name, file: &config::Service, before: Option<&config::Service>) -> bool {
        let (Some(seen), Some(now)) = (self.record.seen.get(&**version), file.versions.get(version)) else {
            return false;
        };
        let before = before.and_then(|before| before.versions.get(version));
        seen.what != view::describe(now) && !before.is_some_and(|before| view::is_scaled(before, now))
    }

    /// Notes what the file's versions are. One that serves, or is being rolled out, stays itself when its endpoints
    /// change: it was scaled. One that failed or was never tried becomes another.
    fn note_versions(&mut self, file: &config::Service) {
        let state = &self.record.state;
        let canary = state.canary.as_ref().filter(|_| state.is_under_way());
        let busy: Vec<&Name> = state.stable.iter().chain(canary).map(|target| &target.version).collect();
        let mut seen = self.record.seen.clone();
        for (name, version) in file.versions.iter() {
            let what = view::describe(version);
            let known =
                seen.entry(name.to_string()).or_insert_with(|| SeenVersion { what: what.clone(), generation: 1 });
            if known.what != what {
                known.generation += u64::from(!busy.contains(&name));
                known.what = what;
            }
        }
        let has_failed = |name: &str| state.failed_targets.iter().any(|given| *given.target.version == *name);
        seen.retain(|name, _| file.versions.get(name).is_some() || has_failed(name));
        if seen != self.record.seen {
            self.record.seen = seen;
            self.dirty = true;
        }
    }

    /// A version as something to roll out.
    pub(super) fn target(&self, version: Name) -> RolloutTarget {
        let generation = self.record.seen.get(&*version).map_or(0, |seen| seen.generation);
        RolloutTarget { version, fingerprint: generation.to_string() }
    }
}
