//! Affinity: the hash that may never change, the hash ranges, and what clients see of them.

use super::super::affinity::hash;
use super::super::{KeySource, Reason, TokenSource};
use super::*;

fn by_header() -> SplitOptions {
    SplitOptions {
        salt: "shop".to_owned(),
        affinity: Some(KeySource::Header("x-user".into())),
        ..SplitOptions::default()
    }
}

fn by_cookie(make: bool) -> SplitOptions {
    let affinity = Some(KeySource::Cookie { name: "weir".into(), make, keys: None });
    SplitOptions { salt: "shop".to_owned(), affinity, ..SplitOptions::default() }
}

fn user(user: usize) -> Head {
    get().with("X-User", format!("user-{user}"))
}

#[test]
fn the_hash_is_the_same_for_ever() {
    // From an independent implementation; a client's version depends on them across releases and machines.
    for (salt, key, expected) in [
        ("shop", &b"alice"[..], 0xa9e8_e3eb_bf95_0ecc),
        ("shop", b"bob", 0x4821_cd72_dda9_ff67),
        ("cart", b"alice", 0xe8b8_0aff_83b8_3dad),
        ("shop", &[127, 0, 0, 1], 0x1d02_9f3e_bd57_a85b),
        ("shop", b"5f2c8e0a91d34b67", 0x5e20_f275_941b_3638),
    ] {
        assert_eq!(hash(salt, key), expected, "{salt} {key:?}");
    }
}

#[test]
fn a_salt_and_a_key_do_not_run_into_each_other() {
    assert_ne!(hash("ab", b"c"), hash("a", b"bc"));
}

#[test]
fn the_range_of_the_last_version_comes_first() {
    // Buckets by the golden hashes: alice 9996, bob 4567.
    let version = |weights: &[u16], user: &str| {
        choose(&chooser(&shares(weights), by_header(), None), &get().with("x-user", user)).version
    };
    assert_eq!([4_567, 4_568].map(|canary| version(&[10_000 - canary, canary], "bob")), [0, 1]);
    assert_eq!([9_996, 9_997].map(|canary| version(&[10_000 - canary, canary], "alice")), [0, 1]);
    assert_eq!(version(&[4_000, 3_000, 3_000], "bob"), 0, "then come the others in their order");
    assert_eq!(version(&[1_000, 6_000, 3_000], "bob"), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn raising_the_canary_moves_clients_to_it_and_never_between_the_others(
        base in weights_of(2..=6),
        more in any::<prop::sample::Index>(),
        salt in "[a-z]{0,8}",
    ) {
        // The canary is the last version; the first, the stable one, gives what it gains.
        let mut raised = base.clone();
        let gain = u16::try_from(more.index(usize::from(base[0]) + 1)).unwrap();
        raised[0] -= gain;
        *raised.last_mut().unwrap() += gain;
        let options = SplitOptions { salt, ..by_header() };
        let (before, after) = (chooser(&shares(&base), options.clone(), None), chooser(&shares(&raised), options, None));
        let canary = base.len() - 1;
        for at in 0..500 {
            let (old, new) = (choose(&before, &user(at)).version, choose(&after, &user(at)).version);
            prop_assert!(old == new || (old, new) == (0, canary), "{} became {}", old, new);
        }
    }

    #[test]
    fn a_version_is_a_pure_function_of_salt_key_and_weights(weights in weights_of(2..=8), past in weights_of(2..=8)) {
        let fresh = chooser(&shares(&weights), by_header(), None);
        let old = chooser(&shares(&past), by_header(), None);
        (0..30).for_each(|at| drop(choose(&old, &get().with("x-user", at.to_string()))));
        let grown = chooser(&shares(&weights), by_header(), Some(&old));
        for at in 0..300 {
            let choice = choose(&fresh, &user(at));
            prop_assert_eq!(choice.reason, Reason::Affinity);
            prop_assert!(weights[choice.version] > 0);
            prop_assert_eq!(choice, choose(&grown, &user(at)));
        }
    }
}

#[test]
fn shares_of_many_clients_follow_the_weights() {
    // Fixed keys, so the outcome is fixed; the bound is the 99.9 % point of chi-square.
    for (weights, bound) in [(&[9_000, 1_000][..], 10.83), (&[5_000, 3_000, 1_500, 500], 16.27), (&[9_900, 100], 10.83)]
    {
        for salt in ["shop", "cart", "a"] {
            let chooser = chooser(&shares(weights), SplitOptions { salt: salt.to_owned(), ..by_header() }, None);
            let mut counts = vec![0_u32; weights.len()];
            (0..20_000).for_each(|at| counts[choose(&chooser, &user(at)).version] += 1);
            let term = |(count, weight): (&u32, &u16)| {
                let expected = 20_000.0 * f64::from(*weight) / 10_000.0;
                (f64::from(*count) - expected).powi(2) / expected
            };
            let chi_square: f64 = counts.iter().zip(weights).map(term).sum();
            assert!(chi_square < bound, "{counts:?} at {weights:?} under {salt}: {chi_square}");
        }
    }
}

#[test]
fn salts_make_services_independent() {
    let of =
        |salt: &str| chooser(&shares(&[5_000, 5_000]), SplitOptions { salt: salt.to_owned(), ..by_header() }, None);
    let (shop, cart) = (of("shop"), of("cart"));
    let same = (0..10_000).filter(|at| choose(&shop, &user(*at)).version == choose(&cart, &user(*at)).version).count();
    assert!((4_800..5_200).contains(&same), "{same} of 10,000 clients have the same version twice");
}

#[test]
fn a_client_without_a_key_goes_by_the_weights() {
    let chooser = chooser(&shares(&[7_500, 2_500]), by_header(), None);
    let requests = [get(), get().with("x-user", "")];
    let canary: usize = (0..400)
        .map(|at| choose(&chooser, &requests[at % 2]))
        .map(|choice| {
            assert_eq!((choice.reason, choice.key), (Reason::Weight, None));
            choice.version
        })
        .sum();
    assert_eq!(canary, 100);
}

#[test]
fn clients_with_a_key_take_no_turn_of_the_others() {
    let (mixed, alone) = (chooser(&shares(&[6_000, 4_000]), by_header(), None), splitter(&[6_000, 4_000], None));
    for at in 0..500 {
        let _kept = choose(&mixed, &user(at));
        assert_eq!(choose(&mixed, &get()).version, alone.choose());
    }
}

#[test]
fn a_made_key_decides_the_same_when_it_comes_back() {
    let chooser = chooser(&shares(&[5_000, 5_000]), by_cookie(true), None);
    for at in 0..200 {
        let made = format!("key-{at}");
        let first = chooser.choose(&get(), || made.clone(), || 0);
        assert_eq!((first.reason, first.new_cookie.as_deref()), (Reason::Affinity, Some(made.as_str())));
        let next = choose(&chooser, &get().with("Cookie", format!("a=b; weir={made}; c=d")));
        assert_eq!((next.version, next.key, next.new_cookie), (first.version, first.key, None));
    }
}

#[test]
fn an_empty_cookie_is_none() {
    let made = chooser(&shares(&[5_000, 5_000]), by_cookie(true), None).choose(
        &get().with("cookie", "weir="),
        || "k".to_owned(),
        || 0,
    );
    assert_eq!(made.new_cookie.as_deref(), Some("k"));
}

#[test]
fn no_key_is_made_where_the_application_sets_the_cookie() {
    let chooser = chooser(&shares(&[5_000, 5_000]), by_cookie(false), None);
    let choice = choose(&chooser, &get());
    assert_eq!((choice.reason, choice.key, choice.new_cookie), (Reason::Weight, None, None));
    assert_eq!(choose(&chooser, &get().with("cookie", "weir=k")).reason, Reason::Affinity);
}

#[test]
fn a_cookie_is_found_wherever_it_stands() {
    let chooser = chooser(&shares(&[5_000, 5_000]), by_cookie(true), None);
    let expected = Some(hash("shop", b"k=1"));
    for request in [
        get().with("cookie", "weir=k=1"),
        get().with("Cookie", "a=1;weir=k=1;b=2"),
        get().with("cookie", "  weir=\"k=1\" ; b=2"),
        get().with("cookie", "a=1").with("cookie", "weir=k=1"),
        get().with("cookie", "weir=k=1; weir=other"),
        get().with("cookie", "weirdo=1; xweir=2; weir=k=1"),
    ] {
        assert_eq!(choose(&chooser, &request).key, expected, "{:?}", request.headers);
    }
}

#[test]
fn an_address_is_a_key_however_it_is_written() {
    let options = SplitOptions { affinity: Some(KeySource::Address), ..by_header() };
    let chooser = chooser(&shares(&[5_000, 5_000]), options, None);
    let key = |address: Option<&str>| choose(&chooser, &Client(get(), address.map(|one| one.parse().unwrap()))).key;
    assert_eq!(key(Some("127.0.0.1")), Some(hash("shop", &[127, 0, 0, 1])));
    assert_eq!(key(Some("::ffff:127.0.0.1")), key(Some("127.0.0.1")));
    assert_eq!(key(Some("2001:db8:1:2::1")), key(Some("2001:db8:1:2:ffff::7")), "a client has the whole network");
    assert_ne!(key(Some("2001:db8:1:2::1")), key(Some("2001:db8:1:3::1")));
    assert_eq!(key(Some("2001:db8:1:2::1")), Some(hash("shop", &[0x20, 1, 0xd, 0xb8, 0, 1, 0, 2])));
    assert_eq!(key(None), None, "a unix socket has none");
}

#[test]
fn a_claim_of_a_token_is_a_key_wherever_the_token_is() {
    // {"sub":"alice"}
    let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.";
    let of = |token| SplitOptions { affinity: Some(KeySource::Claim { token, name: "sub".into() }), ..by_header() };
    let by_header = chooser(&shares(&[5_000, 5_000]), of(TokenSource::Header("authorization".into())), None);
    let by_cookie = chooser(&shares(&[5_000, 5_000]), of(TokenSource::Cookie("session".into())), None);
    let alice = Some(hash("shop", b"alice"));
    for scheme in ["", "Bearer ", "bearer  "] {
        assert_eq!(choose(&by_header, &get().with("Authorization", format!("{scheme}{token}"))).key, alice, "{scheme}");
    }
    assert_eq!(choose(&by_cookie, &get().with("cookie", format!("a=b; session={token}"))).key, alice);
    for odd in ["Bearer garbage", "Basic YTpi", "", "a.b.c"] {
        let choice = choose(&by_header, &get().with("authorization", odd));
        assert_eq!((choice.key, choice.reason), (None, Reason::Weight), "{odd}");
    }
}
