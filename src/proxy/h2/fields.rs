//! Memory for the fields of requests, kept by the worker and not by the connection.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::proxy::codec::hpack::FieldLines;

/// Spare ones of a kind that a worker keeps.
const SPARE: usize = 128;

thread_local! {
    static FIELDS: RefCell<Vec<FieldLines>> = const { RefCell::new(Vec::new()) };
}

/// The fields of one section.
#[derive(Debug)]
pub(super) struct PooledFields(FieldLines);

impl PooledFields {
    /// None yet, and room for as many as `limit` allows; a list of `endured` bytes and four times the limit is an error.
    pub(super) fn take(limit: usize, endured: usize) -> Self {
        let mut fields = FIELDS.with_borrow_mut(Vec::pop).unwrap_or_default();
        fields.clear_for(limit, endured.max(limit.saturating_mul(4)));
        Self(fields)
    }
}

impl Drop for PooledFields {
    fn drop(&mut self) {
        let fields = std::mem::take(&mut self.0);
        give(&FIELDS, fields);
    }
}

impl Deref for PooledFields {
    type Target = FieldLines;

    fn deref(&self) -> &FieldLines {
        &self.0
    }
}

impl DerefMut for PooledFields {
    fn deref_mut(&mut self) -> &mut FieldLines {
        &mut self.0
    }
}

/// Keeps one for the next that needs it.
pub(super) fn give<T>(spare: &'static std::thread::LocalKey<RefCell<Vec<T>>>, one: T) {
    // At the end of a thread there is nobody to give it to.
    let _ = spare.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(one);
        }
    });
}
