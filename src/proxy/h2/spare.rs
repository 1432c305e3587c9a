//! Memory of exchanges, kept by the worker and not by the connection: a connection without requests holds none.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::ended::Ended;
use super::exchange::{Opened, exchange};
use super::fields::give;

/// An exchange under way, in memory that the next one uses again.
pub(super) type Running = Pin<Box<dyn Exchanging + Send>>;

thread_local! {
    static EXCHANGES: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
}

/// What exchanges are carried out in, one after the other.
pub(super) trait Exchanging {
    /// Begins one. The one before is over, or ends with this.
    fn begin(self: Pin<&mut Self>, opened: Opened);

    /// Goes on with it until it is over.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended>;
}

pin_project! {
    // The future is made where it stays: it is large, and each move of it would cost a request a percent.
    struct Memory<M, F> {
        make: M,
        #[pin]
        running: Option<F>,
    }
}

impl<M: Fn(Opened) -> F, F: Future<Output = Ended>> Exchanging for Memory<M, F> {
    fn begin(self: Pin<&mut Self>, opened: Opened) {
        let mut this = self.project();
        this.running.set(Some((this.make)(opened)));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        self.project().running.as_pin_mut().map_or(Poll::Pending, |running| running.poll(cx))
    }
}

/// Begins an exchange.
pub(super) fn begin(opened: Opened) -> Running {
    let spare = EXCHANGES.with_borrow_mut(Vec::pop);
    let mut running: Running = spare.unwrap_or_else(|| Box::pin(Memory { make: exchange, running: None }));
    running.as_mut().begin(opened);
    running
}

/// Keeps the memory of an exchange that is over.
pub(super) fn over(running: Running) {
    give(&EXCHANGES, running);
}
