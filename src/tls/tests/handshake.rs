//! Real handshakes: which certificate is served, who is let in, and who may come back without one.

use std::path::Path;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, Error, HandshakeKind, ProtocolVersion, ServerConfig, SupportedProtocolVersion,
};

use super::{Authority, BOTH, Made, client, der, fixed, load, replaceable, shake};
use crate::tls::{
    Certificates, ClientAuth, ClientRoots, Demand, MinVersion, Options, Resumption, Source, server_config,
};

fn server(options: &Options, certificates: Source<Certificates>) -> Arc<ServerConfig> {
    server_config(options, certificates, &Resumption::new().unwrap()).unwrap()
}

fn plain(made: &[&Made]) -> Arc<ServerConfig> {
    server(&Options::default(), fixed(load(made)))
}

fn asking(demand: Demand, authority: &Authority) -> (Options, Arc<arc_swap::ArcSwap<ClientRoots>>) {
    let (roots, swap) = replaceable(roots(authority));
    (Options { client_auth: Some(ClientAuth { demand, roots }), ..Options::default() }, swap)
}

fn roots(authority: &Authority) -> ClientRoots {
    ClientRoots::load(Path::new("ca.pem"), authority.pem.as_bytes()).unwrap()
}

#[test]
fn the_certificate_is_served_that_the_client_asks_for() {
    let authority = Authority::new("ca");
    let (first, wild) = (authority.server(&["a.test"]), authority.server(&["*.b.test"]));
    let server = plain(&[&first, &wild]);
    let client = Arc::new(client(&authority, BOTH, None));
    assert_eq!(shake(&server, &client, "a.test").unwrap().served, der(&first));
    assert_eq!(shake(&server, &client, "x.b.test").unwrap().served, der(&wild));
    let wrong = shake(&server, &client, "elsewhere.test").unwrap_err();
    assert!(matches!(wrong, Error::InvalidCertificate(_)), "the default is served, and the client judges it: {wrong}");
}

#[test]
fn a_client_that_names_an_ip_address_gets_the_default() {
    let authority = Authority::new("ca");
    let made = authority.server(&["127.0.0.1"]);
    let server = plain(&[&made, &authority.server(&["b.test"])]);
    assert_eq!(shake(&server, &Arc::new(client(&authority, BOTH, None)), "127.0.0.1").unwrap().served, der(&made));
}

#[test]
fn a_replaced_certificate_is_served_from_the_next_handshake_on() {
    let authority = Authority::new("ca");
    let (old, new) = (authority.server(&["a.test"]), authority.server(&["a.test"]));
    let (source, swap) = replaceable(load(&[&old]));
    let server = server(&Options::default(), source);
    let fresh = || Arc::new(client(&authority, BOTH, None));
    assert_eq!(shake(&server, &fresh(), "a.test").unwrap().served, der(&old));
    swap.store(Arc::new(load(&[&new])));
    assert_eq!(shake(&server, &fresh(), "a.test").unwrap().served, der(&new));
}

#[test]
fn without_any_certificate_the_handshake_is_refused_not_hung() {
    let authority = Authority::new("ca");
    let server = server(&Options::default(), fixed(Certificates::default()));
    assert!(shake(&server, &Arc::new(client(&authority, BOTH, None)), "a.test").is_err());
}

#[test]
fn clients_of_both_versions_are_served_unless_the_oldest_is_set() {
    let authority = Authority::new("ca");
    let made = authority.server(&["a.test"]);
    let both = plain(&[&made]);
    let version = |server: &Arc<ServerConfig>, versions: &[&'static SupportedProtocolVersion]| {
        shake(server, &Arc::new(client(&authority, versions, None)), "a.test").map(|shaken| shaken.version)
    };
    assert_eq!(version(&both, &[&TLS12]), Ok(ProtocolVersion::TLSv1_2));
    assert_eq!(version(&both, &[&TLS13]), Ok(ProtocolVersion::TLSv1_3));
    let options = Options { min_version: MinVersion::Tls13, ..Options::default() };
    let newest = server(&options, fixed(load(&[&made])));
    assert_eq!(version(&newest, BOTH), Ok(ProtocolVersion::TLSv1_3));
    assert!(version(&newest, &[&TLS12]).is_err());
}

#[test]
fn http_2_is_preferred_where_it_is_offered() {
    let authority = Authority::new("ca");
    let made = authority.server(&["a.test"]);
    let alpn = |offer: &[&str]| {
        let server = server(&Options::default(), fixed(load(&[&made])));
        let mut client = client(&authority, BOTH, None);
        client.alpn_protocols = offer.iter().map(|name| name.as_bytes().to_vec()).collect();
        let shaken = shake(&server, &Arc::new(client), "a.test")?;
        Ok::<_, Error>(shaken.alpn.map(|name| String::from_utf8(name).unwrap()))
    };
    let agreed = |name: &str| Ok(Some(name.to_owned()));
    assert_eq!(alpn(&["http/1.1", "h2"]), agreed("h2"));
    assert_eq!(alpn(&["http/1.1"]), agreed("http/1.1"));
    assert_eq!(alpn(&[]), Ok(None));
    assert!(alpn(&["smtp"]).is_err(), "nothing in common is refused, not guessed");
}

#[test]
fn a_client_comes_back_with_a_ticket_to_any_listener_of_the_process() {
    for versions in [&[&TLS12][..], &[&TLS13][..]] {
        let authority = Authority::new("ca");
        let made = authority.server(&["a.test"]);
        let resumption = Resumption::new().unwrap();
        let listener = || server_config(&Options::default(), fixed(load(&[&made])), &resumption).unwrap();
        let (one, other) = (listener(), listener());
        let client = Arc::new(client(&authority, versions, None));
        assert_eq!(shake(&one, &client, "a.test").unwrap().kind, HandshakeKind::Full);
        assert_eq!(shake(&one, &client, "a.test").unwrap().kind, HandshakeKind::Resumed);
        assert_eq!(shake(&other, &client, "a.test").unwrap().kind, HandshakeKind::Resumed);
        let stranger = plain(&[&made]);
        assert_eq!(shake(&stranger, &client, "a.test").unwrap().kind, HandshakeKind::Full, "another process's key");
    }
}

fn no_certificate(error: &Error) -> bool {
    matches!(error, Error::NoCertificatesPresented | Error::AlertReceived(AlertDescription::CertificateRequired))
}

#[test]
fn where_a_client_certificate_is_required_none_and_a_foreign_one_are_refused() {
    for versions in [&[&TLS12][..], &[&TLS13][..]] {
        let (authority, clients, foreign) =
            (Authority::new("ca"), Authority::new("clients"), Authority::new("foreign"));
        let (options, _roots) = asking(Demand::Required, &clients);
        let server = server(&options, fixed(load(&[&authority.server(&["a.test"])])));
        let try_with = |own: Option<&Made>| shake(&server, &Arc::new(client(&authority, versions, own)), "a.test");
        let mine = clients.server(&["me"]);
        assert_eq!(try_with(Some(&mine)).unwrap().client_cert, Some(der(&mine)));
        assert!(no_certificate(&try_with(None).unwrap_err()));
        let error = try_with(Some(&foreign.server(&["me"]))).unwrap_err();
        assert_eq!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer));
    }
}

#[test]
fn where_a_client_certificate_is_optional_a_bad_one_is_still_refused() {
    let (authority, clients, foreign) = (Authority::new("ca"), Authority::new("clients"), Authority::new("foreign"));
    let (options, _roots) = asking(Demand::Optional, &clients);
    let server = server(&options, fixed(load(&[&authority.server(&["a.test"])])));
    let try_with = |own: Option<&Made>| shake(&server, &Arc::new(client(&authority, BOTH, own)), "a.test");
    let mine = clients.server(&["me"]);
    assert_eq!(try_with(None).unwrap().client_cert, None);
    assert_eq!(try_with(Some(&mine)).unwrap().client_cert, Some(der(&mine)));
    assert!(try_with(Some(&foreign.server(&["me"]))).is_err());
    let mut expired = super::params(&["me"]);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    assert!(try_with(Some(&clients.sign(&expired))).is_err());
}

#[test]
fn a_client_whose_authority_is_removed_is_refused_even_if_it_was_here_before() {
    for versions in [&[&TLS12][..], &[&TLS13][..]] {
        let (authority, before, after) = (Authority::new("ca"), Authority::new("before"), Authority::new("after"));
        let (options, swap) = asking(Demand::Required, &before);
        let server = server(&options, fixed(load(&[&authority.server(&["a.test"])])));
        let old = Arc::new(client(&authority, versions, Some(&before.server(&["me"]))));
        assert_eq!(shake(&server, &old, "a.test").unwrap().kind, HandshakeKind::Full);
        assert_eq!(shake(&server, &old, "a.test").unwrap().kind, HandshakeKind::Full, "sessions are not kept");
        swap.store(Arc::new(roots(&after)));
        assert!(shake(&server, &old, "a.test").is_err());
        let new = Arc::new(client(&authority, versions, Some(&after.server(&["me"]))));
        assert!(shake(&server, &new, "a.test").is_ok());
    }
}

#[test]
fn a_ticket_of_an_open_listener_does_not_open_one_that_asks_for_client_certificates() {
    for versions in [&[&TLS12][..], &[&TLS13][..]] {
        let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
        let made = authority.server(&["a.test"]);
        let resumption = Resumption::new().unwrap();
        let open = server_config(&Options::default(), fixed(load(&[&made])), &resumption).unwrap();
        let (options, _roots) = asking(Demand::Required, &clients);
        let closed = server_config(&options, fixed(load(&[&made])), &resumption).unwrap();
        let client = Arc::new(client(&authority, versions, None));
        assert!(shake(&open, &client, "a.test").is_ok());
        assert_eq!(shake(&open, &client, "a.test").unwrap().kind, HandshakeKind::Resumed);
        assert!(shake(&closed, &client, "a.test").is_err());
    }
}
