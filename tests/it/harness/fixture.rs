//! Files of tests that differ from another in one place.

/// A text that a test changes.
pub(crate) trait Fixture {
    /// This text with every `from` replaced by `to`. A `from` that is not there is a fault of the test: it would go on with
    /// the text as it was, and prove nothing.
    fn changed(&self, from: &str, to: &str) -> String;

    /// The same for the first `from` only.
    fn changed_first(&self, from: &str, to: &str) -> String;
}

impl Fixture for str {
    #[track_caller]
    fn changed(&self, from: &str, to: &str) -> String {
        assert!(self.contains(from), "`{from}` is not in the text:\n{self}");
        self.replace(from, to)
    }

    #[track_caller]
    fn changed_first(&self, from: &str, to: &str) -> String {
        assert!(self.contains(from), "`{from}` is not in the text:\n{self}");
        self.replacen(from, to, 1)
    }
}
