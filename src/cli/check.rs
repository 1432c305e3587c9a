//! `weir check`: everything that is wrong with a configuration file, and with the files that it names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Access, access};

use super::arguments::{AdminArguments, CheckArguments, CheckOutput};
use super::control_api::ControlApi;
use super::failure::{Exit, Failure};
use super::{block_on, notify, print};
use crate::admin::wire::Status;
use crate::config::{self, AccessLogOutput, Config, Diagnostic, Rates};
use crate::model::{Address, FLAG_PREFIX};
use crate::rollout::advice::needed_rate;
use crate::rollout::alerts::{Receiver, Secret};
use crate::rollout::plan::Plan;
use crate::tls::{Certificate, ClientRoots, Pair};
use crate::traffic::split::SigningKeys;

/// `weir check`.
pub(super) fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let file = arguments.file.path();
    let (config, faults) = match config::load(&file, &config::ProcessEnvironment) {
        Err(diagnostics) => (None, Faults { text: diagnostics.to_string(), json: diagnostics.to_json() }),
        Ok(config) if arguments.offline => (Some(config), Faults::default()),
        Ok(config) => {
            let found = named_files(&config, SystemTime::now());
            (Some(config), Faults::of(&found))
        }
    };
    let rates = match &config {
        Some(_) if arguments.observed => block_on(observed(&arguments.admin))?,
        _ => Rates::default(),
    };
    let (warnings, more) = config.as_ref().map(|config| warnings(config, &rates)).unwrap_or_default();
    match arguments.output {
        CheckOutput::Json => print(&json(&file, config.as_ref(), &faults, &warnings))?,
        CheckOutput::Text => {
            if faults.json.is_empty() {
                print(&summary(&file, config.as_ref(), &rates))?;
            }
            warnings.iter().for_each(|warning| notify(&format!("\n{}", warning.to_warning())));
            if more > 0 {
                notify(&format!("\nand {more} more warnings"));
            }
        }
    }
    match (arguments.output, faults.json.is_empty()) {
        (_, true) => Ok(()),
        (CheckOutput::Text, false) => Err(Failure::new(Exit::CONFIGURATION, faults.text)),
        (CheckOutput::Json, false) => {
            Err(Failure::new(Exit::CONFIGURATION, format!("{} is not valid", file.display())))
        }
    }
}

#[derive(Default)]
struct Faults {
    text: String,
    json: Vec<serde_json::Value>,
}

impl Faults {
    fn of(found: &[Diagnostic]) -> Self {
        let mut text: String = found.iter().map(|fault| format!("{fault}\n\n")).collect();
        text.push_str(&format!("{} error{}", found.len(), if found.len() == 1 { "" } else { "s" }));
        Self { text, json: found.iter().filter_map(|fault| serde_json::to_value(fault).ok()).collect() }
    }
}

/// How many warnings of a kind are shown; a file may have as many as services.
const MAX_WARNINGS: usize = 20;

/// What is valid and should be known, and how many more warnings there are.
fn warnings(config: &Config, rates: &Rates) -> (Vec<Diagnostic>, usize) {
    let kinds = [
        config.stable_missing(MAX_WARNINGS),
        config.unjudged_bakes(MAX_WARNINGS),
        config.short_of_requests(rates, MAX_WARNINGS),
        config.lint(MAX_WARNINGS),
    ];
    let more = kinds.iter().map(|(_, more)| more).sum();
    (kinds.into_iter().flat_map(|(warnings, _)| warnings).collect(), more)
}

/// How many requests a second each service of a running Weir gets, over the last minute.
async fn observed(admin: &AdminArguments) -> Result<Rates, Failure> {
    let status: Status = ControlApi::new(admin)?.get("/api/v1/status").await?;
    let services = status.services.into_iter().map(|service| {
        let rate = service.versions.iter().map(|version| version.requests_per_second).sum();
        (service.name.as_str().into(), rate)
    });
    Ok(Rates { observed: services.collect() })
}

fn json(file: &Path, config: Option<&Config>, faults: &Faults, warnings: &[Diagnostic]) -> String {
    let report = serde_json::json!({
        "file": file.display().to_string(),
        "valid": faults.json.is_empty(),
        "hash": config.map(Config::hash),
        "diagnostics": faults.json,
        "warnings": warnings,
    });
    format!("{report:#}\n")
}

fn summary(file: &Path, config: Option<&Config>, rates: &Rates) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let holds = config.map_or_else(String::new, |config| {
        let services = count(config.services.len() - config.flags.len(), "service");
        let flags =
            if config.flags.is_empty() { String::new() } else { format!(", {}", count(config.flags.len(), "flag")) };
        let (listeners, routes) = (count(config.listeners.len(), "listener"), count(config.routes.len(), "route"));
        format!(": {listeners}, {services}, {routes}{flags}")
    });
    let rollouts = config.map_or_else(String::new, |config| rollouts(config, rates));
    format!("{} is valid{holds}\n{rollouts}", file.display())
}

/// How many rollouts are shown; a file may have as many as services.
const MAX_ROLLOUTS: usize = 20;

/// One line for each service that has a rollout: what it would do.
fn rollouts(config: &Config, rates: &Rates) -> String {
    let planned = config.services.iter().filter_map(|(name, service)| Some((name, service, service.rollout.as_ref()?)));
    let mut lines: Vec<String> = planned.map(|(name, service, plan)| rollout(name, service, plan, rates)).collect();
    if lines.len() > MAX_ROLLOUTS {
        let more = lines.len() - MAX_ROLLOUTS;
        lines.truncate(MAX_ROLLOUTS);
        lines.push(format!("  and {more} more rollouts\n"));
    }
    lines.concat()
}

/// How many weights of a rollout are shown.
const MAX_WEIGHTS: usize = 10;

/// A rollout in one line: its release, its weights, what judges them, and how many requests that needs.
fn rollout(name: &str, service: &config::Service, plan: &Plan, rates: &Rates) -> String {
    // Where both are the same, nothing is rolled out until `release` changes.
    let release = service.release.as_ref().filter(|release| service.stable.as_ref() != Some(*release));
    let release = release.map(|release| format!(" to {release}")).unwrap_or_default();
    let mut weights: Vec<String> = plan.steps.iter().map(|step| step.weight.to_string()).collect();
    if weights.len() > MAX_WEIGHTS + 1 {
        let last = weights.len() - 1;
        weights.splice(MAX_WEIGHTS..last, ["…".to_owned()]);
    }
    let gates = match plan.steps.iter().filter(|step| step.gate.is_some()).count() {
        0 => String::new(),
        1 => ", 1 gate".to_owned(),
        gates => format!(", {gates} gates"),
    };
    let checks: Vec<String> = plan
        .checks
        .iter()
        .map(|check| if check.dry_run { format!("{} (dry run)", check.name) } else { check.name.to_string() })
        .collect();
    let checks = if checks.is_empty() { "nothing".to_owned() } else { checks.join(", ") };
    let needed = match (needed_rate(plan), rates.observed.get(name), plan.expected_rate) {
        (Some(needed), Some(gets), _) => format!("; needs {needed}, gets {gets:.1}"),
        (Some(needed), None, None) => format!("; needs {needed}"),
        (Some(_), None, Some(_)) | (None, ..) => String::new(),
    };
    format!("  rollout of {name}{release}: {} %{gates}; judged by {checks}{needed}\n", weights.join(", "))
}

/// What is wrong with the files and directories that the configuration names.
fn named_files(config: &Config, now: SystemTime) -> Vec<Diagnostic> {
    let mut checks = Checks { file: config.file().display().to_string(), now, found: Vec::new() };
    for (at, listener) in config.listeners.iter().enumerate() {
        let field = format!("listeners[{at}]");
        checks.socket(&format!("{field}.address"), &listener.address);
        if let Some(tls) = &listener.tls {
            for pair in &tls.certificates {
                checks.pair(&format!("{field}.tls"), &pair.cert, &pair.key);
            }
            if let Some(client) = &tls.client {
                checks.authorities(&format!("{field}.tls"), &client.ca);
            }
        }
    }
    for (name, service) in config.services.iter() {
        let versions =
            service.versions.iter().map(|(version, spec)| (format!(".versions.{version}"), spec.tls.as_ref()));
        for (below, tls) in std::iter::once((String::new(), service.tls.as_ref())).chain(versions) {
            if let Some(tls) = tls {
                checks.upstream(&format!("services.{name}{below}.tls"), tls);
            }
        }
    }
    for (field, file) in secrets(config) {
        checks.secret(&field, file, "write the secret into it, and nothing else");
    }
    for (name, service) in config.services.iter() {
        for (field, file) in service.signing_key_files() {
            checks.signing_keys(&format!("services.{name}.{field}"), file);
        }
    }
    checks.socket("admin.address", &config.admin.address);
    if let Some(token) = &config.admin.token_file {
        checks.secret("admin.token_file", token, "write a long random token into it");
    }
    if let Some(telemetry) = &config.telemetry {
        checks.socket("telemetry.address", &telemetry.address);
    }
    if let Some(directory) = &config.state.directory {
        checks.directory("state.directory", directory);
    }
    if let AccessLogOutput::File(log) = &config.access_log.output {
        checks.parent("access_log.output", log);
    }
    checks.found
}

/// Where the file says it: a flag is inside a service of its own.
fn section(service: &str) -> String {
    match service.strip_prefix(FLAG_PREFIX) {
        Some(flag) => format!("flags.{flag}"),
        None => format!("services.{service}"),
    }
}

/// The files with secrets that hooks and alerts use, each with its field.
fn secrets(config: &Config) -> Vec<(String, &Path)> {
    let mut files = Vec::new();
    for (name, service) in config.services.iter() {
        let hooks = service.rollout.iter().flat_map(|plan| plan.hooks.iter().enumerate());
        files.extend(hooks.filter_map(|(at, hook)| {
            Some((format!("{}.rollout.hooks[{at}].secret_file", section(name)), hook.secret_file.as_deref()?))
        }));
    }
    for (name, alert) in config.alerts.iter() {
        let secrets = match &alert.receiver {
            Receiver::Slack { url } => vec![("slack.url_file", url)],
            Receiver::PagerDuty { routing_key, .. } => vec![("pagerduty.routing_key_file", routing_key)],
            Receiver::Webhook { url, secret } => std::iter::once(("webhook.url_file", url))
                .chain(secret.iter().map(|key| ("webhook.secret_file", key)))
                .collect(),
        };
        files.extend(secrets.into_iter().filter_map(|(field, secret)| match secret {
            Secret::File(file) => Some((format!("alerts.{name}.{field}"), file.as_path())),
            Secret::Text(_) => None,
        }));
    }
    files
}

struct Checks {
    file: String,
    now: SystemTime,
    found: Vec<Diagnostic>,
}

impl Checks {
    fn wrong(&mut self, field: &str, message: impl Into<String>, help: Option<&str>) {
        // The same certificate may be named many times; one line says it.
        let message = message.into();
        if self.found.iter().all(|known| known.message != message) {
            self.found.push(Diagnostic {
                file: self.file.clone(),
                path: field.to_owned(),
                message,
                help: help.map(str::to_owned),
                ..Diagnostic::default()
            });
        }
    }

    /// The content of a file: regular, readable, bounded.
    fn read(&mut self, field: &str, path: &Path) -> Option<Vec<u8>> {
        match config::read_file(path) {
            Ok(content) => Some(content),
            Err(diagnostics) => {
                let why = diagnostics.iter().next().map_or("it cannot be read", |fault| &*fault.message);
                let message = format!("{}: {why}", path.display());
                self.wrong(
                    field,
                    message,
                    Some("give the path of a file that Weir's user may read, relative to this file"),
                );
                None
            }
        }
    }

    fn pair(&mut self, field: &str, cert_file: &Path, key_file: &Path) {
        let (cert, key) = (self.read(field, cert_file), self.read(field, key_file));
        if let (Some(cert), Some(key)) = (cert, key) {
            let pair = Pair { cert_file, cert: &cert, key_file, key: &key };
            if let Err(unusable) = Certificate::load(&pair, self.now) {
                self.wrong(field, unusable.to_string(), None);
            }
        }
    }

    fn authorities(&mut self, field: &str, file: &Path) {
        if let Some(pem) = self.read(field, file)
            && let Err(unusable) = ClientRoots::load(file, &pem)
        {
            self.wrong(field, unusable.to_string(), None);
        }
    }

    fn upstream(&mut self, field: &str, tls: &config::UpstreamTls) {
        if let Some(ca) = &tls.ca {
            self.authorities(field, ca);
        }
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            self.pair(field, cert, key);
        }
    }

    /// A file that holds a secret and is not empty.
    fn secret(&mut self, field: &str, file: &Path, help: &str) {
        if let Some(secret) = self.read(field, file)
            && secret.trim_ascii().is_empty()
        {
            self.wrong(field, format!("{}: it is empty", file.display()), Some(help));
        }
    }

    fn signing_keys(&mut self, field: &str, file: &Path) {
        if let Some(text) = self.read(field, file)
            && let Err(why) = SigningKeys::parse(&String::from_utf8_lossy(&text))
        {
            self.wrong(field, format!("{}: {why}", file.display()), Some("write a key into it, one a line"));
        }
    }

    fn socket(&mut self, field: &str, address: &Address) {
        if let Address::Unix(path) = address {
            self.parent(field, path);
        }
    }

    fn parent(&mut self, field: &str, path: &Path) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            self.wrong(field, format!("{}: there is no such directory", parent.display()), Some("create it"));
        } else if let Err(error) = access(parent, Access::WRITE_OK | Access::EXEC_OK) {
            self.wrong(field, format!("{}: {}", parent.display(), error.kind()), Some(WRITABLE));
        }
    }

    /// A directory that is there and writable, or can be created.
    fn directory(&mut self, field: &str, path: &Path) {
        let existing: Option<PathBuf> = path.ancestors().find(|part| part.exists()).map(Path::to_owned);
        let Some(existing) = existing else {
            self.wrong(field, format!("{}: it cannot be created", path.display()), None);
            return;
        };
        if !fs::metadata(&existing).is_ok_and(|metadata| metadata.is_dir()) {
            self.wrong(field, format!("{}: not a directory", existing.display()), None);
        } else if let Err(error) = access(&existing, Access::WRITE_OK | Access::EXEC_OK) {
            self.wrong(field, format!("{}: {}", existing.display(), error.kind()), Some(WRITABLE));
        }
    }
}

const WRITABLE: &str = "let the user that Weir runs as write there; `weir check --offline` does not look";

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(yaml: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weir.yaml");
        fs::write(directory.path().join("empty"), " \n").unwrap();
        let pair = rcgen::generate_simple_self_signed(vec!["shop.example.com".to_owned()]).unwrap();
        fs::write(directory.path().join("tls.crt"), pair.cert.pem()).unwrap();
        fs::write(directory.path().join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["shop.example.com".to_owned()]).unwrap();
        fs::write(directory.path().join("other.key"), other.signing_key.serialize_pem()).unwrap();
        fs::write(&file, yaml).unwrap();
        let config = config::load(&file, &config::ProcessEnvironment).unwrap_or_else(|wrong| panic!("{wrong}"));
        let place = format!("{}/", directory.path().display());
        named_files(&config, SystemTime::now())
            .iter()
            .map(|fault| format!("{}: {}", fault.path, fault.message.replace(&place, "")))
            .collect()
    }

    fn listener(tls: &str) -> String {
        format!("version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0, tls: {tls} }}]\n")
    }

    #[test]
    fn a_pair_that_fits_is_fine() {
        assert_eq!(faults(&listener("{ cert: tls.crt, key: tls.key }")), Vec::<String>::new());
    }

    #[test]
    fn a_key_of_another_certificate_is_found() {
        let found = faults(&listener("{ cert: tls.crt, key: other.key }"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("listeners[0].tls: other.key: the private key does not belong"), "{found:?}");
    }

    #[test]
    fn all_files_that_are_missing_are_named() {
        let found = faults(&listener("{ cert: none.crt, key: none.key }"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("none.crt") && found[1].contains("none.key"), "{found:?}");
    }

    #[test]
    fn a_token_file_holds_a_token() {
        let base = "version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\n";
        let found = faults(&format!("{base}admin: {{ address: 127.0.0.1:0, token_file: empty }}\n"));
        assert_eq!(found, ["admin.token_file: empty: it is empty"]);
    }

    #[test]
    fn files_with_secrets_of_hooks_and_alerts_are_looked_at() {
        let found = faults(
            "version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\n\
             services: { a: { versions: { v: { endpoints: ['127.0.0.1:1'] } }, release: v, \
             rollout: { hooks: [{ when: after, url: 'http://a', secret_file: empty }, { when: after, url: 'http://a', secret_file: tls.key }] } } }\n\
             alerts: { s: { slack: { url_file: none } }, p: { pagerduty: { routing_key: R } }, \
             w: { webhook: { url: 'http://a', secret_file: gone } } }\n",
        );
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0], "services.a.rollout.hooks[0].secret_file: empty: it is empty");
        assert!(found[1].starts_with("alerts.s.slack.url_file: none: "), "{found:?}");
        assert!(found[2].starts_with("alerts.w.webhook.secret_file: gone: "), "{found:?}");
    }

    #[test]
    fn the_summary_says_what_each_rollout_does() {
        let yaml = "version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\nservices:\n  \
            a: { versions: { v: { endpoints: ['127.0.0.1:1'] } }, release: v, rollout: { step_weight: 5, max_weight: 60 } }\n  \
            b: { versions: { v: { endpoints: ['127.0.0.1:1'] } }, rollout: { checks: [], steps: [{ weight: 0.5, gate: manual }] } }\n  \
            c: { versions: { v: { endpoints: ['127.0.0.1:1'] } } }\n";
        let config = config::parse(Path::new("w"), yaml.as_bytes(), &|_: &str| None::<String>).unwrap();
        assert_eq!(
            summary(Path::new("w"), Some(&config), &Rates::default()),
            "w is valid: 1 listener, 3 services, 0 routes\n  \
             rollout of a to v: 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, …, 60 %; judged by success, latency, not-worse; \
             needs 34 requests/s for 5 %\n  \
             rollout of b: 0.5 %, 1 gate; judged by nothing\n"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_warned_of() {
        let yaml = |rollout: &str| {
            let versions = "versions: { v: { endpoints: ['127.0.0.1:1'] } }, release: v";
            let yaml = format!(
                "version: 1\nlisteners: [{{ name: web, address: 127.0.0.1:0 }}]\nservices: {{ a: {{ {versions}, rollout: {rollout} }} }}\n"
            );
            config::parse(Path::new("w"), yaml.as_bytes(), &|_: &str| None::<String>).unwrap()
        };
        let told = |rollout: &str, rates: &Rates| {
            let found = warnings(&yaml(rollout), rates).0;
            found.into_iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect::<Vec<_>>()
        };
        let expected = Rates::default();
        let bake = "services.a.rollout.bake: `bake` without checks: while the old version stays warm, ";
        assert_eq!(told("{ bake: 5m, checks: [] }", &expected), [format!("{bake}only `rollback_when` can go back")]);
        let none = "{ bake: 5m, checks: [], rollback_when: [] }";
        assert_eq!(told(none, &expected), [format!("{bake}nothing can go back by itself")]);
        for fine in ["{ bake: 5m }", "{ bake: 0s }", "{ expected_rate: 167 }"] {
            assert_eq!(told(fine, &expected), Vec::<String>::new(), "{fine}");
        }
        let slow = "services.a.rollout: step 1 %: 100 requests take";
        let so = "8m20s at 20 requests/s; the step lasts that long; one more step waits too";
        assert_eq!(told("{ expected_rate: 20 }", &expected), [format!("{slow} {so}")]);
        assert_eq!(warnings(&yaml("{ expected_rate: 20 }"), &expected).0[0].line, 3);
        let observed = Rates { observed: [("a".into(), 4.0)].into() };
        let so = "41m40s at 4 requests/s; the rollout pauses after 30m00s (`max_hold`); 4 more steps wait too";
        assert_eq!(told("{ expected_rate: 200 }", &observed), [format!("{slow} {so}")]);
        // Who writes `release` alone has the default plan.
        let alone = config::parse(
            Path::new("w"),
            b"version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\nservices:\n  a:\n    versions: { v: { \
              endpoints: ['127.0.0.1:1'] } }\n    release: v\n",
            &|_: &str| None::<String>,
        );
        let (found, more) = warnings(&alone.unwrap(), &observed);
        let [found] = &found[..] else { panic!("{found:?}, {more}") };
        assert_eq!((&*found.path, found.line), ("services.a.rollout", 6), "the line of `release`");
        assert!(found.message.starts_with("step 1 %: 100 requests take 41m40s at 4 requests/s; "), "{found:?}");
        let rollouts = |rollout: &str| rollouts(&yaml(rollout), &expected);
        assert!(rollouts("{}").ends_with("not-worse; needs 167 requests/s for 1 %\n"));
        assert!(rollouts("{ expected_rate: 200 }").ends_with("not-worse\n"));
    }

    #[test]
    fn a_state_directory_may_still_have_to_be_created() {
        let base = "version: 1\nlisteners: [{ name: web, address: 127.0.0.1:0 }]\n";
        assert_eq!(faults(&format!("{base}state: {{ directory: a/b/c }}\n")), Vec::<String>::new());
        let found = faults(&format!("{base}state: {{ directory: tls.key/state }}\n"));
        assert_eq!(found, ["state.directory: tls.key: not a directory"]);
    }

    #[test]
    fn a_unix_socket_needs_its_directory() {
        let found = faults("version: 1\nlisteners: [{ name: web, address: 'unix:/nowhere/at/all/web.sock' }]\n");
        assert_eq!(found, ["listeners[0].address: /nowhere/at/all: there is no such directory"]);
    }
}
