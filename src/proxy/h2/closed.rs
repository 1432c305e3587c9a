//! Streams that were closed lately, and by whom: what still comes on them is an error, or crossed our end of them.

/// How many are remembered.
const KEPT: usize = 64;

/// The last streams that were closed.
#[derive(Debug, Default)]
pub(super) struct ClosedStreams {
    /// Their ids, and whether we ended them.
    streams: Vec<(u32, bool)>,
    next: usize,
    /// The newest one that is not remembered any more.
    forgotten: u32,
}

impl ClosedStreams {
    /// A stream was closed.
    pub(super) fn push(&mut self, id: u32, ours: bool) {
        if self.streams.len() < KEPT {
            self.streams.push((id, ours));
        } else if let Some(oldest) = self.streams.get_mut(self.next) {
            self.forgotten = self.forgotten.max(oldest.0);
            *oldest = (id, ours);
            self.next = (self.next + 1) % KEPT;
        }
    }

    /// Whether it is known that nothing may come on a stream that is not open, though it is not above the newest: the
    /// client ended it, or opened a newer one before it.
    pub(super) fn excludes(&self, id: u32) -> bool {
        match self.streams.iter().find(|(known, _)| *known == id) {
            Some((_, ours)) => !ours,
            None => id > self.forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let mut closed = ClosedStreams::default();
        assert!(closed.excludes(1), "it was passed over");
        for id in (3..403).step_by(2) {
            closed.push(id, id % 4 == 1);
        }
        assert!(!closed.excludes(1) && !closed.excludes(3), "nobody knows any more");
        for id in (275..403).step_by(2) {
            assert_eq!(closed.excludes(id), id % 4 != 1, "{id}");
        }
    }
}
