//! Limits of requests and clients, for the file and for listeners that say something of their own.

use crate::config::{self, Config};
use crate::model::Name;
use crate::snapshot::ClientLimits;
use crate::traffic::validate::Limits;
use crate::traffic::validate::spelling::{Backslash, EncodedSlash, NonAscii, Paths, Underscore};

/// What request validation lets pass where a listener says nothing of its own.
pub(super) fn of_file(config: &Config) -> Limits {
    limits(config, config.paths, config.headers)
}

/// What request validation lets pass on listeners that say something of their own.
pub(super) fn of_listeners(config: &Config) -> Vec<(Name, Limits)> {
    let own = config.listeners.iter().filter(|listener| has_own_limits(listener));
    own.map(|listener| (listener.name.clone(), limits_of(config, listener))).collect()
}

fn has_own_limits(listener: &config::Listener) -> bool {
    (listener.paths, listener.headers) != Default::default()
}

/// What request validation lets pass on `listener`.
fn limits_of(config: &Config, listener: &config::Listener) -> Limits {
    limits(config, listener.paths.over(config.paths), listener.headers.over(config.headers))
}

fn limits(config: &Config, paths: config::Paths, headers: config::Headers) -> Limits {
    let limits = &config.limits;
    let default = Paths::default();
    Limits {
        method_bytes: usize::from(limits.method_bytes),
        target_bytes: limits.uri_bytes.as_len(),
        fields: usize::from(limits.header_fields),
        header_bytes: limits.header_bytes.as_len(),
        body_bytes: limits.body_bytes.map(config::Bytes::get),
        paths: Paths {
            encoded_slash: paths.encoded_slash.map_or(default.encoded_slash, |choice| match choice {
                config::EncodedSlash::Refuse => EncodedSlash::Refuse,
                config::EncodedSlash::Keep => EncodedSlash::Keep,
                config::EncodedSlash::Decode => EncodedSlash::Decode,
            }),
            backslash: paths.backslash.map_or(default.backslash, |choice| match choice {
                config::Backslash::Refuse => Backslash::Refuse,
                config::Backslash::Keep => Backslash::Keep,
            }),
            merge_slashes: paths.merge_slashes.unwrap_or(default.merge_slashes),
            non_ascii: paths.non_ascii.map_or(default.non_ascii, |choice| match choice {
                config::NonAscii::Refuse => NonAscii::Refuse,
                config::NonAscii::Encode => NonAscii::Encode,
                config::NonAscii::Keep => NonAscii::Keep,
            }),
        },
        underscore: headers.underscore.map_or(Underscore::default(), underscore),
    }
}

/// What becomes of header names with an underscore.
pub(super) fn underscore(choice: config::Underscore) -> Underscore {
    match choice {
        config::Underscore::Refuse => Underscore::Refuse,
        config::Underscore::Drop => Underscore::Drop,
        config::Underscore::Allow => Underscore::Allow,
    }
}

/// The spellings in which a path may come in by some listener, so that only routes that none can reach are refused.
pub(super) fn every_spelling(config: &Config) -> Paths {
    let all: Vec<Paths> = config.listeners.iter().map(|listener| limits_of(config, listener).paths).collect();
    let any = |is: fn(&Paths) -> bool| all.iter().any(is);
    Paths {
        encoded_slash: if any(|paths| paths.encoded_slash == EncodedSlash::Keep) {
            EncodedSlash::Keep
        } else if any(|paths| paths.encoded_slash == EncodedSlash::Decode) {
            EncodedSlash::Decode
        } else {
            EncodedSlash::Refuse
        },
        backslash: if any(|paths| paths.backslash == Backslash::Keep) { Backslash::Keep } else { Backslash::Refuse },
        merge_slashes: !any(|paths| !paths.merge_slashes),
        // A route says it in triplets, and is matched so, whatever comes.
        non_ascii: NonAscii::Refuse,
    }
}

/// How long clients may take, and how much they may have open.
pub(super) fn of_clients(limits: &config::Limits) -> ClientLimits {
    ClientLimits {
        head_timeout: limits.header_timeout.get(),
        handshake_timeout: limits.handshake_timeout.get(),
        keepalive: limits.keepalive.get(),
        write_timeout: limits.write_timeout.get(),
        unread_bytes: limits.unread_bytes.get(),
        h2_streams: limits.h2_streams,
        header_bytes: u32::try_from(limits.header_bytes.get()).unwrap_or(u32::MAX),
    }
}
