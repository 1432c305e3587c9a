//! Streams that were closed lately, and by whom: what still comes on them is an error, or crossed our end of them.

/// How many are remembered.
const KEPT: usize = 64;

/// The last streams that were closed.
#[derive(Debug, Default)]
pub(super) struct ClosedStreams {
    /// Their ids, and whether we ended them.
    streams: Vec<(u32, bool)>,
    next: usize,
}

impl ClosedStreams {
    /// A stream was closed.
    pub(super) fn push(&mut self, id: u32, ours: bool) {
        if self.streams.len() < KEPT {
            self.streams.push((id, ours));
        } else if let Some(oldest) = self.streams.get_mut(self.next) {
            *oldest = (id, ours);
            self.next = (self.next + 1) % KEPT;
        }
    }

    /// Whether it is known that the client ended the stream, so that it may send nothing more on it.
    pub(super) fn ended_by_client(&self, id: u32) -> bool {
        self.streams.iter().any(|(known, ours)| *known == id && !ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let mut closed = ClosedStreams::default();
        for id in (1..401).step_by(2) {
            closed.push(id, id % 4 == 1);
        }
        let known: Vec<u32> = (1..401).filter(|id| closed.ended_by_client(*id)).collect();
        assert_eq!(known, (275..401).step_by(4).collect::<Vec<u32>>());
    }
}
