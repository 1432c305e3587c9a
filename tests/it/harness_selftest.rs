//! The harness tested on itself: every client against every behaviour of an origin, without a proxy between.
//!
//! What fails here is the harness's fault, so a story that fails is Weir's.

mod breakage;
mod clients;
mod faulty;
mod load;
mod stand_in;
mod streams;
mod tls;
mod weir;
