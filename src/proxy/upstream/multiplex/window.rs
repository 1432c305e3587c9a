//! Flow control (RFC 9113 §5.2, §6.9): what may be sent, and what the other side may send.
//!
//! Invariants: what is sent never exceeds what was granted; of a [`ReceiveWindow`], what the other side may still send,
//! what waits here and what is to be given back are together its size.

use super::settings::DEFAULT_WINDOW;
use crate::proxy::codec::frame;

/// What may be sent on a stream or a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SendWindow(i64);

/// A window would be larger than 2³¹−1 (RFC 9113 §6.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowOverflow;

impl SendWindow {
    pub(super) const fn new(size: u32) -> Self {
        Self(size as i64)
    }

    /// How much may be sent now.
    pub(super) fn room(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// So much is sent; never more than there is [room](Self::room).
    pub(super) fn take(&mut self, bytes: usize) {
        self.0 -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// The other side grants more; a change of `SETTINGS_INITIAL_WINDOW_SIZE` may take some back, below zero too
    /// (RFC 9113 §6.9.2).
    ///
    /// # Errors
    /// If it would be too large; it stays as it was.
    pub(super) fn change(&mut self, by: i64) -> Result<(), WindowOverflow> {
        let changed = self.0.saturating_add(by);
        if changed > i64::from(frame::LARGEST_WINDOW) {
            return Err(WindowOverflow);
        }
        self.0 = changed;
        Ok(())
    }
}

/// What the other side may send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReceiveWindow {
    size: u32,
    /// What it may still send; less than nothing if it sent more, and was forgiven.
    open: i64,
    /// What was used here and is to be given back.
    owed: u32,
    /// How much more than it may is forgiven.
    forgiven: u32,
}

/// The other side sent more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun;

impl ReceiveWindow {
    pub(super) const fn new(size: u32) -> Self {
        Self { size, open: size as i64, owed: 0, forgiven: 0 }
    }

    /// As large as every endpoint expects it to be that does not look at SETTINGS: no sound one does so, but simple ones
    /// exist, and what they send ahead is no more than a connection without SETTINGS lets them.
    pub(super) const fn forgiving(size: u32) -> Self {
        Self { forgiven: DEFAULT_WINDOW.saturating_sub(size), ..Self::new(size) }
    }

    /// What the other side may send ahead.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// What the other side may still send.
    #[cfg(test)]
    pub(super) fn open(&self) -> i64 {
        self.open
    }

    /// So much arrived, padding included.
    ///
    /// # Errors
    /// If that is more than was granted, and more than is forgiven.
    pub(super) fn receive(&mut self, bytes: usize) -> Result<(), Overrun> {
        let left = self.open.saturating_sub_unsigned(bytes as u64);
        if left < -i64::from(self.forgiven) {
            return Err(Overrun);
        }
        self.open = left;
        Ok(())
    }

    /// So much of what arrived was used. What is to be given back now, if it is: half of the window at once, so that small
    /// pieces do not cost a frame each.
    pub(super) fn used(&mut self, bytes: usize) -> Option<u32> {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        (self.owed >= self.size / 2 && self.owed > 0).then(|| self.give_back())
    }

    /// As [`Self::used`], where all that arrived is used: whoever keeps up so gets twice the window, up to `largest`.
    pub(super) fn used_up(&mut self, bytes: usize, largest: u32) -> Option<u32> {
        let back = self.used(bytes)?;
        let more = self.size.min(largest.saturating_sub(self.size));
        self.size += more;
        self.open += i64::from(more);
        Some(back + more)
    }

    fn give_back(&mut self) -> u32 {
        let back = std::mem::take(&mut self.owed);
        self.open += i64::from(back);
        back
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::settings::LARGEST_WINDOW;
    use super::*;

    #[test]
    fn what_may_be_sent_can_fall_below_nothing_and_comes_back() {
        let largest = i64::from(frame::LARGEST_WINDOW);
        let mut window = SendWindow::new(100);
        window.take(80);
        window.change(-50).unwrap();
        assert_eq!(window.room(), 0);
        window.change(20).unwrap();
        assert_eq!(window.room(), 0);
        window.change(45).unwrap();
        assert_eq!(window.room(), 35);
        assert_eq!(window.change(largest), Err(WindowOverflow));
        assert_eq!(window.room(), 35);
        window.change(largest - 35).unwrap();
    }

    #[test]
    fn only_who_keeps_up_gets_a_larger_window() {
        let mut window = ReceiveWindow::new(100);
        window.receive(60).unwrap();
        assert_eq!(window.used(30), None);
        assert_eq!(window.used(29), Some(59), "something waits: no more than was used");
        assert_eq!(window.used_up(1, LARGEST_WINDOW), None);
        window.receive(99).unwrap();
        assert_eq!(window.used_up(99, LARGEST_WINDOW), Some(100 + 100));
        assert_eq!(window.receive(201), Err(Overrun));
        window.receive(200).unwrap();
        assert_eq!(window.used_up(200, 250), Some(200 + 50), "no larger than it may become");
        window.receive(250).unwrap();
        assert_eq!((window.used_up(250, 100), window.size()), (Some(250), 250), "nor smaller than it is");
    }

    #[test]
    fn what_is_forgiven_counts() {
        let mut window = ReceiveWindow::forgiving(1_000);
        assert_eq!(window.receive(65_536), Err(Overrun));
        window.receive(65_535).unwrap();
        assert_eq!(window.receive(1), Err(Overrun));
        assert_eq!(window.used(65_000), Some(65_000));
        assert_eq!(window.open, 1_000 - 535);
    }

    #[test]
    fn a_window_grows_to_its_bound_and_no_further() {
        let mut window = ReceiveWindow::new(16 * 1024);
        let mut most = 0;
        for _ in 0..100 {
            let size = usize::try_from(window.open).unwrap();
            most = most.max(size);
            window.receive(size).unwrap();
            window.used_up(size, LARGEST_WINDOW);
        }
        assert_eq!(most, LARGEST_WINDOW as usize);
    }

    proptest! {
        /// A model of the other side: it has what was granted, less what it sent.
        #[test]
        fn every_byte_is_given_back_once(
            size in 2_u32..100_000,
            steps in prop::collection::vec((any::<bool>(), 0_usize..50_000), 1..200),
        ) {
            let mut window = ReceiveWindow::new(size);
            let (mut granted, mut waiting) = (u64::from(size), 0_usize);
            for (sends, bytes) in steps {
                if sends {
                    let allowed = bytes as u64 <= granted;
                    prop_assert_eq!(window.receive(bytes).is_ok(), allowed);
                    if allowed {
                        granted -= bytes as u64;
                        waiting += bytes;
                    }
                } else {
                    let used = bytes.min(waiting);
                    waiting -= used;
                    let back = if waiting == 0 { window.used_up(used, LARGEST_WINDOW) } else { window.used(used) };
                    granted += u64::from(back.unwrap_or(0));
                }
                prop_assert_eq!(window.open, i64::try_from(granted).unwrap());
                prop_assert_eq!(u64::from(window.size), granted + waiting as u64 + u64::from(window.owed));
                prop_assert!(window.owed < window.size / 2 || window.size < 2, "more than half is kept back");
                prop_assert!(window.size <= size.max(LARGEST_WINDOW));
            }
        }
    }
}
