//! `weir check`: everything that is wrong with a configuration file, and with the files that it names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Access, access};

use super::arguments::{CheckArguments, CheckOutput};
use super::failure::{Exit, Failure};
use super::print;
use crate::config::{self, Config, Diagnostic, Output};
use crate::model::Address;
use crate::tls::{Certificate, ClientRoots, Pair};

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
    match arguments.output {
        CheckOutput::Json => print(&json(&file, config.as_ref(), &faults))?,
        CheckOutput::Text if faults.json.is_empty() => print(&summary(&file, config.as_ref()))?,
        CheckOutput::Text => {}
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

fn json(file: &Path, config: Option<&Config>, faults: &Faults) -> String {
    let report = serde_json::json!({
        "file": file.display().to_string(),
        "valid": faults.json.is_empty(),
        "hash": config.map(Config::hash),
        "diagnostics": faults.json,
    });
    format!("{report:#}\n")
}

fn summary(file: &Path, config: Option<&Config>) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let holds = config.map_or_else(String::new, |config| {
        let (listeners, services) =
            (count(config.listeners.len(), "listener"), count(config.services.len(), "service"));
        format!(": {listeners}, {services}, {}", count(config.routes.len(), "route"))
    });
    format!("{} is valid{holds}\n", file.display())
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
    checks.socket("admin.address", &config.admin.address);
    if let Some(token) = &config.admin.token_file {
        checks.token(token);
    }
    if let Some(telemetry) = &config.telemetry {
        checks.socket("telemetry.address", &telemetry.address);
    }
    if let Some(directory) = &config.state.directory {
        checks.directory("state.directory", directory);
    }
    if let Output::File(log) = &config.access_log.output {
        checks.parent("access_log.output", log);
    }
    checks.found
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

    fn token(&mut self, file: &Path) {
        if let Some(token) = self.read("admin.token_file", file)
            && token.trim_ascii().is_empty()
        {
            self.wrong(
                "admin.token_file",
                format!("{}: it is empty", file.display()),
                Some("write a long random token into it"),
            );
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
