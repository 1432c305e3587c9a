//! Signatures with which Weir believes a client: of a version that it names, of a cookie that Weir gave it.
//!
//! ```text
//! override:  v2.1767225600.5257a869e7…      version . expiry, Unix seconds . signature
//!            HMAC-SHA256 of "override/SERVICE/v2/1767225600", in hexadecimal
//! cookie:    KEY.5257a869e7…                HMAC-SHA256 of "affinity/SERVICE/KEY"
//!            KEY.v2.5257a869e7…             HMAC-SHA256 of "affinity/SERVICE/KEY/v2"
//! ```
//!
//! Names and keys have no slash, so the parts of what is signed cannot run into each other, and the first part tells the
//! two kinds apart. A signature is compared in constant time, as how long a comparison takes would tell how much of a
//! guess is right.

use std::fmt::{self, Write as _};

use ring::hmac;
use subtle::ConstantTimeEq;

/// Keys that sign: the first signs, each is believed, so that a key can be replaced while the old one is still in use.
#[derive(Clone)]
pub struct SigningKeys {
    keys: Box<[hmac::Key]>,
    /// What they were made of: equal keys are the same keys.
    text: Box<str>,
}

/// Why a text holds no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKeys {
    /// It has no line.
    #[error("it is empty")]
    Empty,
    /// It has more lines than keys are believed at once.
    #[error("more than {MAX_KEYS} lines: each is a key, and two are enough to replace one by another")]
    TooMany,
    /// A line is too short for a key.
    #[error("a key of fewer than {MIN_KEY} bytes, which can be guessed: `openssl rand -hex 32` makes a good one")]
    Short,
}

/// How many keys are believed at once.
const MAX_KEYS: usize = 4;
/// The shortest key, in bytes.
const MIN_KEY: usize = 16;
/// A signature of 256 bits in hexadecimal.
const DIGITS: usize = 64;

impl SigningKeys {
    /// The keys of a text: one a line, without the white space around them; empty lines are none.
    ///
    /// # Errors
    /// If there is none, there are too many, or one can be guessed.
    pub fn parse(text: &str) -> Result<Self, NotKeys> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.len() {
            0 => return Err(NotKeys::Empty),
            1..=MAX_KEYS => {}
            _ => return Err(NotKeys::TooMany),
        }
        if lines.iter().any(|line| line.len() < MIN_KEY) {
            return Err(NotKeys::Short);
        }
        let keys = lines.iter().map(|line| hmac::Key::new(hmac::HMAC_SHA256, line.as_bytes())).collect();
        Ok(Self { keys, text: lines.join("\n").into() })
    }

    /// None: nothing is believed.
    #[must_use]
    pub(crate) fn none() -> Self {
        Self { keys: Box::default(), text: Box::default() }
    }

    /// The signature of these parts with a slash between, in hexadecimal.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> String {
        let mut text = String::with_capacity(DIGITS);
        if let Some(tag) = self.keys.first().map(|key| tag(key, parts)) {
            for byte in tag.as_ref() {
                // To a string, this cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
        }
        text
    }

    /// Whether `signature` is that of these parts under one of the keys.
    pub(crate) fn verify(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        let Some(claimed) = from_hex(signature) else { return false };
        self.keys.iter().any(|key| bool::from(tag(key, parts).as_ref().ct_eq(&claimed)))
    }
}

impl PartialEq for SigningKeys {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SigningKeys {}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").finish_non_exhaustive()
    }
}

fn tag(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            context.update(b"/");
        }
        context.update(part);
    }
    context.sign()
}

fn from_hex(text: &[u8]) -> Option<[u8; DIGITS / 2]> {
    let mut bytes = [0; DIGITS / 2];
    if text.len() != DIGITS {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The version that `token` names, if it is signed for this service and has not expired.
pub(super) fn overridden<'t>(keys: &SigningKeys, service: &str, token: &'t [u8], now: u64) -> Option<&'t [u8]> {
    let (rest, signature) = split_last(token)?;
    let (version, expires) = split_last(rest)?;
    let until: u64 = str::from_utf8(expires).ok()?.parse().ok()?;
    let signed = keys.verify(&[b"override", service.as_bytes(), version, expires], signature);
    (signed && now < until).then_some(version)
}

/// What a cookie of Weir's says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CookieValue<'c> {
    /// What tells clients apart.
    pub(super) key: &'c [u8],
    /// The version that the client was given.
    pub(super) version: Option<&'c [u8]>,
}

impl<'c> CookieValue<'c> {
    /// What a cookie says; none if it is not signed and should be.
    pub(super) fn read(value: &'c [u8], keys: Option<&SigningKeys>, service: &str) -> Option<Self> {
        let Some(keys) = keys else { return (!value.is_empty()).then_some(Self { key: value, version: None }) };
        let (signed, signature) = split_last(value)?;
        let mut parts = signed.splitn(2, |byte| *byte == b'.');
        let (key, version) = (parts.next().filter(|key| !key.is_empty())?, parts.next());
        let read = Self { key, version };
        read.with_parts(service, |parts| keys.verify(parts, signature)).then_some(read)
    }

    /// The value of a cookie that says this.
    pub(super) fn write(&self, keys: Option<&SigningKeys>, service: &str) -> String {
        let mut text = String::from_utf8_lossy(self.key).into_owned();
        let Some(keys) = keys else { return text };
        if let Some(version) = self.version {
            text = format!("{text}.{}", String::from_utf8_lossy(version));
        }
        let signature = self.with_parts(service, |parts| keys.sign(parts));
        format!("{text}.{signature}")
    }

    /// Calls `with` with what is signed.
    fn with_parts<T>(&self, service: &str, with: impl Fn(&[&[u8]]) -> T) -> T {
        match self.version {
            None => with(&[b"affinity", service.as_bytes(), self.key]),
            Some(version) => with(&[b"affinity", service.as_bytes(), self.key, version]),
        }
    }
}

/// What stands before the last dot, and behind it.
fn split_last(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = text.rsplitn(2, |byte| *byte == b'.');
    let last = parts.next()?;
    Some((parts.next()?, last))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    /// What names a version of a service from anywhere until `expires`, in Unix seconds.
    pub(in super::super) fn override_token(keys: &SigningKeys, service: &str, version: &str, expires: u64) -> String {
        let expires = expires.to_string();
        let signature = keys.sign(&[b"override", service.as_bytes(), version.as_bytes(), expires.as_bytes()]);
        format!("{version}.{expires}.{signature}")
    }

    fn keys(text: &str) -> SigningKeys {
        SigningKeys::parse(text).unwrap()
    }

    #[test]
    fn the_signature_is_the_one_that_openssl_makes() {
        // printf 'override/shop/v2/1767225600' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        let expected = "114103b54edf2a5d86597c336d83d4684367f5cd581108ced6445adbdb30d4a7";
        assert_eq!(override_token(&keys(TEXT), "shop", "v2", 1_767_225_600), format!("v2.1767225600.{expected}"));
    }

    #[test]
    fn an_override_is_believed_until_it_expires_and_for_its_service_alone() {
        let token = override_token(&keys(TEXT), "shop", "v2.1-rc", 1_000);
        let read = |keys: &SigningKeys, service, now| {
            overridden(keys, service, token.as_bytes(), now)
                .map(|version| String::from_utf8_lossy(version).into_owned())
        };
        assert_eq!(read(&keys(TEXT), "shop", 999).as_deref(), Some("v2.1-rc"));
        assert_eq!(read(&keys(TEXT), "shop", 1_000), None, "it has expired");
        assert_eq!(read(&keys(TEXT), "cart", 999), None, "it is another's");
        assert_eq!(read(&keys(&TEXT.replace('0', "1")), "shop", 999), None, "the key is another");
        let both = format!("{}\n\n {TEXT} \n", TEXT.replace('0', "1"));
        assert_eq!(read(&keys(&both), "shop", 999).as_deref(), Some("v2.1-rc"), "the old key is still believed");
        assert_ne!(override_token(&keys(&both), "shop", "v2.1-rc", 1_000), token, "the first key signs");
    }

    #[test]
    fn a_cookie_is_no_override_and_an_override_no_cookie() {
        let keys = keys(TEXT);
        let cookie = CookieValue { key: b"v2", version: Some(b"9999999999") }.write(Some(&keys), "shop");
        assert_eq!(overridden(&keys, "shop", cookie.as_bytes(), 0), None);
        let token = override_token(&keys, "shop", "v2", 9_999_999_999);
        assert_eq!(CookieValue::read(token.as_bytes(), Some(&keys), "shop"), None);
    }

    #[test]
    fn keys_are_lines_that_nobody_guesses() {
        assert_eq!(SigningKeys::parse(" \n\n"), Err(NotKeys::Empty));
        assert_eq!(SigningKeys::parse("short"), Err(NotKeys::Short));
        assert_eq!(SigningKeys::parse(&format!("{TEXT}\nshort")), Err(NotKeys::Short));
        assert_eq!(SigningKeys::parse(&format!("{TEXT}\n").repeat(5)), Err(NotKeys::TooMany));
        assert_eq!(keys(&format!("{TEXT}\r\n")), keys(TEXT));
        assert!(!format!("{:?}", keys(TEXT)).contains("0123"), "a key is no text to show");
    }

    proptest! {
        #[test]
        fn a_cookie_says_again_what_was_written(key in "[0-9a-f]{1,32}", version in proptest::option::of("[a-z0-9][a-z0-9._-]{0,20}")) {
            let keys = keys(TEXT);
            let said = CookieValue { key: key.as_bytes(), version: version.as_deref().map(str::as_bytes) };
            let text = said.write(Some(&keys), "shop");
            prop_assert_eq!(CookieValue::read(text.as_bytes(), Some(&keys), "shop"), Some(said));
            prop_assert_eq!(CookieValue::read(text.as_bytes(), Some(&keys), "cart"), None);
        }

        #[test]
        fn what_was_changed_is_not_believed(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let keys = keys(TEXT);
            let token = override_token(&keys, "shop", "v2", 1_000).into_bytes();
            let mut changed = token.clone();
            *at.get_mut(&mut changed) = to;
            // Digits of a signature may be in either case.
            prop_assume!(!changed.eq_ignore_ascii_case(&token) || changed[0] != token[0]);
            prop_assert_eq!(overridden(&keys, "shop", &changed, 0), None);
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keys = keys(TEXT);
            prop_assert_eq!(overridden(&keys, "shop", &bytes, 0), None);
            prop_assert_eq!(CookieValue::read(&bytes, Some(&keys), "shop"), None);
        }
    }
}
