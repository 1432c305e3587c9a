//! Memory of streams that are over, for those to come: it belongs to the worker, so idle connections hold none and
//! a request in steady state allocates nothing.

use std::cell::RefCell;

use super::slot::Slot;
use crate::proxy::codec::hpack::FieldLines;

/// So many of each are kept: more than are taken up at once but in bursts.
const KEPT: usize = 256;

/// Larger sections are rare: their memory is given back.
const KEPT_SIZE: usize = 16 * 1024;

thread_local! {
    static SLOTS: RefCell<Vec<Box<Slot>>> = const { RefCell::new(Vec::new()) };
    static FIELDS: RefCell<Vec<Box<FieldLines>>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn slot() -> Box<Slot> {
    // At the end of a thread there are none.
    SLOTS.try_with(|spare| spare.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

pub(super) fn keep_slot(mut slot: Box<Slot>) {
    slot.clear();
    let _ = SLOTS.try_with(|spare| keep(&mut spare.borrow_mut(), slot));
}

pub(super) fn fields() -> Box<FieldLines> {
    let spare = FIELDS.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
    spare.unwrap_or_else(|| Box::new(FieldLines::new()))
}

pub(super) fn keep_fields(fields: Box<FieldLines>) {
    if fields.size() <= KEPT_SIZE {
        let _ = FIELDS.try_with(|spare| keep(&mut spare.borrow_mut(), fields));
    }
}

fn keep<T>(spare: &mut Vec<T>, one: T) {
    if spare.len() < KEPT {
        spare.push(one);
    }
}
