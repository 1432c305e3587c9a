//! Admission on the general lane: the engine's request through the rules of [`admit`], into its context.

use std::sync::Arc;

use bytes::BytesMut;
use pingora_core::protocols::http::server::Session as ServerSession;
use tokio::time::Instant;

use super::context::{EngineContext, RequestStage, Routed};
use super::message::{self, View};
use crate::proxy::request::admit::{self, Decision, Sender};
use crate::proxy::request::attempts::Attempts;
use crate::proxy::request::context::Logged;
use crate::proxy::request::failure::{BODY_TOO_LARGE, NO_ENDPOINT};
use crate::proxy::request::token;
use crate::traffic::Refusal;

/// Admits a request and chooses its route and version.
///
/// # Errors
/// The refusal to answer with; the context knows what was chosen before it.
pub(crate) fn admit(session: &ServerSession, context: &mut EngineContext) -> Result<(), Refusal> {
    let head = session.req_header();
    let snapshot = context.shared.current.load();
    let handle = Arc::clone(&context.exchange.handle);
    let mut view = View { head, client: None, hidden_length: message::hides_length(session) };
    let Sender { trusted, client } = admit::sender(&view, &snapshot, handle.client);
    view.client = client;
    context.request_id = admit::given_request_id(&view, trusted).map_or_else(token::random_token, str::to_owned);
    if context.shared.access_log.enabled() {
        context.logged = Some(Box::new(Logged::of(&view, context.request_id.as_bytes(), &handle.listener)));
    }
    let decision = admit::decide(&view, &snapshot, &handle.entrance())?;
    let (too_large, length) = (decision.is_too_large(&snapshot), decision.length());
    let Decision { admitted, route, service, underscore } = decision;
    let choice = service.chooser.choose(&view, token::random_token);
    let upgrade = admitted.upgrade.and_then(|offer| offer.choose(&service.upgrades)).map(Box::from);
    let routed = Routed {
        version: choice.version,
        reason: choice.reason,
        key: choice.key,
        new_key: choice.new_key,
        target: admitted.target_changed.then(|| admitted.target.as_bytes().into()),
        authority: admitted.authority.into(),
        upgrade,
        underscore,
        has_body: admitted.framing.has_body(),
        length,
        expects: admitted.expect_continue,
        manner: None,
        ahead: BytesMut::new(),
        attempts: Attempts::new(Instant::now()),
        informational: 0,
        route: Arc::clone(route),
        service: Arc::clone(service),
        snapshot,
    };
    context.stage = RequestStage::Routed(Box::new(routed));
    context.request_entered();
    if !choice.available {
        context.no_endpoint();
        return Err(NO_ENDPOINT.refusal);
    }
    if too_large { Err(BODY_TOO_LARGE) } else { Ok(()) }
}
