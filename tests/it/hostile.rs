//! Clients that mean harm: smuggling, poisoning, forging, flooding.

mod corpus;
mod flood;
mod limits;
mod poison;
mod raw;
mod smuggle;
