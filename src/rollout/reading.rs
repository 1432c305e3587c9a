//! What a provider measured for a check.

/// The answer to one question to a provider.
///
/// Only [`Reading::Value`] and [`Reading::Verdict`] say something about the canary. All others say that it could not
/// be measured, and why.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// A number in the provider's own unit; it may be infinite, never NaN.
    Value(f64),
    /// The provider judged by itself.
    Verdict {
        /// Good or bad.
        pass: bool,
        /// Its reason, at most a few lines; empty if it gave none.
        text: String,
    },
    /// A number that is none, such as the ratio of two counters that both stand still.
    NotANumber,
    /// Nothing: no series, no value.
    Empty,
    /// More than one series, this many. Which one is meant nobody can know.
    Many(usize),
    /// No answer in the time allowed.
    Timeout,
    /// No answer that can be used, and why, in a sentence.
    Failed(String),
}
