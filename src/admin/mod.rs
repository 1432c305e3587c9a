//! admin.
pub mod wire;
