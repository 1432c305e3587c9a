//! Questions under way, each about something.
//!
//! Invariant: each ends, whatever becomes of the task that asks it: one that panics would be taken to be asked for ever.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinSet};

/// Questions under way; whoever asks says how many there may be.
pub(super) struct Questions<A, T> {
    tasks: JoinSet<T>,
    about: HashMap<Id, A>,
}

impl<A, T> Default for Questions<A, T> {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), about: HashMap::new() }
    }
}

impl<A, T: Send + 'static> Questions<A, T> {
    /// Asks `question` about something.
    pub(super) fn ask(&mut self, about: A, question: impl Future<Output = T> + Send + 'static) {
        let task = self.tasks.spawn(question);
        self.about.insert(task.id(), about);
    }

    /// The next that is over, with its answer, or none if it panicked; none for ever while nothing is asked.
    pub(super) async fn next(&mut self) -> Option<(A, Option<T>)> {
        let (id, answer) = match self.tasks.join_next_with_id().await? {
            Ok((id, answer)) => (id, Some(answer)),
            Err(error) => {
                tracing::error!(%error, "a question to an endpoint broke off; this is a fault of Weir");
                (error.id(), None)
            }
        };
        Some((self.about.remove(&id)?, answer))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.about.len()
    }

    /// What they are about.
    pub(super) fn about(&self) -> impl Iterator<Item = &A> {
        self.about.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_panics_is_over_as_well() {
        let mut questions = Questions::default();
        assert!(questions.next().await.is_none());
        questions.ask("first", async { panic!("broken on purpose") });
        questions.ask("second", async { 2 });
        assert_eq!((questions.len(), questions.about().count()), (2, 2));
        let mut over = [questions.next().await.unwrap(), questions.next().await.unwrap()];
        over.sort_unstable();
        assert_eq!(over, [("first", None), ("second", Some(2))]);
        assert_eq!(questions.len(), 0);
        assert!(questions.next().await.is_none());
    }
}
