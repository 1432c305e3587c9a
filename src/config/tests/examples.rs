//! The files in `conf/` and the committed schema.

use super::{golden, repository};
use crate::config::{Config, load, schema};

fn example(name: &str) -> Config {
    load(&repository("conf").join(name), &|_: &str| None::<String>)
        .unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

#[test]
fn every_example_loads_and_says_what_it_shows_and_how_to_try_it() {
    let mut examples = 0;
    for entry in std::fs::read_dir(repository("conf")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        examples += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(example(name).stable_missing(1).0.is_empty(), "{name} says what is stable");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert!(lines.next().is_some_and(|line| line.starts_with("# ") && line.ends_with('.')), "{name}: line 1");
        assert!(lines.next().is_some_and(|line| line.starts_with("# Try it: ")), "{name}: line 2");
        assert!(lines.next().is_some_and(|line| line.ends_with("$schema=weir.schema.json")), "{name}: line 3");
    }
    assert!(examples >= 5);
}

#[test]
fn the_quickstart_is_on_the_documented_ports() {
    let config = example("quickstart.yaml");
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.telemetry.unwrap().address.to_string(), "127.0.0.1:9902");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9901");
    let shop = config.services.get("shop").unwrap();
    let endpoint = |version: &str| shop.versions.get(version).unwrap().endpoints[0].address.to_string();
    assert_eq!((endpoint("v1"), endpoint("v2")), ("127.0.0.1:9001".to_owned(), "127.0.0.1:9002".to_owned()));
    assert_eq!(shop.split.weight("v2").to_string(), "10");
}

#[test]
fn the_committed_schema_is_current() {
    golden("conf/weir.schema.json", &schema()).unwrap_or_else(|differs| panic!("{differs}"));
}

/// An unknown field in each section makes the reader tell the fields that it knows.
#[test]
fn the_reader_and_the_schema_know_and_require_the_same_fields() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let sections = [
        ("zzz: 1", "/properties"),
        ("listeners: [{ zzz: 1 }]", "/$defs/Listener/properties"),
        ("listeners: [{ tls: { zzz: 1 } }]", "/$defs/Tls/properties"),
        ("listeners: [{ tls: { certificates: [{ zzz: 1 }] } }]", "/$defs/Certificate/properties"),
        ("listeners: [{ proxy_protocol: { zzz: 1 } }]", "/$defs/ProxyProtocol/properties"),
        ("telemetry: { zzz: 1 }", "/$defs/Telemetry/properties"),
        ("admin: { zzz: 1 }", "/$defs/Admin/properties"),
        ("runtime: { zzz: 1 }", "/$defs/Runtime/properties"),
        ("shutdown: { zzz: 1 }", "/$defs/Shutdown/properties"),
        ("state: { zzz: 1 }", "/$defs/State/properties"),
        ("access_log: { zzz: 1 }", "/$defs/AccessLog/properties"),
        ("limits: { zzz: 1 }", "/$defs/Limits/properties"),
        ("services: { a: { zzz: 1 } }", "/$defs/Service/properties"),
        ("services: { a: { versions: { v: { zzz: 1 } } } }", "/$defs/Version/properties"),
        ("services: { a: { versions: { v: { endpoints: [{ zzz: 1 }] } } } }", "/$defs/FullEndpoint/properties"),
        ("services: { a: { timeouts: { zzz: 1 } } }", "/$defs/Timeouts/properties"),
        ("services: { a: { drain: { zzz: 1 } } }", "/$defs/Drain/properties"),
        ("services: { a: { affinity: { zzz: 1 } } }", "/$defs/Affinity/properties"),
        ("services: { a: { override: { zzz: 1 } } }", "/$defs/Override/properties"),
        ("services: { a: { tls: { zzz: 1 } } }", "/$defs/UpstreamTls/properties"),
        ("services: { a: { pool: { zzz: 1 } } }", "/$defs/Pool/properties"),
        ("services: { a: { rollout: { zzz: 1 } } }", "/$defs/Rollout/properties"),
        ("services: { a: { rollout: { steps: [{ zzz: 1 }] } } }", "/$defs/RolloutStep/properties"),
        ("services: { a: { rollout: { checks: [{ zzz: 1 }] } } }", "/$defs/Check/properties"),
        ("services: { a: { rollout: { checks: [{ success_rate: { zzz: 1 } }] } } }", "/$defs/SuccessRate/properties"),
        ("services: { a: { rollout: { checks: [{ error_rate: { zzz: 1 } }] } } }", "/$defs/ErrorRate/properties"),
        ("services: { a: { rollout: { checks: [{ duration: { zzz: 1 } }] } } }", "/$defs/Duration/properties"),
        ("services: { a: { rollout: { checks: [{ requests: { zzz: 1 } }] } } }", "/$defs/Requests/properties"),
        ("services: { a: { rollout: { checks: [{ compare: { zzz: 1 } }] } } }", "/$defs/Compare/properties"),
        (
            "services: { a: { rollout: { checks: [{ compare: { metric: { zzz: 1 } } }] } } }",
            "/$defs/SlowerThan/properties",
        ),
        ("services: { a: { rollout: { checks: [{ prometheus: { zzz: 1 } }] } } }", "/$defs/Prometheus/properties"),
        ("services: { a: { rollout: { checks: [{ webhook: { zzz: 1 } }] } } }", "/$defs/Webhook/properties"),
        ("services: { a: { rollout: { failures: { zzz: 1 } } } }", "/$defs/Failures/properties"),
        ("services: { a: { rollout: { rollback_when: [{ zzz: 1 }] } } }", "/$defs/Condition/properties"),
        ("services: { a: { rollout: { rollback: { zzz: 1 } } } }", "/$defs/Ramp/properties"),
        ("services: { a: { rollout: { hooks: [{ zzz: 1 }] } } }", "/$defs/Hook/properties"),
        ("alerts: { a: { zzz: 1 } }", "/$defs/Alert/properties"),
        ("alerts: { a: { slack: { zzz: 1 } } }", "/$defs/Slack/properties"),
        ("alerts: { a: { pagerduty: { zzz: 1 } } }", "/$defs/PagerDuty/properties"),
        ("alerts: { a: { webhook: { zzz: 1 } } }", "/$defs/AlertWebhook/properties"),
        ("routes: [{ zzz: 1 }]", "/$defs/Route/properties"),
        ("routes: [{ match: { zzz: 1 } }]", "/$defs/Match/properties"),
    ];
    for (yaml, pointer) in sections {
        let diagnostics = super::parse(yaml).unwrap_err();
        let unknown = diagnostics.iter().find(|diagnostic| diagnostic.message == "unknown field `zzz`").unwrap();
        let mut known: Vec<&str> = unknown.expected.as_deref().unwrap().split(", ").collect();
        known.sort_unstable();
        let properties = schema.pointer(pointer).and_then(|value| value.as_object());
        let mut described: Vec<&str> = properties.expect(pointer).keys().map(String::as_str).collect();
        described.sort_unstable();
        assert_eq!(known, described, "{yaml}");

        let section = unknown.path.trim_end_matches("zzz").trim_end_matches('.');
        let missing =
            |message: &str| message.split_once(" has no `").map(|(_, name)| name.trim_end_matches('`').to_owned());
        let here = diagnostics.iter().filter(|diagnostic| diagnostic.path == section);
        let mut needed: Vec<String> = here.filter_map(|diagnostic| missing(&diagnostic.message)).collect();
        needed.sort_unstable();
        let pointer = pointer.replace("/properties", "/required");
        let required = schema.pointer(&pointer).and_then(|value| value.as_array());
        let mut required: Vec<&str> = required.into_iter().flatten().filter_map(|name| name.as_str()).collect();
        required.sort_unstable();
        let given: Vec<&str> = required.iter().copied().filter(|name| !yaml.starts_with(&format!("{name}:"))).collect();
        assert_eq!(needed, if section.is_empty() { given } else { required }, "{yaml}");
    }
}
