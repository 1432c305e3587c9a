//! What is refused at load, and which certificate a name finds.

use std::path::Path;

use proptest::prelude::*;
use rustls::SignatureScheme;

use super::{Authority, Made, load, now, params};
use crate::model::fixture::Fixture as _;
use crate::tls::{Certificate, CertificateProblem, Certificates, ClientRoots, MAX_PEM_BYTES, Pair};

fn problem(made: &Made) -> CertificateProblem {
    Certificate::load(&made.pair(), now()).expect_err("it must be refused").problem
}

const SCHEMES: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

fn found(certificates: &Certificates, sni: Option<&str>) -> Vec<String> {
    certificates.find(sni, SCHEMES).unwrap().names().map(str::to_owned).collect()
}

#[test]
fn a_good_pair_tells_its_names() {
    let authority = Authority::new("ca");
    let params = params(&["Shop.Example.com", "*.shop.example.com", "10.0.0.1"]);
    let certificate = Certificate::load(&authority.sign(&params).pair(), now()).unwrap();
    assert_eq!(certificate.names().collect::<Vec<_>>(), ["shop.example.com", "*.shop.example.com"]);
}

#[test]
fn a_key_of_another_pair_is_refused_and_both_files_are_named() {
    let authority = Authority::new("ca");
    let (a, b) = (authority.server(&["a.test"]), authority.server(&["a.test"]));
    let why = Certificate::load(&Made { cert: a.cert, key: b.key }.pair(), now()).unwrap_err();
    assert_eq!(why.file, Path::new("tls.key"));
    assert_eq!(
        why.to_string(),
        "tls.key: the private key does not belong to the certificate in tls.crt; \
         name the two files of one pair; while they are being replaced this passes by itself"
    );
}

#[test]
fn a_certificate_is_refused_before_and_after_its_time() {
    let authority = Authority::new("ca");
    let mut params = params(&["a.test"]);
    params.not_before = rcgen::date_time_ymd(2026, 11, 2);
    assert!(
        matches!(problem(&authority.sign(&params)), CertificateProblem::NotYetValid { at } if at.contains("Nov  2 00:00:00 2026"))
    );
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 10, 31);
    assert!(
        matches!(problem(&authority.sign(&params)), CertificateProblem::Expired { at } if at.contains("Oct 31 00:00:00 2026"))
    );
}

#[test]
fn an_expired_authority_in_the_chain_is_no_reason_to_refuse() {
    let authority = Authority::new("ca");
    let made = authority.server(&["a.test"]);
    let mut old = params(&["old.test"]);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let chain = Made { cert: made.cert + &authority.sign(&old).cert, key: made.key };
    assert!(Certificate::load(&chain.pair(), now()).is_ok());
}

#[test]
fn garbage_is_refused() {
    let made = Authority::new("ca").server(&["a.test"]);
    let with_cert = |cert: &str| problem(&Made { cert: cert.to_owned(), ..made.clone() });
    let with_key = |key: &str| problem(&Made { key: key.to_owned(), ..made.clone() });
    assert_eq!(with_cert(""), CertificateProblem::NoCertificate);
    assert_eq!(with_cert("not pem at all"), CertificateProblem::NoCertificate);
    assert_eq!(with_cert(&made.key), CertificateProblem::NoCertificate);
    assert!(matches!(
        with_cert("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
        CertificateProblem::NotPem(_)
    ));
    assert!(matches!(
        with_cert("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        CertificateProblem::BadCertificate { position: 1, .. }
    ));
    let torn_chain = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", made.cert);
    assert!(matches!(with_cert(&torn_chain), CertificateProblem::BadCertificate { position: 2, .. }));
    assert_eq!(with_key(""), CertificateProblem::NoKey);
    assert_eq!(with_key(&made.cert), CertificateProblem::NoKey);
    assert!(matches!(
        with_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        CertificateProblem::BadKey { .. }
    ));
    assert_eq!(
        with_key("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        CertificateProblem::EncryptedKey
    );
    assert_eq!(with_cert(&" ".repeat(MAX_PEM_BYTES + 1)), CertificateProblem::TooLarge { bytes: MAX_PEM_BYTES + 1 });
}

#[test]
fn a_message_never_repeats_the_key() {
    let made = Authority::new("ca").server(&["a.test"]);
    let broken = made.key.changed("-----END", "?secret?\n-----END");
    let why = Certificate::load(&Made { key: broken, ..made }.pair(), now()).unwrap_err();
    assert!(!format!("{why} {why:?}").contains("secret"), "{why}");
}

#[test]
fn every_half_written_file_is_refused() {
    let made = Authority::new("ca").server(&["a.test"]);
    for end in 0..made.cert.trim_end().len() {
        assert!(Certificate::load(&Made { cert: made.cert[..end].to_owned(), ..made.clone() }.pair(), now()).is_err());
    }
    for end in 0..made.key.trim_end().len() {
        assert!(Certificate::load(&Made { key: made.key[..end].to_owned(), ..made.clone() }.pair(), now()).is_err());
    }
}

#[test]
fn a_chain_that_is_cut_inside_its_second_certificate_is_refused() {
    let authority = Authority::new("ca");
    let made = authority.server(&["a.test"]);
    let chain = format!("{}{}", made.cert, authority.pem);
    let inside = made.cert.len() + 40;
    assert_eq!(problem(&Made { cert: chain[..inside].to_owned(), ..made.clone() }), CertificateProblem::Torn);
    assert!(Certificate::load(&Made { cert: chain, ..made }.pair(), now()).is_ok());
}

#[test]
fn a_connection_made_for_one_name_carries_requests_for_another_only_if_its_certificate_is_good_for_both() {
    let authority = Authority::new("ca");
    let names: [&[&str]; 5] =
        [&["default.test"], &["a.test", "b.test"], &["*.wild.test"], &["own.wild.test"], &["c.test"]];
    let made: Vec<Made> = names.iter().map(|names| authority.server(names)).collect();
    let certificates = load(&made.iter().collect::<Vec<_>>());
    for (sni, host, alike) in [
        ("a.test", "a.test", true),
        ("a.test", "b.test", true),
        ("a.test", "B.Test", true),
        ("a.test", "c.test", false),
        ("c.test", "a.test", false),
        ("x.wild.test", "y.wild.test", true),
        // The wildcard that was shown is good for the name that has its own as well; the other way it is not.
        ("x.wild.test", "own.wild.test", true),
        ("own.wild.test", "x.wild.test", false),
        ("a.test", "default.test", false),
        // Who asks for a name without a certificate is shown the default.
        ("unknown.test", "default.test", true),
        ("unknown.test", "a.test", false),
        // What has no certificate of its own differs from nothing.
        ("a.test", "unknown.test", true),
        ("a.test", "10.0.0.1", true),
    ] {
        assert_eq!(certificates.serve_alike(sni, host), alike, "{sni} {host}");
    }
    assert!(Certificates::default().serve_alike("a.test", "b.test"));
}

#[test]
fn a_name_finds_the_exact_certificate_then_the_wildcard_then_the_first() {
    let authority = Authority::new("ca");
    let certificates = load(&[
        &authority.server(&["default.test"]),
        &authority.server(&["*.example.com"]),
        &authority.server(&["www.example.com"]),
    ]);
    let find = |sni| found(&certificates, Some(sni));
    assert_eq!(find("www.example.com"), ["www.example.com"]);
    assert_eq!(find("WWW.Example.COM."), ["www.example.com"]);
    assert_eq!(find("api.example.com"), ["*.example.com"]);
    assert_eq!(find("API.EXAMPLE.COM"), ["*.example.com"]);
    assert_eq!(find("a.b.example.com"), ["default.test"], "a wildcard stands for one label");
    assert_eq!(find("example.com"), ["default.test"], "and not for none");
    assert_eq!(find("other.test"), ["default.test"]);
    assert_eq!(find(""), ["default.test"]);
    assert_eq!(find("."), ["default.test"]);
    assert_eq!(found(&certificates, None), ["default.test"]);
}

#[test]
fn of_several_certificates_for_a_name_the_first_that_the_client_can_verify_is_served() {
    let authority = Authority::new("ca");
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let modern = authority.sign_with(&params(&["a.test"]), &ed25519);
    let common = authority.server(&["a.test"]);
    let certificates = load(&[&modern, &common]);
    let served = |schemes: &[SignatureScheme]| {
        let found = certificates.find(Some("a.test"), schemes).unwrap();
        certificates.iter().position(|certificate| std::ptr::eq(certificate, found)).unwrap()
    };
    assert_eq!(served(&[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]), 0);
    assert_eq!(served(&[SignatureScheme::ECDSA_NISTP256_SHA256]), 1);
    assert_eq!(served(&[SignatureScheme::RSA_PKCS1_SHA256]), 0, "none fits: the handshake says so, not the choice");
}

#[test]
fn without_certificates_there_is_none_to_find() {
    assert!(Certificates::default().find(Some("a.test"), SCHEMES).is_none());
}

#[test]
fn authorities_of_clients_are_checked_as_well() {
    let authority = Authority::new("ca");
    let file = Path::new("clients.pem");
    assert!(ClientRoots::load(file, authority.pem.as_bytes()).is_ok());
    assert_eq!(ClientRoots::load(file, b"").unwrap_err().problem, CertificateProblem::NoCertificate);
    let garbage = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", authority.pem);
    let why = ClientRoots::load(file, garbage.as_bytes()).unwrap_err();
    assert!(matches!(why.problem, CertificateProblem::BadCertificate { position: 2, .. }), "{why}");
    assert_eq!(why.file, file);
}

proptest! {
    #[test]
    fn no_bytes_make_loading_panic(cert in ".{0,300}", key in prop::collection::vec(any::<u8>(), 0..300)) {
        let file = Path::new("x");
        let pair = Pair { cert_file: file, cert: cert.as_bytes(), key_file: file, key: &key };
        prop_assert!(Certificate::load(&pair, now()).is_err());
    }

    #[test]
    fn no_damage_to_a_certificate_makes_loading_panic(at in 0_usize..400, flip in 1_u8..=255) {
        use base64_free::{decode, encode};
        let made = Authority::new("ca").server(&["a.test"]);
        let mut der = decode(&made.cert);
        let length = der.len();
        der[at % length] ^= flip;
        let _ = Certificate::load(&Made { cert: encode(&der), ..made }.pair(), now());
    }
}

/// PEM to DER by rustls, and DER to PEM by hand, since no base64 crate is a dependency.
mod base64_free {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    pub(super) fn decode(pem: &str) -> Vec<u8> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }

    pub(super) fn encode(der: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        for three in der.chunks(3) {
            let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
                text.push(if at > three.len() { '=' } else { char::from(ALPHABET[(bits >> shift & 63) as usize]) });
            }
            text.push('\n');
        }
        text + "-----END CERTIFICATE-----\n"
    }
}
