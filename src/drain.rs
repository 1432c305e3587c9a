//! drain.
