//! A claim of a JSON Web Token (RFC 7519), as a client's affinity key.
//!
//! The signature is not checked: whoever is wrong about itself is on another version than it would be, and nothing else
//! follows from it. Who a client is, its endpoint finds out.
//!
//! Invariant: any bytes may come, and cost no more than reading [`MAX_PAYLOAD`] of them once.

use std::fmt;

use serde::de::{self, Deserializer as _, IgnoredAny, MapAccess, Visitor};

/// The longest payload that is read, in its Base64 form. Heads may be larger, tokens are not.
const MAX_PAYLOAD: usize = 8 * 1024;

/// Gives the claim `name` of a token to `visit`, if it is a text or a whole number. A scheme before the token, as
/// `Authorization` has one, is passed over.
pub(super) fn claim<T>(token: &[u8], name: &str, visit: impl Fn(&[u8]) -> T) -> Option<T> {
    let token = token.rsplit(|byte| *byte == b' ').next()?;
    let mut parts = token.split(|byte| *byte == b'.');
    let payload = parts.nth(1)?;
    // Header, payload, signature; of an encrypted token (five parts) nothing can be read.
    if payload.len() > MAX_PAYLOAD || parts.next().is_none() || parts.next().is_some() {
        return None;
    }
    let payload = decode(payload)?;
    let mut json = serde_json::Deserializer::from_slice(&payload);
    let found = json.deserialize_map(ClaimNamed { name, visit: |value: &[u8]| visit(value) }).ok()?;
    json.end().ok()?;
    found
}

/// Base64 in the alphabet of URLs, without padding (RFC 7515 §2).
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for chunk in text.chunks(4) {
        let mut bits = 0_u32;
        for digit in chunk {
            bits = (bits << 6) | u32::from(sextet(*digit)?);
        }
        let [_, first, second, third] = (bits << (6 * (4 - chunk.len()))).to_be_bytes();
        match chunk.len() {
            4 => bytes.extend([first, second, third]),
            3 => bytes.extend([first, second]),
            2 => bytes.push(first),
            _ => return None,
        }
    }
    Some(bytes)
}

fn sextet(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

/// Looks for one claim among all and keeps nothing else.
struct ClaimNamed<'n, V> {
    name: &'n str,
    visit: V,
}

impl<'de, T, V: Fn(&[u8]) -> T> Visitor<'de> for ClaimNamed<'_, V> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut claims: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(is_named) = claims.next_key_seed(Is(self.name))? {
            if is_named {
                found = claims.next_value_seed(Scalar(&self.visit))?;
            } else {
                claims.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a text is this one.
struct Is<'n>(&'n str);

impl<'de> de::DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }
}

/// The value of a claim, if it can be a key.
struct Scalar<'v, V>(&'v V);

impl<'de, T, V: Fn(&[u8]) -> T> de::DeserializeSeed<'de> for Scalar<'_, V> {
    type Value = Option<T>;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T, V: Fn(&[u8]) -> T> Visitor<'de> for Scalar<'_, V> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a claim")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<T>, E> {
        Ok((!text.is_empty()).then(|| (self.0)(text.as_bytes())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<T>, E> {
        Ok(Some((self.0)(number.to_string().as_bytes())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<T>, E> {
        Ok(Some((self.0)(number.to_string().as_bytes())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    /// The naive way: bit by bit.
    fn encode(bytes: &[u8]) -> String {
        let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| (byte >> at) & 1)).collect();
        let digit = |six: &[u8]| (0..6).fold(0, |all, at| (all << 1) | usize::from(six.get(at).copied().unwrap_or(0)));
        bits.chunks(6).map(|six| char::from(ALPHABET[digit(six)])).collect()
    }

    fn token(claims: &str) -> String {
        format!("{}.{}.c2ln", encode(br#"{"alg":"none"}"#), encode(claims.as_bytes()))
    }

    fn found(token: &str, name: &str) -> Option<String> {
        claim(token.as_bytes(), name, |value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn the_token_of_the_rfc_says_who_issued_it() {
        // RFC 7519 §3.1.
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
            dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(found(token, "iss").as_deref(), Some("joe"));
        assert_eq!(found(&format!("Bearer {token}"), "exp").as_deref(), Some("1300819380"));
        assert_eq!(found(token, "http://example.com/is_root"), None, "what is true is nobody");
        assert_eq!(found(token, "sub"), None);
    }

    #[test]
    fn a_claim_is_found_whatever_stands_around_it() {
        for (claims, expected) in [
            (r#"{"sub":"ann"}"#, Some("ann")),
            (r#"{"a":{"sub":"inner"},"b":[{"sub":1}],"sub":"ann","z":null}"#, Some("ann")),
            (r#"{"sub":"\u00e4\n"}"#, Some("ä\n")),
            (r#"{"s\u0075b":"ann"}"#, Some("ann")),
            (r#"{"sub":-7}"#, Some("-7")),
            (r#"{"sub":""}"#, None),
            (r#"{"sub":null}"#, None),
            (r#"{"sub":1.5}"#, None),
            (r#"{"sub":["ann"]}"#, None),
            (r#"{"sub":{"id":"ann"},"x":1}"#, None),
            (r#"{"sub":"ann""#, None),
            (r#"{"sub":"ann"} trailing"#, None),
            (r#"["sub","ann"]"#, None),
            ("", None),
        ] {
            assert_eq!(found(&token(claims), "sub").as_deref(), expected, "{claims}");
        }
    }

    #[test]
    fn what_is_no_token_has_no_claim() {
        let good = token(r#"{"sub":"ann"}"#);
        let long = token(&format!(r#"{{"sub":"{}"}}"#, "a".repeat(7_000)));
        for odd in ["", ".", "..", "...", "a.b", "Bearer ", "a.!.c", "a.A.c", &format!("{good}.d.e"), &long] {
            assert_eq!(found(odd, "sub"), None, "{} bytes", odd.len());
        }
    }

    #[test]
    fn a_claim_is_found_beside_what_is_deep() {
        let deep = format!("{{\"x\":{}1{},\"sub\":\"ann\"}}", "[".repeat(2_000), "]".repeat(2_000));
        assert_eq!(found(&token(&deep), "sub").as_deref(), Some("ann"));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(encode(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn no_bytes_are_too_odd(
            token in proptest::collection::vec(any::<u8>(), 0..300),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = claim(&token, "sub", <[u8]>::len);
            let _ = claim(&[b"a.", encode(&payload).as_bytes(), b".c"].concat(), "sub", <[u8]>::len);
        }
    }
}
