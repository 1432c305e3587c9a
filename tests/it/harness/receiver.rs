//! A receiver of hooks, questions and alerts: answers as the story says, and remembers what it was sent.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// One request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Its path.
    pub(crate) path: String,
    /// Its header fields.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Value,
}

/// How it answers.
#[derive(Clone, Debug)]
enum Answer {
    /// With this status and body.
    With(u16, String),
    /// Not before the story says otherwise.
    Hangs,
}

struct Shared {
    answer: Mutex<Answer>,
    changed: Notify,
    received: Mutex<Vec<Received>>,
}

/// A server on a free port. It ends when it is dropped.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    serving: JoinHandle<()>,
}

impl Receiver {
    /// Starts one that answers 204.
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            answer: Mutex::new(Answer::With(204, String::new())),
            changed: Notify::new(),
            received: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(take).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { shared, address, serving }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it answers so.
    pub(crate) fn answer(&self, status: u16, body: &str) {
        *self.shared.answer.lock().unwrap() = Answer::With(status, body.to_owned());
        self.shared.changed.notify_waiters();
    }

    /// From now on it answers nothing.
    pub(crate) fn hang(&self) {
        *self.shared.answer.lock().unwrap() = Answer::Hangs;
    }

    /// What arrived on this path so far.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        self.shared.received.lock().unwrap().iter().filter(|received| received.path == path).cloned().collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: String) -> (StatusCode, String) {
    let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
    shared.received.lock().unwrap().push(Received { path: uri.path().to_owned(), headers, body });
    loop {
        let changed = shared.changed.notified();
        let answer = shared.answer.lock().unwrap().clone();
        match answer {
            Answer::With(status, body) => return (StatusCode::from_u16(status).unwrap(), body),
            Answer::Hangs => changed.await,
        }
    }
}
