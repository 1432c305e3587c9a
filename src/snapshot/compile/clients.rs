//! What the file says of clients → what besides weights decides on their version, and the cookie that they get.

use std::path::PathBuf;

use super::inputs::Inputs;
use crate::config::{self, AffinityKey, AffinityMode, OverrideFrom, SameSite, SecureCookie, Token};
use crate::model::Name;
use crate::snapshot::{AffinityCookie, CookieSecure, Service};
use crate::traffic::split::{Failover, KeySource, OverrideSource, SigningKeys, SplitOptions, TokenSource};

/// What besides weights decides for a service.
pub(super) fn options(name: &Name, file: &config::Service, inputs: &Inputs) -> SplitOptions {
    let affinity = file.affinity.as_ref();
    let salt = affinity.and_then(|affinity| affinity.salt.clone());
    let remembers = affinity.is_some_and(|affinity| affinity.mode == AffinityMode::Sticky);
    SplitOptions {
        service: name.to_string(),
        salt: salt.unwrap_or_else(|| name.to_string()),
        affinity: affinity.map(|affinity| key_source(&affinity.key, inputs)),
        remembers,
        sticky: if remembers { canary(name, file, inputs) } else { None },
        failover: if file.failover { Failover::ToOthers } else { Failover::Never },
        overrides: file.overrides.as_ref().map(|over| OverrideSource {
            header: over.header.as_ref().map(|name| name.as_str().into()),
            cookie: over.cookie.as_deref().map(Into::into),
            from: match &over.from {
                Some(OverrideFrom::Anyone) => None,
                Some(OverrideFrom::Addresses(nets)) => Some(nets.iter().map(|cidr| cidr.get()).collect()),
                None => Some(Vec::new()),
            },
            keys: keys(over.secret_file.as_ref(), inputs),
        }),
    }
}

/// Whether `service`, compiled from the same section of the file, decides as these inputs make it.
pub(super) fn are_same(service: &Service, file: &config::Service, inputs: &Inputs) -> bool {
    let is_plain = file.affinity.is_none() && file.overrides.is_none();
    is_plain || *service.chooser.options() == options(&service.name, file, inputs)
}

fn key_source(key: &AffinityKey, inputs: &Inputs) -> KeySource {
    match key {
        AffinityKey::Header(name) => KeySource::Header(name.as_str().into()),
        AffinityKey::Cookie { name, made } => KeySource::Cookie {
            name: name.as_str().into(),
            make: made.is_some(),
            keys: keys(made.as_ref().and_then(|made| made.secret_file.as_ref()), inputs),
        },
        AffinityKey::Jwt { token, claim } => KeySource::Claim {
            token: match token {
                Token::Header(name) => TokenSource::Header(name.as_str().into()),
                Token::Cookie(name) => TokenSource::Cookie(name.as_str().into()),
            },
            name: claim.as_str().into(),
        },
        AffinityKey::Address => KeySource::Address,
    }
}

/// The keys in a file. Without them, which a reload does not let happen, nothing that is signed is believed.
fn keys(file: Option<&PathBuf>, inputs: &Inputs) -> Option<SigningKeys> {
    file.map(|file| inputs.signing_keys.get(file).cloned().unwrap_or_else(SigningKeys::none))
}

/// The version that sticky clients stay on: the canary of a rollout while it goes forward, else the file's last version.
fn canary(name: &Name, file: &config::Service, inputs: &Inputs) -> Option<usize> {
    match inputs.canaries.get(name) {
        Some(canary) => file.versions.iter().position(|(version, _)| version == canary),
        // Where a rollout is over, or goes back, its end is the end of the canary.
        None if file.rollout.is_some() => None,
        None => file.versions.iter().count().checked_sub(1).filter(|last| *last > 0),
    }
}

/// How the cookie is made that keeps clients on their version, if Weir is to set one.
pub(super) fn cookie(file: &config::Service) -> Option<AffinityCookie> {
    match file.affinity.as_ref().map(|affinity| &affinity.key) {
        Some(AffinityKey::Cookie { name, made: Some(made) }) => Some(AffinityCookie {
            name: name.as_str().into(),
            max_age: made.ttl.get(),
            secure: match made.secure {
                SecureCookie::Auto => CookieSecure::Auto,
                SecureCookie::Always => CookieSecure::Always,
                SecureCookie::Never => CookieSecure::Never,
            },
            same_site: match made.same_site {
                SameSite::Lax => "Lax",
                SameSite::Strict => "Strict",
                SameSite::None => "None",
            },
        }),
        _ => None,
    }
}
