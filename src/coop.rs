//! Cooperative yielding: long work goes in pieces, and threads that wait for the CPU run between them.
//!
//! To read, check and compile 10,000 routes takes a tenth of a second of the control thread. Where it shares a CPU with
//! a worker, the scheduler would give it its whole time slice, some milliseconds, before the worker of a request
//! that just came; a thread that yields between pieces makes the request wait for one piece. Yielding costs where the
//! worker always has work, so pieces are as long as a request may wait.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a piece lasts.
const PIECE_TIME: Duration = Duration::from_micros(150);
/// Items between two readings of the clock.
const ITEMS_PER_CHECK: usize = 16;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The items, yielding the CPU after each piece. For few items it does nothing.
pub(crate) fn in_pieces<I: IntoIterator>(items: I) -> impl Iterator<Item = I::Item> {
    items.into_iter().enumerate().map(|(at, item)| {
        if at % ITEMS_PER_CHECK == ITEMS_PER_CHECK - 1 {
            yield_if_due();
        }
        item
    })
}

/// Drops the items in pieces: freeing is work as well.
pub(crate) fn drop_in_pieces<I: IntoIterator>(items: I) {
    in_pieces(items).for_each(drop);
}

fn yield_if_due() {
    let now = Instant::now();
    if BEGAN.get().is_none_or(|began| now.duration_since(began) >= PIECE_TIME) {
        std::thread::yield_now();
        BEGAN.set(Some(Instant::now()));
    }
}
