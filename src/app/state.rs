//! Where durable state is, and what happens when it cannot be opened.

use std::path::PathBuf;

use super::StartError;
use crate::config::Config;
use crate::control::NoStore;
use crate::store::{Store, StoreError, read_copy};

/// Opens the store: the configured directory, or systemd's, or the user's.
///
/// A damaged file is set aside. Without a usable directory Weir runs, and refuses what would have to be durable.
///
/// # Errors
/// If a configured directory is held by another process, or is needed for rollouts and cannot be used.
pub(super) fn open(config: &Config) -> Result<Result<Store, NoStore>, StartError> {
    let configured = config.state.directory.clone();
    let Some(directory) = configured.clone().or_else(default_directory) else {
        let why = "there is no state directory; set `state.directory`".to_owned();
        return Ok(Err(NoStore { why, copy: None }));
    };
    let none = |error: &StoreError| NoStore { why: error.to_string(), copy: read_copy(&directory) };
    match Store::open(&directory) {
        Ok(store) => {
            if let Some(last_error) = store.last_error() {
                tracing::error!(
                    "{last_error}; what was decided before is known and in effect. Nothing moves forward, and what goes back \
                     does so only until a restart"
                );
            }
            Ok(Ok(store))
        }
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Newer { .. })) => {
            tracing::error!("{error}; it is set aside and Weir goes on with the file's splits");
            Ok(Store::quarantine(&directory).map(|(store, _)| store).map_err(|error| none(&error)))
        }
        Err(error) if configured.is_some() && matches!(error, StoreError::Locked { .. }) => {
            Err(StartError::Unusable(vec![error.to_string()]))
        }
        // What is stable would be guessed, and a version that failed could get all traffic.
        Err(error) if configured.is_some() && rolls_out(config) && read_copy(&directory).is_none() => {
            let help = "a service has a `rollout`, whose decisions are there; make `state.directory` usable";
            Err(StartError::Unusable(vec![format!("{error}; {help}")]))
        }
        Err(error) => {
            tracing::warn!(
                "{error}; until it can be opened, shifts of weights are refused and what leads back is lost with a restart"
            );
            Ok(Err(none(&error)))
        }
    }
}

fn rolls_out(config: &Config) -> bool {
    config.services.iter().any(|(_, service)| service.rollout.is_some())
}

fn default_directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("STATE_DIRECTORY")
        .or_else(|| variable("XDG_STATE_HOME").map(|home| home.join("weir")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/weir")))
}
