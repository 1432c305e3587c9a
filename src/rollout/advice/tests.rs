use super::*;
use crate::config;

/// A plan as the file says it.
fn plan(yaml: &str) -> Plan {
    let file = format!(
        "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices: {{ a: {{ versions: {{ v: {{ endpoints: \
         ['127.0.0.1:1'] }} }}, release: v, rollout: {yaml} }} }}\n"
    );
    let config = config::parse(std::path::Path::new("w"), file.as_bytes(), &|_: &str| None::<String>);
    let config = config.unwrap_or_else(|wrong| panic!("{wrong}"));
    config.services.iter().next().and_then(|(_, service)| service.rollout.clone()).unwrap()
}

#[test]
fn a_plan_needs_the_rate_at_which_its_hungriest_step_has_its_requests_within_its_hold() {
    let table = [
        ("{}", Some("167 requests/s for 1 %")),
        ("{ hold: 100s }", Some("100 requests/s for 1 %")),
        ("{ steps: [{ weight: 1, hold: 10m }, { weight: 10, hold: 1m }] }", Some("17 requests/s for 1 %")),
        ("{ steps: [{ weight: 1, hold: 1h }, { weight: 10, hold: 30s }] }", Some("34 requests/s for 10 %")),
        // A step that is held for no time lasts an interval.
        ("{ steps: [{ weight: 100 }] }", Some("10 requests/s for 100 %")),
        ("{ min_requests: 1, steps: [{ weight: 50, hold: 10m }] }", Some("0.01 requests/s for 50 %")),
        // The check that needs the most decides; one that decides nothing, or passes without data, needs none.
        (
            "{ checks: [{ name: a, success_rate: { min: 99 } }, { name: b, error_rate: { max: 1 }, min_requests: 600 }] }",
            Some("1,000 requests/s for 1 %"),
        ),
        (
            "{ checks: [{ name: a, success_rate: { min: 99 } }, { name: b, error_rate: { max: 1 }, min_requests: 600, dry_run: true }] }",
            Some("167 requests/s for 1 %"),
        ),
        ("{ no_data: pass }", None),
        (
            "{ no_data: pass, checks: [{ name: a, success_rate: { min: 99 }, no_data: hold }] }",
            Some("167 requests/s for 1 %"),
        ),
        ("{ checks: [{ name: a, webhook: { url: 'http://a' } }, { name: b, requests: { min: 1 } }] }", None),
        ("{ checks: [{ name: a, webhook: { url: 'http://a' }, min_requests: 60 }] }", Some("100 requests/s for 1 %")),
        ("{ checks: [] }", None),
    ];
    for (yaml, expected) in table {
        assert_eq!(needed_rate(&plan(yaml)).map(|needed| needed.to_string()).as_deref(), expected, "{yaml}");
    }
}

#[test]
fn a_step_that_has_too_few_requests_is_told_with_what_comes_of_it() {
    let table: [(&str, f64, &[&str]); 8] = [
        ("{}", 167.0, &[]),
        ("{ hold: 100s }", 100.0, &[]),
        (
            "{}",
            20.0,
            &[
                "step 1 %: 100 requests take 8m20s at 20 requests/s; the step lasts that long",
                "step 5 %: 100 requests take 1m40s at 20 requests/s; the step lasts that long",
            ],
        ),
        (
            "{ steps: [{ weight: 1 }, { weight: 50 }] }",
            4.0,
            &["step 1 %: 100 requests take 41m40s at 4 requests/s; the rollout pauses after 30m00s (`max_hold`)"],
        ),
        (
            "{ steps: [{ weight: 1 }], max_hold: 1h }",
            4.0,
            &["step 1 %: 100 requests take 41m40s at 4 requests/s; the step lasts that long"],
        ),
        // Held for longer than `max_hold` anyway, but without data for longer too.
        (
            "{ steps: [{ weight: 1, hold: 2h }] }",
            0.5,
            &["step 1 %: 100 requests take 5h33m at 0.5 requests/s; the rollout pauses after 30m00s (`max_hold`)"],
        ),
        (
            "{ steps: [{ weight: 50 }] }",
            0.0,
            &["step 50 %: 100 requests never come at 0 requests/s; the rollout pauses after 30m00s (`max_hold`)"],
        ),
        ("{ checks: [] }", 0.0, &[]),
    ];
    for (yaml, rate, expected) in table {
        let plan = plan(yaml);
        let told: Vec<String> = slow_steps(&plan, rate).iter().map(|step| step.at(rate, &plan)).collect();
        assert_eq!(told, expected, "{yaml} at {rate}");
    }
}

/// Both say the same: at the rate that is needed no step is slow, and a little below it one is.
#[test]
fn at_the_needed_rate_no_step_is_slow() {
    for yaml in ["{}", "{ step_weight: 5, hold: 7s }", "{ min_requests: 17, steps: [{ weight: 0.07, hold: 13m }] }"] {
        let plan = plan(yaml);
        let needed = needed_rate(&plan).unwrap().rate;
        assert_eq!(slow_steps(&plan, needed * 1.001), [], "{yaml}");
        assert_eq!(slow_steps(&plan, needed * 0.999).len(), 1, "{yaml}");
    }
}
