//! Memory of streams, kept by the worker and not by the connection: a connection without requests holds none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use tokio_util::sync::ReusableBoxFuture;

use super::exchange::{Ended, Opened, exchange};
use crate::proxy::codec::hpack::FieldLines;

/// Spare ones of each that a worker keeps.
const SPARE: usize = 128;

/// An exchange under way, in memory that the next one uses again.
pub(super) type Running = ReusableBoxFuture<'static, Ended>;

thread_local! {
    static FIELDS: RefCell<Vec<FieldLines>> = const { RefCell::new(Vec::new()) };
    static EXCHANGES: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
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

/// Begins an exchange.
pub(super) fn begin(opened: Opened) -> Running {
    match EXCHANGES.with_borrow_mut(Vec::pop) {
        Some(mut running) => {
            running.set(exchange(opened));
            running
        }
        None => ReusableBoxFuture::new(exchange(opened)),
    }
}

/// Keeps the memory of an exchange that is over.
pub(super) fn over(running: Running) {
    give(&EXCHANGES, running);
}

fn give<T>(spare: &'static std::thread::LocalKey<RefCell<Vec<T>>>, one: T) {
    // At the end of a thread there is nobody to give it to.
    let _ = spare.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(one);
        }
    });
}
