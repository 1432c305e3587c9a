//! Memory for the fields of requests, kept by the worker and not by the connection.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::proxy::codec::hpack::FieldLines;

/// Spare ones of a kind that a worker keeps.
const SPARE: usize = 128;

thread_local! {
    static FIELDS: RefCell<Vec<PooledMemory>> = const { RefCell::new(Vec::new()) };
}

// Boxed because it is large, and moved often between the frame and the exchange.
type PooledMemory = Box<FieldLines>;

static NONE: FieldLines = FieldLines::new();

/// The fields of one section; none once they were given back.
#[derive(Debug)]
pub(super) struct PooledFields(Option<PooledMemory>);

impl PooledFields {
    /// None yet, and room for as many as `limit` allows; a list of `endured` bytes and four times the limit is an error.
    pub(super) fn take(limit: usize, endured: usize) -> Self {
        let mut fields = FIELDS.with_borrow_mut(Vec::pop).unwrap_or_default();
        fields.clear_for(limit, endured.max(limit.saturating_mul(4)));
        Self(Some(fields))
    }
}

impl Drop for PooledFields {
    fn drop(&mut self) {
        if let Some(fields) = self.0.take() {
            give(&FIELDS, fields);
        }
    }
}

impl Deref for PooledFields {
    type Target = FieldLines;

    #[inline]
    fn deref(&self) -> &FieldLines {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for PooledFields {
    fn deref_mut(&mut self) -> &mut FieldLines {
        self.0.get_or_insert_default()
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
