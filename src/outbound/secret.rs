//! Secrets in files, and the signature that one of them makes.
//!
//! A file is read at each call, so that a key that was replaced is used from the next call on. Who receives a call
//! checks it with the time and body that came:
//!
//! ```text
//! weir-signature: t=1763885563,v1=5257a869e7…
//!                 │            └ HMAC-SHA256 of "1763885563." + body, under the key, in hexadecimal
//!                 └ when it was signed, Unix seconds: refuse what is older than some minutes, and a call that
//!                   somebody recorded cannot be played again
//! ```
//!
//! Invariant: a [`SecretValue`] has no `Debug`, and no error has its text.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::{HeaderValue, InvalidHeaderValue};
use ring::hmac;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::rollout::alerts::Secret;

/// Where the signature of a body is.
pub(super) const SIGNATURE_HEADER: &str = "weir-signature";
/// The largest file, in bytes. A secret is a line.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A secret that was read, without white space around.
pub(super) struct SecretValue(String);

/// Why there is no secret, or no signature with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("the secret file `{}` cannot be read: {error}", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the secret file `{}` has more than 64 KiB; a secret is a line", .0.display())]
    TooLarge(PathBuf),
    #[error("the secret file `{}` is empty", .0.display())]
    Empty(PathBuf),
    #[error(transparent)]
    Signature(#[from] InvalidHeaderValue),
}

/// Reads a secret.
///
/// # Errors
/// If the file cannot be read, is empty, too large or no text.
pub(super) async fn read(secret: &Secret) -> Result<SecretValue, SecretError> {
    match secret {
        Secret::Text(text) => Ok(SecretValue(text.to_string())),
        Secret::File(path) => read_file(path).await,
    }
}

async fn read_file(path: &Path) -> Result<SecretValue, SecretError> {
    let text = read_text(path).await.map_err(|error| SecretError::Unreadable { path: path.to_owned(), error })?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretError::TooLarge(path.to_owned()));
    }
    match text.trim() {
        "" => Err(SecretError::Empty(path.to_owned())),
        secret => Ok(SecretValue(secret.to_owned())),
    }
}

/// The text of a file, up to a byte more than a secret may have.
async fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path).await?.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).await?;
    Ok(text)
}

impl SecretValue {
    /// The secret itself, for where it must be sent.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// The value of [`SIGNATURE_HEADER`] for this body, signed now.
    ///
    /// # Errors
    /// Never in practice; a call that should be signed is not made without.
    pub(super) fn sign(&self, body: &[u8]) -> Result<HeaderValue, InvalidHeaderValue> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.sign_at(now, body)
    }

    fn sign_at(&self, unix: u64, body: &[u8]) -> Result<HeaderValue, InvalidHeaderValue> {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes()));
        context.update(format!("{unix}.").as_bytes());
        context.update(body);
        let mut text = format!("t={unix},v1=");
        for byte in context.sign().as_ref() {
            // To a string, this cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        HeaderValue::try_from(text)
    }
}

/// The signature of this body under this secret, or none if there is none.
///
/// # Errors
/// As [`read`].
pub(super) async fn signature(secret: Option<&Secret>, body: &[u8]) -> Result<Option<HeaderValue>, SecretError> {
    match secret {
        Some(secret) => Ok(Some(read(secret).await?.sign(body)?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_others_compute() {
        // python3 -c 'import hmac; print(hmac.new(b"key", b"1700000000.{}", "sha256").hexdigest())'
        let expected = "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        assert_eq!(SecretValue("key".to_owned()).sign_at(1_700_000_000, b"{}").unwrap(), expected);
    }

    #[tokio::test]
    async fn a_secret_is_the_line_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let mut refused = Vec::new();
        for content in ["".into(), " \n".into(), "x".repeat(70_000)] {
            std::fs::write(&path, content).unwrap();
            refused.extend(read_file(&path).await.err());
        }
        assert_eq!(refused.len(), 3, "{refused:?}");
        std::fs::write(&path, "  s3cret\r\n").unwrap();
        assert_eq!(read_file(&path).await.ok().unwrap().expose(), "s3cret");
        std::fs::remove_file(&path).unwrap();
        assert!(read_file(&path).await.err().unwrap().to_string().contains("cannot be read"));
    }
}
