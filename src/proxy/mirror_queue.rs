//! The way of copied requests from the workers to the one who sends them.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use crate::model::Name;
use crate::snapshot::Mirror;
use crate::snapshot::live::MirrorPermit;

/// Copies that wait to be sent. Each has its mirror's permit, so usually there are fewer.
const WAITING: usize = 1024;

/// A copy of a request, which is sent by somebody else than who has the request.
#[derive(Debug)]
pub(crate) struct MirroredRequest {
    pub(crate) mirror: Arc<Mirror>,
    /// The version that has the request.
    pub(crate) from: Name,
    /// The request's route, by name.
    pub(crate) route: Name,
    /// That version gets the copy too, and their responses are compared.
    pub(crate) compares: bool,
    /// As an HTTP/1.1 endpoint of that version gets it.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// Its place among those under way.
    pub(crate) _permit: MirrorPermit,
}

/// The queue between those who copy and the one who sends.
pub(crate) struct MirrorQueue {
    sender: mpsc::Sender<Box<MirroredRequest>>,
    /// Held by the one who sends.
    pub(crate) receiver: Mutex<mpsc::Receiver<Box<MirroredRequest>>>,
}

impl Default for MirrorQueue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl MirrorQueue {
    /// Hands a copy over, unless too many wait; whether it did.
    pub(crate) fn try_send(&self, request: Box<MirroredRequest>) -> bool {
        self.sender.try_send(request).is_ok()
    }
}
