//! The judge.

mod sample;
pub mod sustained;
mod words;

pub use sample::Sample;
