//! What the demo writes: a directory with the configuration file, the log and the state.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use crate::cli::failure::{Exit, Failure};

/// The first line of a file that the demo wrote and may write again.
const MARK: &str = "# Written by `weir demo`";

/// The demo's directory.
#[derive(Debug)]
pub(super) struct Files {
    named: PathBuf,
    absolute: PathBuf,
}

impl Files {
    /// Makes the directory ready for a new demo. What an earlier one left is replaced, what anybody else wrote
    /// is not.
    pub(super) fn prepare(directory: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(|error| Failure::io(directory.display(), &error))?;
        let absolute = fs::canonicalize(directory).map_err(|error| Failure::io(directory.display(), &error))?;
        let files = Self { named: directory.to_owned(), absolute };
        let config = files.config();
        match fs::read_to_string(&config) {
            Ok(text) if !text.starts_with(MARK) => {
                let failure = Failure::new(Exit::FAILURE, format!("{} is not of an earlier demo", config.display()));
                return Err(failure.help("name another directory by --dir, or move the file away"));
            }
            Ok(_) => {
                // Shifts of an earlier demo would hide the split that the new file states.
                let state = files.absolute.join("state");
                if state.exists() {
                    fs::remove_dir_all(&state).map_err(|error| Failure::io(state.display(), &error))?;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::io(config.display(), &error)),
        }
        Ok(files)
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.absolute.join("weir-demo.yaml")
    }

    /// The configuration file as a person here would name it.
    pub(super) fn shown_config(&self) -> String {
        self.named.join("weir-demo.yaml").display().to_string()
    }

    /// The log of the proxy.
    pub(super) fn log(&self) -> PathBuf {
        self.absolute.join("weir.log")
    }

    /// The directory as a person here would name it.
    pub(super) fn directory(&self) -> String {
        self.named.display().to_string()
    }

    /// Asks for another version, as whoever deploys would: the rest of the file stays as it is.
    pub(super) fn release(&self, version: &str) -> Result<(), Failure> {
        let (file, next) = (self.config(), self.absolute.join("weir-demo.yaml.next"));
        let replaced = fs::read_to_string(&file).and_then(|text| {
            let lines = text.lines().map(|line| match line.split_once("release:") {
                Some((before, _)) if before.trim().is_empty() => format!("{before}release: {version}"),
                _ => line.to_owned(),
            });
            let text = lines.collect::<Vec<_>>().join("\n") + "\n";
            fs::write(&next, text).and_then(|()| fs::rename(&next, &file))
        });
        replaced.map_err(|error| Failure::io(file.display(), &error))
    }

    /// Writes the configuration with these ports.
    pub(super) fn write_config(&self, ports: Ports, origins: [u16; 4]) -> Result<(), Failure> {
        let file = self.config();
        fs::write(&file, config_text(ports, origins)).map_err(|error| Failure::io(file.display(), &error))
    }
}

fn config_text(ports: Ports, [v1, v2, v3, v4]: [u16; 4]) -> String {
    let Ports { web, admin, telemetry } = ports;
    format!(
        "{MARK}. Change the release and save: its rollout begins within two seconds, and no request is lost.\n\
         version: 1\n\
         listeners:\n\
         \x20 - {{ name: web, address: 127.0.0.1:{web} }}\n\
         admin: {{ address: 127.0.0.1:{admin} }}\n\
         telemetry: {{ address: 127.0.0.1:{telemetry} }} # /metrics\n\
         state: {{ directory: state }}\n\
         shutdown: {{ deadline: 5s, delay: 0s }}\n\
         services:\n\
         \x20 shop:\n\
         \x20   versions:\n\
         \x20     v1: {{ endpoints: [\"127.0.0.1:{v1}\"] }}\n\
         \x20     v2: {{ endpoints: [\"127.0.0.1:{v2}\"] }} # well\n\
         \x20     v3: {{ endpoints: [\"127.0.0.1:{v3}\"] }} # every fourth answer is an error\n\
         \x20     v4: {{ endpoints: [\"127.0.0.1:{v4}\"] }} # slow\n\
         \x20   release: v1\n\
         \x20   stable: v1 # what serves where no state is known\n\
         \x20   rollout:\n\
         \x20     interval: 1s # short, to be watched; 10s and a window of 1m suit production\n\
         \x20     window: 3s\n\
         \x20     min_requests: 10\n\
         \x20     steps: [{{ weight: 10, hold: 4s }}, {{ weight: 50, hold: 4s }}]\n\
         \x20     bake: 3s\n\
         \x20     checks:\n\
         \x20       - {{ name: success, success_rate: {{ min: 99 }} }}\n\
         \x20       - {{ name: latency, duration: {{ quantile: 0.99, max: 100ms }} }}\n\
         \x20     failures: {{ consecutive: 2 }}\n\
         routes:\n\
         \x20 - match: {{ path: / }}\n\
         \x20   service: shop\n"
    )
}

/// The ports of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) web: u16,
    pub(super) admin: u16,
    pub(super) telemetry: u16,
}

impl Ports {
    /// The ports that documentation names.
    const USUAL: Self = Self { web: 8080, admin: 9901, telemetry: 9902 };

    /// Three ports from `first` on.
    pub(super) const fn from_base(first: u16) -> Self {
        Self { web: first, admin: first.saturating_add(1), telemetry: first.saturating_add(2) }
    }

    /// The usual ports, where they are free, and others where they are not.
    pub(super) fn usual_or_free() -> Result<Self, Failure> {
        Self::each(|usual| TcpListener::bind((Ipv4Addr::LOCALHOST, usual)).or_else(|_| any()))
    }

    /// Ports that nobody uses.
    pub(super) fn free() -> Result<Self, Failure> {
        Self::each(|_| any())
    }

    /// All three are held until all are chosen, so that they differ.
    fn each(choose: impl Fn(u16) -> std::io::Result<TcpListener>) -> Result<Self, Failure> {
        let choose = |usual| choose(usual).map_err(|error| Failure::io("no free port", &error));
        let held = [choose(Self::USUAL.web)?, choose(Self::USUAL.admin)?, choose(Self::USUAL.telemetry)?];
        let port = |listener: &TcpListener| {
            listener.local_addr().map(|address| address.port()).map_err(|error| Failure::io("no free port", &error))
        };
        let [web, admin, telemetry] = &held;
        Ok(Self { web: port(web)?, admin: port(admin)?, telemetry: port(telemetry)? })
    }
}

fn any() -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_file_is_valid_and_its_release_can_be_edited() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::prepare(directory.path()).unwrap();
        files.write_config(Ports::from_base(20_000), [1, 2, 3, 4]).unwrap();
        let release = || {
            let text = fs::read(files.config()).unwrap();
            let config =
                config::parse(&files.config(), &text, &|_: &str| None).unwrap_or_else(|wrong| panic!("{wrong}"));
            config.services.get("shop").unwrap().release.clone().unwrap()
        };
        assert_eq!(&*release(), "v1");
        files.release("v3").unwrap();
        assert_eq!(&*release(), "v3");
        let text = fs::read_to_string(files.config()).unwrap();
        assert_eq!(text.lines().filter(|line| line.trim().starts_with("release:")).count(), 1, "sed finds one line");
    }

    #[test]
    fn only_a_file_of_an_earlier_demo_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::prepare(directory.path()).unwrap();
        files.write_config(Ports::from_base(20_000), [1, 2, 3, 4]).unwrap();
        fs::create_dir(directory.path().join("state")).unwrap();
        assert!(Files::prepare(directory.path()).is_ok());
        assert!(!directory.path().join("state").exists(), "shifts of the demo before are forgotten");
        fs::write(files.config(), "version: 1\n").unwrap();
        assert!(Files::prepare(directory.path()).is_err());
        assert_eq!(fs::read_to_string(files.config()).unwrap(), "version: 1\n");
    }

    #[test]
    fn free_ports_differ() {
        let ports = Ports::free().unwrap();
        assert!(ports.web != ports.admin && ports.admin != ports.telemetry && ports.web != ports.telemetry);
    }
}
