//! What the file may say, section by section: one file each, which knows its fields, their defaults and their bounds.

pub(crate) mod affinity;
pub(crate) mod alerts;
pub(crate) mod cohort;
pub(crate) mod concurrency;
pub(crate) mod dns;
pub(crate) mod flag;
pub(crate) mod health;
pub(crate) mod health_check;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod mirror;
pub(crate) mod normalization;
pub(crate) mod process;
pub(crate) mod retry;
pub(crate) mod rollout;
pub(crate) mod route;
pub(crate) mod service;
pub(crate) mod split;
pub(crate) mod upstream;
pub(crate) mod version;
pub(crate) mod version_headers;
