//! Clients that mean harm: smuggling, poisoning, forging, flooding.

mod answers;
mod corpus;
mod ends;
mod exhaust;
mod flood;
mod forged;
mod h2_answers;
mod h2_heads;
mod limits;
mod pieces;
mod poison;
pub(crate) mod raw;
mod recorder;
mod smuggle;
mod spelling;
mod tunnel;
mod unread;
mod ways;
mod whole;
