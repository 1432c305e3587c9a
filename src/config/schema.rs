//! The JSON Schema of the configuration file, for editors and for tools that write the file.
//!
//! It comes from the tables that read the file ([`super::syntax::section`]), and is committed as
//! `conf/weir.schema.json`; a test holds the two together. It describes each value by itself; rules that span several
//! (weights that sum to 100, names that must exist) are the reader's.

use schemars::generate::SchemaSettings;

use super::file::Config;

/// Where the schema of the current format is published; also its `$id`.
pub(crate) const SCHEMA_ID: &str = "https://weir.dev/schema/weir-1.schema.json";

/// The JSON Schema (draft 2020-12) of the configuration file, as indented JSON with a line feed at its end.
#[must_use]
pub(crate) fn schema() -> String {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    schema.insert("$id".to_owned(), SCHEMA_ID.into());
    schema.insert("title".to_owned(), "Weir's configuration file".into());
    format!("{:#}\n", schema.as_value())
}
