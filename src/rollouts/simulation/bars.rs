//! What is promised of the defaults, with fixed seeds: fewer rollouts than the table has, and bars that are as strict.
//!
//! Of 100 rollouts of which 5 of 1,000 may go back, more than 3 do in fewer than one of 500 such tests; and so on.

use super::table::{BAD, Cell, GOOD, Row};

fn row<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row `{name}`"))
}

/// How many of `rollouts` good canaries go back, by rows whose names begin so.
fn gone_back(name: &str, rollouts: u64) -> Vec<(&'static str, usize)> {
    let rows = GOOD.iter().filter(|row| row.name.starts_with(name));
    let gone: Vec<_> = rows.map(|row| (row.name, Cell::of(row, "", rollouts, 1).back())).collect();
    assert!(!gone.is_empty(), "no row `{name}`");
    gone
}

#[test]
fn errors_that_are_independent_send_no_good_canary_back() {
    for (name, gone) in gone_back("independent", 60) {
        assert!(gone <= 2, "{name}: {gone} of 60");
    }
}

#[test]
fn errors_that_come_in_clusters_send_no_good_canary_back() {
    for name in ["clustered 0.1 %, ρ 0.005", "clustered 0.4 %, ρ 0.001", "clustered 0.4 %, ρ 0.005"] {
        for (name, gone) in gone_back(name, 40) {
            assert!(gone <= 2, "{name}: {gone} of 40");
        }
    }
}

#[test]
fn minutes_of_ten_fold_errors_and_one_endpoint_send_few_good_canaries_back() {
    for name in ["minutes of ten-fold errors", "one endpoint of ten"] {
        for (name, gone) in gone_back(name, 40) {
            assert!(gone <= 5, "{name}: {gone} of 40");
        }
    }
}

#[test]
fn users_that_stay_on_a_version_and_always_fail_send_few_good_canaries_back() {
    for (name, gone) in gone_back("sticky users", 40) {
        assert!(gone <= 5, "{name}: {gone} of 40");
    }
}

#[test]
fn a_canary_that_starts_cold_needs_a_warm_up() {
    let without = Cell::of(row(&GOOD, "cold start"), "", 20, 1).back();
    let with = Cell::of(row(&GOOD, "cold start, with a warm-up"), "", 40, 1).back();
    assert!(without >= 10, "{without} of 20: what the warm-up is for");
    assert!(with <= 1, "{with} of 40 with a warm-up");
}

/// Of 200 rollouts the requests of the canary until 95 % went back.
fn found(name: &str, rollouts: u64) -> u64 {
    Cell::of(row(&BAD, name), "", rollouts, 1).found(95).unwrap_or_else(|| panic!("{name}: not found in 95 %"))
}

#[test]
fn a_canary_that_is_worse_is_found_soon() {
    let (one, two) = (found("+1 point", 120), found("+2 points", 120));
    assert!(one <= 11_000, "+1: {one}");
    assert!(two <= 1_500, "+2: {two}");
}

#[test]
fn a_worse_canary_is_not_promoted_because_its_clients_differ() {
    let one = Cell::of(row(&BAD, "+1 point, sticky users, 0.2 % of them bad"), "", 40, 1);
    assert_eq!(one.back() + one.frozen(), 40, "{:?}", one.ended);
    assert!(one.back() >= 25, "+1: {} of 40", one.back());
    let five = Cell::of(row(&BAD, "+5 points, sticky users, 0.2 % of them bad"), "", 60, 1);
    let requests = five.found(90).expect("+5: found in 90 %");
    assert!(requests <= 3_000, "+5: {requests}");
}

#[test]
fn a_canary_of_which_everything_fails_is_taken_out_by_the_trip_wire() {
    let cell = Cell::of(row(&BAD, "everything fails"), "", 20, 1);
    assert!(cell.ended.iter().all(|ended| ended.tripped && ended.requests <= 20), "{:?}", cell.ended);
}
