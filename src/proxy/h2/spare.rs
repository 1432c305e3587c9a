//! Memory of exchanges, kept by the worker and not by the connection: a connection without requests holds none.

use std::cell::RefCell;

use tokio_util::sync::ReusableBoxFuture;

use super::ended::Ended;
use super::exchange::{Opened, exchange};
use super::fields::give;

/// An exchange under way, in memory that the next one uses again.
pub(super) type Running = ReusableBoxFuture<'static, Ended>;

thread_local! {
    static EXCHANGES: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
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
