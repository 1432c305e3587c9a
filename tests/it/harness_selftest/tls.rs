//! TLS: names, trust, versions, client certificates, validity, files.

use crate::harness::certs::Validity;
use crate::harness::{Authority, Failure, H1, H2, Load, Origin, Target, Tls};

#[tokio::test]
async fn both_protocols_are_spoken_over_tls_and_what_was_agreed_shows() {
    let authority = Authority::new("Test CA");
    let identity = authority.server(&["shop.test", "127.0.0.1"]);
    let origin = Origin::plan("v1").tls(&identity).start().await;
    let tls = Tls::trusting(&authority, "shop.test");
    let target = Target::from(origin.address()).tls(&tls);
    let mut h1 = H1::connect(&target).await;
    let h2 = H2::connect(&target).await;
    assert_eq!((h1.get("/").await.origin(), h2.get("/").await.origin()), ("v1", "v1"));
    assert!(h1.tls().is(&identity) && h2.tls().is(&identity));
    assert_eq!((h1.tls().alpn.as_deref(), h2.tls().alpn.as_deref()), (Some("http/1.1"), Some("h2")));
    Load::at(&target).keep_alive(1).http2(1, 2).new_connections(1).count(12).run().await.assert_clean();

    for (tls, version) in [
        (tls.clone().only_tls12(), rustls::ProtocolVersion::TLSv1_2),
        (tls.clone().only_tls13(), rustls::ProtocolVersion::TLSv1_3),
        (Tls::trusting(&authority, "127.0.0.1"), rustls::ProtocolVersion::TLSv1_3),
    ] {
        let h1 = H1::connect(Target::from(origin.address()).tls(&tls)).await;
        assert_eq!((h1.tls().version, h1.tls().resumed), (version, false));
    }
}

#[tokio::test]
async fn sessions_resume_only_when_asked_to() {
    let authority = Authority::new("Test CA");
    let origin = Origin::plan("v1").tls(&authority.server(&["shop.test"])).start().await;
    let resuming = Tls::trusting(&authority, "shop.test").resuming();
    for (tls, expected) in [(resuming.clone(), false), (resuming, true)] {
        let mut h1 = H1::connect(Target::from(origin.address()).tls(&tls)).await;
        assert_eq!(h1.tls().resumed, expected);
        // The tickets come after the handshake, with the first answer at the latest.
        h1.get("/").await;
    }
}

#[tokio::test]
async fn what_must_not_be_trusted_is_not() {
    let authority = Authority::new("Test CA");
    let trusting = Tls::trusting(&authority, "shop.test");
    let good = Origin::plan("good").tls(&authority.server(&["shop.test"])).start().await;
    let refuses = async |origin: &Origin, tls: &Tls| {
        let result = H1::try_connect(Target::from(origin.address()).tls(tls)).await;
        matches!(result, Err(Failure::Handshake(_)))
    };
    assert!(!refuses(&good, &trusting).await);
    assert!(refuses(&good, &Tls::trusting(&authority, "other.test")).await);
    assert!(refuses(&good, &Tls::trusting(&Authority::new("Other CA"), "shop.test")).await);
    for validity in [Validity::Now, Validity::Expired, Validity::Future] {
        let identity = authority.server_valid(&["shop.test"], validity);
        let origin = Origin::plan("v1").tls(&identity).start().await;
        assert_eq!(refuses(&origin, &trusting).await, validity != Validity::Now, "{validity:?}");
    }
}

#[tokio::test]
async fn an_origin_can_demand_client_certificates() {
    let (servers, clients) = (Authority::new("Servers"), Authority::new("Clients"));
    let origin = Origin::plan("v1").mutual_tls(&servers.server(&["shop.test"]), &clients).start().await;
    let nobody = Tls::trusting(&servers, "shop.test");
    let known = nobody.clone().identity(&clients.client("a client"));
    let mut h1 = H1::connect(Target::from(origin.address()).tls(&known)).await;
    assert_eq!(h1.get("/").await.origin(), "v1");
    // With TLS 1.3 the refusal comes after the client's side of the handshake is done; TLS 1.2 tells it in time.
    let refused = H1::try_connect(Target::from(origin.address()).tls(&nobody.only_tls12())).await;
    assert!(matches!(refused, Err(Failure::Handshake(_))));
}

#[tokio::test]
async fn identities_are_written_where_a_configuration_can_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test CA");
    let identity = authority.server(&["shop.test"]);
    let files = identity.write(dir.path(), "tls");
    assert_eq!(std::fs::read_to_string(&files.cert).unwrap(), identity.cert);
    assert_eq!(std::fs::read_to_string(&files.key).unwrap(), identity.key);
    assert_eq!(std::fs::read_to_string(authority.write(dir.path(), "ca")).unwrap(), authority.pem());
}
