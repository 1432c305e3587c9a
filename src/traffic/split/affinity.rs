//! Affinity: a client's key, its bucket, and the version in whose range the bucket is.
//!
//! The bucket is `hash(salt, key) mod 10 000`, compared with cumulative weights. The range of the file's last
//! version, the canary, comes first, then those of the others in the file's order, so the canary's neighbour is
//! the file's first version, the stable one. A shift between these two moves the edge between them and no
//! other: clients go one way only and none moves between other versions. With two versions that is every
//! change of weight; a change of a further version's weight moves the edges in between by as much.
//!
//! A cookie that Weir signs also says which version the client was given. Where clients are sticky, those who were given
//! the canary stay there while it takes requests, although their bucket is in another range by now.
//!
//! The hash must be the same in every build and on every machine for ever: FNV-1a with 64 bits (Fowler, Noll,
//! Vo; draft-eastlake-fnv) over salt, a separator and key, then the finaliser of MurmurHash3, because FNV alone
//! leaves the low bits of similar keys similar.

use std::hash::Hasher;
use std::net::IpAddr;

use super::choice::{KeySource, SplitOptions, TokenSource};
use super::jwt;
use super::signature::CookieValue;
use crate::algorithm::fnv::Fnv1a;
use crate::model::Weight;
use crate::traffic::{Request, cookie};

/// Buckets: one for each basis point.
const BUCKETS: u64 = 10_000;

/// Which version's range a bucket is in.
#[derive(Debug)]
pub(super) struct HashRanges(Vec<(u64, usize)>);

impl HashRanges {
    /// The ranges of versions with these weights.
    pub(super) fn new(weights: &[Weight]) -> Self {
        let mut edge = 0;
        let range = |(version, weight): (usize, &Weight)| {
            edge += u64::from(weight.basis_points());
            (edge, version)
        };
        let canary = weights.len().saturating_sub(1);
        let (others, last) = weights.split_at(canary);
        let order = last.iter().map(|weight| (canary, weight)).chain(others.iter().enumerate());
        Self(order.filter(|(_, weight)| **weight > Weight::ZERO).map(range).collect())
    }

    /// The version of a hashed key.
    pub(super) fn version(&self, hash: u64) -> usize {
        let bucket = hash % BUCKETS;
        self.0.iter().find(|(edge, _)| bucket < *edge).or(self.0.last()).map_or(0, |(_, version)| *version)
    }
}

/// The hash of a key under a salt.
#[must_use]
pub(crate) fn hash(salt: &str, key: &[u8]) -> u64 {
    let mut hash = Fnv1a::default();
    // No text has the byte 0xFF, so salt and key cannot run into each other.
    [salt.as_bytes(), &[0xFF], key].into_iter().for_each(|part| hash.write(part));
    mix(hash.finish())
}

/// Spreads a hash: the 64-bit finaliser of MurmurHash3 (Appleby). Also makes one hash out of another.
#[must_use]
pub(crate) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// What a request says of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownClient {
    /// Its affinity key, hashed.
    pub(super) key: u64,
    /// The version that its cookie says it was given, by index.
    pub(super) given: Option<usize>,
}

/// What a request says of its client, if it says anything. `at`: the index of a version, by name.
pub(super) fn client(
    options: &SplitOptions,
    request: &impl Request,
    at: impl Fn(&[u8]) -> Option<usize>,
) -> Option<KnownClient> {
    let hashed =
        |value: &[u8]| (!value.is_empty()).then(|| KnownClient { key: hash(&options.salt, value), given: None });
    match options.affinity.as_ref()? {
        KeySource::Header(name) => request.header(name).and_then(hashed),
        KeySource::Cookie { name, keys, .. } => cookie::find(request, name, |value| {
            let said = CookieValue::read(value, keys.as_ref(), &options.service)?;
            Some(KnownClient { given: said.version.and_then(&at), ..hashed(said.key)? })
        })
        .flatten(),
        KeySource::Claim { token: TokenSource::Header(header), name } => {
            jwt::claim(request.header(header)?, name, hashed).flatten()
        }
        KeySource::Claim { token: TokenSource::Cookie(cookie), name } => {
            cookie::find(request, cookie, |token| jwt::claim(token, name, hashed).flatten()).flatten()
        }
        KeySource::Address => Some(KnownClient { key: address_key(&options.salt, request)?, given: None }),
    }
}

/// The hashed key of a client that is told by its address.
pub(super) fn address_key(salt: &str, request: &impl Request) -> Option<u64> {
    Some(match request.client()?.to_canonical() {
        IpAddr::V4(address) => hash(salt, &address.octets()),
        // The network: of its other half a client has as many as it likes (RFC 4941).
        IpAddr::V6(address) => hash(salt, address.octets().first_chunk::<8>()?),
    })
}

/// The value of the cookie of a client with this key, that was given this version where that is to be remembered.
pub(super) fn cookie_value(options: &SplitOptions, key: &[u8], given: Option<&str>) -> String {
    let keys = match &options.affinity {
        Some(KeySource::Cookie { keys, .. }) => keys.as_ref(),
        _ => None,
    };
    CookieValue { key, version: given.map(str::as_bytes) }.write(keys, &options.service)
}

/// The same for a client that has such a cookie already, and keeps its key.
pub(super) fn renewed_cookie(options: &SplitOptions, request: &impl Request, given: &str) -> Option<String> {
    let Some(KeySource::Cookie { name, keys, .. }) = &options.affinity else { return None };
    cookie::find(request, name, |value| {
        let said = CookieValue::read(value, keys.as_ref(), &options.service)?;
        Some(cookie_value(options, said.key, Some(given)))
    })
    .flatten()
}
