//! The decisions on one request before anything goes to an endpoint: guard, route, split.

use std::sync::Arc;

use pingora_core::protocols::http::server::Session as ServerSession;
use pingora_http::RequestHeader;
use tokio::time::Instant;

use super::failure::{BODY_TOO_LARGE, NO_ENDPOINT, NO_ROUTE};
use super::message::{self, REQUEST_ID, View};
use super::pass::{Attempt, Head, Pass, Retries, Routed, Stage};
use crate::telemetry::access_log::Text;
use crate::traffic::balance::Tried;
use crate::traffic::guard::{self, Framing};
use crate::traffic::{HttpVersion, Refusal, Request};

/// Admits a request and chooses its route and version.
///
/// # Errors
/// The refusal to answer with; the pass knows what was chosen before it.
pub(crate) fn admit(session: &ServerSession, pass: &mut Pass) -> Result<(), Refusal> {
    let head = session.req_header();
    let snapshot = pass.gear.current.load();
    let handle = Arc::clone(&pass.exchange.handle);
    let trusted = snapshot.trusts(handle.client);
    pass.client = if trusted { forwarded_client(head).or(handle.client) } else { handle.client };
    pass.request_id = request_id(head, trusted);
    let view = View { head, client: pass.client, hidden_length: message::hides_length(session) };
    if pass.gear.access_log.enabled() {
        pass.head = Some(Box::new(logged_head(&view)));
    }
    let admitted = guard::admit(&view, &snapshot.limits)?;
    let route = Arc::clone(snapshot.table.find(&admitted.host, &admitted.path, &view).ok_or(NO_ROUTE)?);
    let service = Arc::clone(&route.service);
    let choice = service.chooser.choose(&view, message::random_token);
    let length = match admitted.framing {
        Framing::Length(length) | Framing::Frames { length: Some(length) } => length,
        _ => 0,
    };
    let upgrade = admitted.upgrade.and_then(|offer| offer.choose(&service.upgrades)).map(Box::from);
    let routed = Routed {
        version: choice.version,
        reason: choice.reason,
        key: choice.key,
        new_key: choice.new_key,
        target: admitted.target_changed.then(|| admitted.target.as_bytes().into()),
        authority: admitted.authority.into(),
        upgrade,
        has_body: admitted.framing.has_body(),
        stream_wanted: message::wants_stream(head),
        tried: Tried::default(),
        endpoint: None,
        attempt: Attempt { began: Instant::now(), fresh: false, failed: None },
        retries: Retries::default(),
        informational: 0,
        first_byte: None,
        connect: None,
        snapshot: Arc::clone(&snapshot),
        route,
    };
    pass.stage = Stage::Routed(Box::new(routed));
    pass.request_entered();
    if !choice.available {
        pass.no_endpoint();
        return Err(NO_ENDPOINT.refusal);
    }
    let limit = service.body_bytes.or(snapshot.limits.body_bytes);
    if limit.is_some_and(|limit| length > limit) {
        return Err(BODY_TOO_LARGE);
    }
    Ok(())
}

/// The client that a trusted proxy names: the last address of `X-Forwarded-For`.
fn forwarded_client(head: &RequestHeader) -> Option<std::net::IpAddr> {
    let last = head.headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

fn request_id(head: &RequestHeader, trusted: bool) -> String {
    let given = head.headers.get(&REQUEST_ID).filter(|_| trusted).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= 128 => id.to_owned(),
        _ => message::random_token(),
    }
}

fn logged_head(view: &View<'_>) -> Head {
    Head {
        method: Text::word(view.method().as_bytes()),
        host: Text::host(view.authority().or_else(|| view.header("host")).unwrap_or_default()),
        path: Text::path(view.target()),
        protocol: match view.version() {
            HttpVersion::Http10 => "HTTP/1.0",
            HttpVersion::Http11 => "HTTP/1.1",
            HttpVersion::Http2 => "HTTP/2",
        },
    }
}
