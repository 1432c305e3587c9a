//! The data plane; the only folder that knows pingora.

pub mod proxy_protocol_placeholder {}

use std::sync::Arc;

use crate::model::Name;
use crate::telemetry::ListenerSeries;

/// A traffic listener that is bound.
#[derive(Clone)]
pub struct Bound {
    /// Its name.
    pub name: Name,
    /// Where it is really bound: a port 0 of the file is the real port here.
    pub address: String,
    /// Its connections.
    pub series: Arc<ListenerSeries>,
}
