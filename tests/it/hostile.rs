//! Clients that mean harm: smuggling, poisoning, forging, flooding.

mod corpus;
mod flood;
mod forged;
mod limits;
mod poison;
mod raw;
mod smuggle;
