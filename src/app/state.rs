//! Where durable state is, and what happens when it cannot be opened.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::{StartError, system_error};
use crate::config::Config;
use crate::store::redb::{RedbJournal, Store, StoreError};
use crate::store::{CopyFile, JournalError, JournalWriter};

/// Opens the store: the configured directory, or systemd's, or the user's.
///
/// A damaged file is quarantined. Without a usable directory Weir runs, and refuses what would have to be durable.
///
/// # Errors
/// If a configured directory is held by another process, or is needed for rollouts and cannot be used.
pub(super) fn open(config: &Config) -> Result<JournalWriter, StartError> {
    let configured = config.state.directory.clone();
    let Some(directory) = configured.clone().or_else(default_directory) else {
        return Ok(JournalWriter::unavailable("there is no state directory; set `state.directory`".to_owned(), None));
    };
    let copy = CopyFile::new(directory.clone());
    match Store::open(&directory) {
        Ok(store) => {
            if let Some(error) = store.last_error() {
                tracing::error!(
                    "{error}; what was decided before is known and in effect. Nothing moves forward, and what goes back \
                     does so only until a restart"
                );
            }
            start(store, copy)
        }
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Newer { .. })) => {
            tracing::error!("{error}; it is set aside and Weir goes on with the file's splits");
            match Store::quarantine(&directory) {
                Ok((store, _)) => start(store, copy),
                Err(error) => Ok(JournalWriter::unavailable(error.to_string(), Some(copy))),
            }
        }
        Err(error) if configured.is_some() && matches!(error, StoreError::Locked { .. }) => {
            Err(StartError::Unusable(vec![error.to_string()]))
        }
        // What is stable would be guessed, and a version that failed could get all traffic.
        Err(error) if configured.is_some() && rolls_out(config) && copy.read().is_none() => {
            let help = "a service has a `rollout`, whose decisions are there; make `state.directory` usable";
            Err(StartError::Unusable(vec![format!("{error}; {help}")]))
        }
        Err(error) => {
            tracing::warn!(
                "{error}; until it can be opened, shifts of weights are refused and what leads back is lost with a restart"
            );
            Ok(JournalWriter::unavailable(error.to_string(), Some(copy)))
        }
    }
}

/// The journal of an open store, with its thread.
fn start(store: Store, copy: CopyFile) -> Result<JournalWriter, StartError> {
    let last_error = store.last_error().map(JournalError::from);
    let journal = RedbJournal::start(store).map_err(system_error("cannot start the store's thread"))?;
    let writer = JournalWriter::new(Arc::new(journal), Some(copy), last_error);
    writer.map_err(|error| StartError::Unusable(vec![error.to_string()]))
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
