//! Why a certificate, a key or a list of authorities cannot be used, and what to do about it.
//!
//! Nothing of a file's content is repeated in a message: it may be a private key.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem;

use super::MAX_PEM_BYTES;

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}; {}", .file.display(), .problem.help())]
pub(crate) struct Unusable {
    /// The file that the bytes came from.
    pub(crate) file: PathBuf,
    /// What is wrong with it.
    pub(crate) problem: CertificateProblem,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateProblem {
    /// More bytes than any such file has.
    #[error("the file has {bytes} bytes, more than the {MAX_PEM_BYTES} that are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A PEM section begins and does not end.
    #[error("the file ends in the middle of a PEM section")]
    Torn,
    /// A PEM section's content or first line cannot be read.
    #[error("the file is not PEM: {0}")]
    NotPem(&'static str),
    /// There is no certificate in the file.
    #[error("the file has no certificate")]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("certificate {position} of the file cannot be used: {reason}")]
    BadCertificate {
        /// Which one, counted from 1.
        position: usize,
        /// What the parser says.
        reason: String,
    },
    /// There is no private key in the file.
    #[error("the file has no private key")]
    NoKey,
    /// The private key is protected by a passphrase.
    #[error("the private key is encrypted")]
    EncryptedKey,
    /// The key is of a kind, or a size, that is not supported.
    #[error("the private key cannot be used: {reason}")]
    BadKey {
        /// What the cryptography says.
        reason: String,
    },
    /// Certificate and key are not of one pair.
    #[error("the private key does not belong to the certificate in {}", .cert_file.display())]
    Mismatch {
        /// Where the certificate is.
        cert_file: PathBuf,
    },
    /// The certificate's time is over.
    #[error("the certificate expired on {at}")]
    Expired {
        /// Its last moment.
        at: String,
    },
    /// The certificate's time has not begun.
    #[error("the certificate is not valid before {at}")]
    NotYetValid {
        /// Its first moment.
        at: String,
    },
}

impl CertificateProblem {
    /// What to do about it.
    #[must_use]
    pub(crate) const fn help(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "name a PEM file with only the certificates or the key that are needed",
            Self::Torn => "wait for the writer to finish, or write a new file and rename it over the old one",
            Self::NotPem(_) => "convert it with `openssl x509 -outform pem` or `openssl pkey -outform pem`",
            Self::NoCertificate => "name the PEM file that has the server's certificate first and its chain after it",
            Self::BadCertificate { .. } => "ask for the certificate anew, or export it again",
            Self::NoKey => "name the PEM file that begins with `-----BEGIN PRIVATE KEY-----`",
            Self::EncryptedKey => "decrypt it with `openssl pkey -in KEY -out PLAIN` and protect the file by its mode",
            Self::BadKey { .. } => "use an RSA key of 2048 to 4096 bits, an ECDSA key on P-256 or P-384, or Ed25519",
            Self::Mismatch { .. } => {
                "name the two files of one pair; while they are being replaced this passes by itself"
            }
            Self::Expired { .. } => "renew the certificate, or correct this machine's clock",
            Self::NotYetValid { .. } => "wait until then, or correct this machine's clock",
        }
    }

    /// This problem, of that file.
    pub(super) fn of(self, file: &Path) -> Unusable {
        Unusable { file: file.to_owned(), problem: self }
    }
}

impl From<pem::Error> for CertificateProblem {
    fn from(error: pem::Error) -> Self {
        match error {
            pem::Error::MissingSectionEnd { .. } => Self::Torn,
            pem::Error::IllegalSectionStart { .. } => Self::NotPem("a `-----BEGIN` line is malformed"),
            pem::Error::Base64Decode(_) => Self::NotPem("a section is not base64"),
            _ => Self::NotPem("it cannot be read"),
        }
    }
}
