//! Calls out of the process: hooks, alerts, and questions to those who measure for the judge.
//!
//! Everything here is bounded: a call has a timeout, an answer a size, a queue a length. A receiver that is dead or
//! slow costs its own call and nothing else.
