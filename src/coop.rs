//! Long work in pieces: between them, the threads that wait for the CPU have their turn.
//!
//! To read, check and compile 10,000 routes takes a tenth of a second of the control thread. Where it shares a CPU with
//! a worker, the scheduler would let it have its whole slice, some milliseconds, before a request that just came; a
//! thread that yields between pieces makes it wait for a piece. Each turn is dear where the worker always has work: the
//! pieces are as long as a request may wait. Nothing here decides anything.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a piece is.
const PIECE: Duration = Duration::from_micros(150);
/// Items between two looks at the clock.
const ITEMS: usize = 16;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The items, with a turn for others after each piece. Few items take no notice.
pub fn paced<I: IntoIterator>(items: I) -> impl Iterator<Item = I::Item> {
    items.into_iter().enumerate().map(|(at, item)| {
        if at % ITEMS == ITEMS - 1 {
            give_way();
        }
        item
    })
}

/// Drops the items in pieces: freeing is work as well.
pub fn discard<I: IntoIterator>(items: I) {
    paced(items).for_each(drop);
}

fn give_way() {
    let now = Instant::now();
    if BEGAN.get().is_none_or(|began| now.duration_since(began) >= PIECE) {
        std::thread::yield_now();
        BEGAN.set(Some(Instant::now()));
    }
}
