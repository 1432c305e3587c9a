//! Long work in pieces: between them, the threads that wait for the CPU have their turn.
//!
//! To read, check and compile 10,000 routes takes a tenth of a second of the control thread. Where it shares a CPU with
//! a worker, the scheduler would let it have its whole slice, some milliseconds, before a request that just came; a
//! thread that yields between pieces makes it wait for a piece. Nothing here decides anything.

/// Items between two turns of others: some ten microseconds of work or a few hundred.
const PIECE: usize = 64;

/// The items, with a turn for others after each piece. Few items take no notice.
pub fn paced<I: IntoIterator>(items: I) -> impl Iterator<Item = I::Item> {
    items.into_iter().enumerate().map(|(at, item)| {
        if at % PIECE == PIECE - 1 {
            std::thread::yield_now();
        }
        item
    })
}

/// Drops the items in pieces: freeing is work as well.
pub fn discard<I: IntoIterator>(items: I) {
    paced(items).for_each(drop);
}
