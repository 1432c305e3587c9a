use std::convert::Infallible;

use super::*;

#[test]
fn whatever_says_where_a_request_comes_from_is_known_in_any_case() {
    for name in [
        "X-Forwarded-Port",
        "x-forwarded-prefix",
        "X-FORWARDED-SSL",
        "X-Forwarded-Server",
        "X-Forwarded-Scheme",
        "X-Forwarded-Uri",
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Preferred-Username",
        "X-Forwarded-",
        "X-Forwarded",
        "Forwarded",
        "Forwarded-For",
        "X-Real-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "Client-Cert",
        "Client-Cert-Chain",
    ] {
        assert_eq!(action(name), HeaderAction::Trusted, "{name}");
        assert!(action(name).is_replaced(false) && !action(name).is_replaced(true), "{name}");
    }
    for (name, known) in [
        ("X-Forwarded-For", HeaderAction::ForwardedFor),
        ("x-forwarded-proto", HeaderAction::ForwardedProto),
        ("X-Forwarded-HOST", HeaderAction::ForwardedHost),
        ("X-Request-ID", HeaderAction::RequestId),
        ("Via", HeaderAction::Via),
        ("HOST", HeaderAction::Host),
        ("Te", HeaderAction::HopByHop),
    ] {
        assert_eq!(action(name), known, "{name}");
    }
    for name in ["", "x", "Accept", "X-Forward", "X-ForwardedFor", "XX-Forwarded-For", "Cookie", "X-Api-Key", "x-é"] {
        assert_eq!(action(name), HeaderAction::Keep, "{name}");
    }
}

#[test]
fn a_name_with_an_underscore_is_read_as_endpoints_may_read_it() {
    let action = |name, trusted, choice| action_of(name, trusted, Some(choice));
    for name in ["x_forwarded_for", "X_Forwarded-Port", "x-forwarded_user", "X_REAL_IP", "client_cert"] {
        assert_eq!(action(name, false, Underscore::Allow), HeaderAction::Drop, "{name}");
        assert_eq!(action(name, true, Underscore::Allow), HeaderAction::Keep, "{name}");
        assert_eq!(action(name, true, Underscore::Drop), HeaderAction::Drop, "{name}");
    }
    for name in ["x_request_id", "keep_alive", "proxy_connection", "http2_settings"] {
        assert_eq!(action(name, true, Underscore::Allow), HeaderAction::Drop, "{name}");
    }
    for trusted in [false, true] {
        assert_eq!(action("api_key", trusted, Underscore::Allow), HeaderAction::Keep);
        assert_eq!(action("api_key", trusted, Underscore::Drop), HeaderAction::Drop);
        assert_eq!(action("api-key", trusted, Underscore::Drop), HeaderAction::Keep);
    }
}

#[test]
fn what_concerns_the_clients_connection_goes_no_further_to_http_2() {
    let stripped = |version, fields: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers, version);
        headers.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    let fields = [
        ("connection", "keep-alive, x-mine, Upgrade"),
        ("x-mine", "1"),
        ("upgrade", "websocket"),
        ("keep-alive", "5"),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("transfer-encoding", "chunked"),
        ("http2-settings", "AAMAAABk"),
        ("proxy-authorization", "Basic eDp5"),
        ("accept", "*/*"),
    ];
    assert_eq!(stripped(HttpVersion::Http11, &fields), ["accept"]);
    assert_eq!(stripped(HttpVersion::Http2, &[("te", "trailers"), ("keep-alive", "5")]), ["te"]);
}

#[derive(Default)]
struct Written(Vec<String>);

impl AddFields for Written {
    type Error = Infallible;

    fn field(&mut self, name: &'static str, value: &[u8]) -> Result<(), Infallible> {
        self.0.push(format!("{name}: {}", String::from_utf8_lossy(value)));
        Ok(())
    }

    fn named(&mut self, name: &HeaderName, value: &'static str) -> Result<(), Infallible> {
        self.0.push(format!("{name}: {value}"));
        Ok(())
    }

    fn member(&mut self, name: &'static str, own: &str) -> Result<(), Infallible> {
        self.0.push(format!("{name}: …, {own}"));
        Ok(())
    }
}

#[test]
fn what_weir_writes_follows_what_came() {
    let rewrite = RequestRewrite {
        peer: "10.0.0.9",
        trusted: true,
        underscore: None,
        tls: false,
        authority: "shop.test",
        request_id: b"abc",
        version: HttpVersion::Http2,
        may_wait: false,
        overrides: None,
        told: None,
        flags: FlagValues::default(),
    };
    let written = |rewrite: &RequestRewrite<'_>, names: &[&str]| {
        let mut came = CameFields::default();
        names.iter().for_each(|name| came.note(rewrite.action(name)));
        let mut written = Written::default();
        let Ok(()) = rewrite.add_to(came, &mut written);
        written.0
    };
    assert_eq!(
        written(&rewrite, &[]),
        [
            "x-forwarded-for: 10.0.0.9",
            "x-forwarded-proto: http",
            "x-forwarded-host: shop.test",
            "x-request-id: abc",
            "via: 2.0 weir"
        ]
    );
    let all = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via", "X-Request-Id"];
    assert_eq!(written(&rewrite, &all), ["x-forwarded-for: …, 10.0.0.9", "x-request-id: abc", "via: …, 2.0 weir"]);
    let stranger = RequestRewrite { trusted: false, peer: "", ..rewrite };
    assert_eq!(
        written(&stranger, &all),
        ["x-forwarded-proto: http", "x-forwarded-host: shop.test", "x-request-id: abc", "via: …, 2.0 weir"]
    );
    let told = RequestRewrite {
        told: Some(ToldVersion { version: "weir-version: v2\r\n", reason: Reason::Affinity }),
        ..rewrite
    };
    assert_eq!(written(&told, &all)[2..4], ["weir-version: v2", "weir-version-reason: affinity"]);
    assert_eq!(stranger.action("Expect"), HeaderAction::Drop);
    assert_eq!(RequestRewrite { may_wait: true, ..stranger }.action("Expect"), HeaderAction::Expect);
}

#[test]
fn what_names_a_version_and_what_only_weir_says_ends_here() {
    let overrides =
        OverrideSource { header: Some("x-version".into()), cookie: Some("version".into()), from: None, keys: None };
    let rewrite = RequestRewrite {
        peer: "",
        trusted: true,
        underscore: None,
        tls: false,
        authority: "shop.test",
        request_id: b"abc",
        version: HttpVersion::Http11,
        may_wait: false,
        overrides: Some(&overrides),
        told: None,
        flags: FlagValues::default(),
    };
    for name in ["X-Version", "Weir-Version", "weir-version-reason"] {
        assert_eq!(rewrite.action(name), HeaderAction::Drop, "{name}");
    }
    assert_eq!(rewrite.action("Cookie"), HeaderAction::Cookie);
    assert_eq!(rewrite.cookies(b"a=b; version=v2").as_deref(), Some(&b"a=b"[..]));
    assert_eq!(rewrite.cookies(b"version=v2"), None);
    let plain = RequestRewrite { overrides: None, ..rewrite };
    assert_eq!(["X-Version", "Cookie"].map(|name| plain.action(name)), [HeaderAction::Keep; 2]);
    assert_eq!(plain.action("weir-version"), HeaderAction::Drop, "whoever says it");
}

#[test]
fn an_address_may_have_a_port_and_brackets() {
    for (member, found) in [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7:4711 ", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
    ] {
        assert_eq!(address(member), Some(found.parse().unwrap()), "{member}");
    }
    for member in [
        "",
        "unknown",
        "_hidden",
        "203.0.113.7:",
        "203.0.113.7:x",
        "203.0.113.7:65536",
        "[2001:db8::1",
        "[203.0.113.7]:",
    ] {
        assert_eq!(address(member), None, "{member}");
    }
}
