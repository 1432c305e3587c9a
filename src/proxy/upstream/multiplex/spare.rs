//! Field sections that were read, for those to come: their memory belongs to the worker, so idle connections hold none and
//! a request in steady state allocates nothing.

use std::cell::RefCell;

use crate::proxy::codec::hpack::FieldLines;

/// So many are kept: more than are taken up at once but in bursts.
const KEPT: usize = 256;

/// Larger sections are rare: their memory is given back.
const KEPT_SIZE: usize = 16 * 1024;

/// Boxes: a section moves between here and its stream as it is, without a copy or a new box.
type Spare = RefCell<Vec<Box<FieldLines>>>;

thread_local! {
    static FIELDS: Spare = const { RefCell::new(Vec::new()) };
}

/// A section to be filled, with what the last one left in it.
pub(super) fn fields() -> Box<FieldLines> {
    // At the end of a thread there are none.
    let spare = FIELDS.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
    spare.unwrap_or_else(|| Box::new(FieldLines::new()))
}

/// Nobody needs this one any more.
pub(super) fn keep_fields(fields: Box<FieldLines>) {
    if fields.size() <= KEPT_SIZE {
        let _ = FIELDS.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(fields);
            }
        });
    }
}
