//! The open streams of a connection, by place and by id.

use std::cell::RefCell;

use slab::Slab;

use super::slot::Slot;

/// Streams that are over, for those to come: a worker keeps so many, more than are opened at once but in bursts.
const KEPT: usize = 256;

/// Boxes: a stream moves between here and its connection as it is, without a copy or a new box.
type Spare = RefCell<Vec<Box<Slot>>>;

thread_local! {
    static SPARE: Spare = const { RefCell::new(Vec::new()) };
}

/// The open streams of a connection.
#[derive(Default)]
pub(super) struct Streams {
    slots: Slab<Box<Slot>>,
    /// Id and place of each, in the order of ids, which rise.
    ids: Vec<(u32, usize)>,
}

impl Streams {
    /// A new stream, with the highest id so far; its place.
    pub(super) fn insert(&mut self, id: u32, begins: u64, window: u32, head: bool) -> usize {
        // At the end of a thread there are none.
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let mut slot = spare.unwrap_or_default();
        slot.begin(id, begins, window, head);
        let at = self.slots.insert(slot);
        self.ids.push((id, at));
        at
    }

    pub(super) fn remove(&mut self, at: usize) {
        let Some(mut slot) = self.slots.try_remove(at) else { return };
        if let Ok(place) = self.ids.binary_search_by_key(&slot.id, |(id, _)| *id) {
            self.ids.remove(place);
        }
        slot.clear();
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(slot);
            }
        });
    }

    /// The stream at a place.
    pub(super) fn at(&mut self, at: usize) -> Option<&mut Slot> {
        self.slots.get_mut(at).map(|slot| &mut **slot)
    }

    /// The stream with an id, and its place.
    pub(super) fn find(&mut self, id: u32) -> Option<(usize, &mut Slot)> {
        let place = self.ids.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, at) = *self.ids.get(place)?;
        Some((at, self.at(at)?))
    }

    pub(super) fn each(&mut self, mut what: impl FnMut(&mut Slot)) {
        self.slots.iter_mut().for_each(|(_, slot)| what(slot));
    }
}
