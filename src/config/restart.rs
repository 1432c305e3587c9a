//! What of a new configuration cannot take effect in a running process.
//!
//! Sockets, threads and stores are made once, at the start. A new file that changes them is refused with that
//! reason, rather than applied in part.

use super::file::Config;
use super::section::listener::Listener;
use super::syntax::diagnostic::{Diagnostic, quoted};
use super::syntax::mark::{Mark, marked};
use super::syntax::tree::{Node, Value};

/// The sections that are fixed at the start.
const FIXED: [&str; 6] = ["listeners", "telemetry", "admin", "runtime", "state", "access_log"];

/// Marks of the sections that are fixed at the start, and of each listener.
pub(super) fn marks(root: &Node<'_>, source: &str) -> Vec<Mark> {
    let mut places = Vec::new();
    for section in FIXED {
        let Some((key, node)) = root.field(section) else { continue };
        places.push((section.to_owned(), key.place));
        if let (true, Value::List(items)) = (section == "listeners", &node.value) {
            places.extend(items.iter().enumerate().map(|(at, item)| (format!("listeners[{at}]"), item.place)));
        }
    }
    marked(places, source)
}

impl Listener {
    /// Whether its socket can stay when it becomes `new`: how requests are read is the snapshot's to say.
    fn needs_no_restart(&self, new: &Self) -> bool {
        Self { paths: new.paths, headers: new.headers, ..self.clone() } == *new
    }
}

impl Config {
    /// What of `new` needs a restart of the process that runs `self`: one diagnostic for each changed section,
    /// at its place in the new file. Empty when `new` can be applied as a whole.
    #[must_use]
    pub(crate) fn restart_needed(&self, new: &Self) -> Vec<Diagnostic> {
        let mut changes = self.listener_changes(new);
        let sections = [
            (self.telemetry != new.telemetry, "telemetry"),
            (self.admin != new.admin, "admin"),
            (self.runtime != new.runtime, "runtime"),
            (self.state != new.state, "state"),
            (self.access_log != new.access_log, "access_log"),
        ];
        let changed = sections.into_iter().filter(|(changed, _)| *changed);
        changes.extend(changed.map(|(_, section)| new.change(section, &format!("`{section}` changed"))));
        changes
    }

    fn listener_changes(&self, new: &Self) -> Vec<Diagnostic> {
        let mut changes = Vec::new();
        for (at, listener) in new.listeners.iter().enumerate() {
            let was = self.listeners.iter().find(|other| other.name == listener.name);
            let what = match was {
                Some(was) if was.needs_no_restart(listener) => continue,
                Some(_) => "changed",
                None => "is new",
            };
            let message = format!("listener {} {what}", quoted(&listener.name));
            changes.push(new.change(&format!("listeners[{at}]"), &message));
        }
        for gone in self.listeners.iter().filter(|old| !new.listeners.iter().any(|other| other.name == old.name)) {
            changes.push(new.change("listeners", &format!("listener {} is gone", quoted(&gone.name))));
        }
        changes
    }

    fn change(&self, path: &str, message: &str) -> Diagnostic {
        let message = format!("{message}, which needs a restart");
        let help = "restart Weir to apply the file, or take this change back; nothing of the file was applied";
        match self.origin.marks.iter().find(|mark| mark.is_of(path)) {
            Some(mark) => mark.diagnostic(&self.origin.file, &message, help),
            None => Diagnostic {
                path: path.to_owned(),
                ..Diagnostic::of_file(&self.origin.file.display().to_string(), message, help)
            },
        }
    }
}
