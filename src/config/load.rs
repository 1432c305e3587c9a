//! From a file to a [`Config`], or to everything that is wrong with it.
//!
//! The order is: read with a bound, check the encoding, parse, substitute variables, read the types, check
//! the rules that span several sections. Each step needs the one before it; inside the last two, all faults
//! are found in one pass.
//!
//! Invariant: nothing here waits. A path that is a pipe, a device or a directory is refused, not read.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::file::Config;
use super::syntax::diagnostic::{Diagnostic, Diagnostics};
use super::syntax::environment::{self, Environment};
use super::syntax::problem::{Place, Problem, counted};
use super::syntax::read::{Read as _, Reader};
use super::syntax::tree::{Node, Value};
use super::syntax::yaml;
use super::{advice, lint, remarks, restart};
use crate::algorithm::fnv::Fnv1a;
use crate::coop::in_pieces;

/// The largest file that is read: 10,000 hosts with 10 paths each take about 8 MiB.
pub(crate) const MAX_FILE: u64 = 64 << 20;

/// The configuration in `file`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(file: &Path, environment: &dyn Environment) -> Result<Config, Diagnostics> {
    parse(file, &read_file(file)?, environment)
}

/// The content of `file`, without waiting.
///
/// # Errors
/// Why it cannot be read: not there, not a regular file, larger than [`MAX_FILE`].
pub(crate) fn read_file(file: &Path) -> Result<Vec<u8>, Diagnostics> {
    // A pipe opened for reading would wait for its writer, without this flag.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let descriptor = rustix::fs::open(file, flags, Mode::empty()).map_err(|error| unreadable(file, &error.into()))?;
    let opened = File::from(descriptor);
    let metadata = opened.metadata().map_err(|error| unreadable(file, &error))?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a directory" } else { "a pipe, a socket or a device" };
        return Err(refused(file, format!("not a file but {kind}"), "name the configuration file itself"));
    }
    let mut content = Vec::new();
    opened.take(MAX_FILE + 1).read_to_end(&mut content).map_err(|error| unreadable(file, &error))?;
    if content.len() as u64 > MAX_FILE {
        let message = format!("the file is larger than {} MiB", MAX_FILE >> 20);
        return Err(refused(file, message, "is this the configuration file? 200,000 routes fit into less"));
    }
    Ok(content)
}

fn refused(file: &Path, message: String, help: &str) -> Diagnostics {
    Diagnostics::one(Diagnostic::of_file(&file.display().to_string(), message, help))
}

fn unreadable(file: &Path, error: &io::Error) -> Diagnostics {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "name the file with `-c FILE`, or create it; `weir schema` shows what it may say",
        io::ErrorKind::PermissionDenied => "let the user that Weir runs as read the file and enter its directories",
        _ => "check the file and the disk it is on",
    };
    refused(file, format!("the file cannot be read: {error}"), help)
}

/// The configuration that `content` states. `file` is named in diagnostics, and paths in the configuration
/// are relative to its directory; it is not read.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &Path, content: &[u8], environment: &dyn Environment) -> Result<Config, Diagnostics> {
    let name = file.display().to_string();
    let source = decode(&name, content)?;
    let mut root = yaml::parse(source).map_err(|problem| problem.alone(&name, source))?;
    environment::substitute(&mut root, environment);
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    if let Value::Null = root.value {
        let help = "begin with `version: 1` and `listeners:`; `weir schema` shows what the file may say";
        return Err(Problem::new(Place::START, "the file is empty").help(help).alone(&name, source));
    }
    let mut reader = Reader::new(&root, directory);
    let config = Config::read(&root, &mut reader);
    if let Some(diagnostics) = reader.problems.finish(&name, source) {
        return Err(diagnostics);
    }
    let mut config = config.ok_or_else(|| Diagnostics::unexplained(&name))?;
    config.origin.file = file.to_owned();
    config.origin.directory = directory.to_owned();
    config.origin.hash = hash(&root);
    config.origin.marks = restart::marks(&root, source);
    config.origin.missing_stable = remarks::missing_stable(&config.services, &root, source);
    config.origin.unjudged_bakes = advice::unjudged_bakes(&config.services, &root, source);
    config.origin.judged_rollouts = advice::judged_rollouts(&config.services, &root, source);
    config.origin.lint = lint::find(&config.services, &root, source);
    // Each flag is inside a service of its own, which stands behind those of the file.
    let flags: Vec<_> = config.flags.iter().map(|(name, flag)| flag.service(name)).collect();
    config.services.extend(flags);
    root.discard();
    Ok(config)
}

/// The text of the file.
pub(super) fn decode<'s>(file: &str, content: &'s [u8]) -> Result<&'s str, Diagnostics> {
    let error = match std::str::from_utf8(content) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let good = content.get(..error.valid_up_to()).unwrap_or_default();
    let line_start = memchr::memrchr(b'\n', good).map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(good.get(line_start..).unwrap_or_default()).chars().count() + 1;
    let line = memchr::memchr_iter(b'\n', good).count() + 1;
    Err(Diagnostics::one(Diagnostic {
        line: counted(line),
        column: counted(column),
        ..Diagnostic::of_file(file, "the file is not UTF-8 text", "save it as UTF-8, without other encodings inside")
    }))
}

/// Stable, and it needs no more than to tell configurations apart.
fn hash(root: &Node<'_>) -> u64 {
    let mut state = Fnv1a::default();
    hash_node(root, &mut state);
    state.finish()
}

/// Every value with its kind before and an end behind it, so that different trees give different sequences.
/// The bytes 0xF5 to 0xFF do not occur in UTF-8. Recursion is bounded by the depth of the tree.
fn hash_node(node: &Node<'_>, state: &mut Fnv1a) {
    match &node.value {
        Value::Null | Value::Broken(_) => state.write(&[0xf5]),
        Value::Text(text) => {
            state.write(&[0xf6]);
            state.write(text.text.as_bytes());
        }
        Value::List(items) => {
            state.write(&[0xf7]);
            in_pieces(items).for_each(|item| hash_node(item, state));
        }
        Value::Map(entries) => {
            state.write(&[0xf8]);
            for (key, value) in entries {
                state.write(key.text.as_bytes());
                hash_node(value, state);
            }
        }
    }
    state.write(&[0xff]);
}
