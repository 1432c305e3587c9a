//! Admission on the general lane: the engine's request through the rules of
//! [`admit`](mod@crate::proxy::request::admit), into its context.

use std::sync::Arc;

use bytes::BytesMut;
use pingora_core::protocols::http::server::Session as ServerSession;
use tokio::time::Instant;

use super::context::{EngineContext, RequestStage, Routed};
use super::message::{self, View};
use crate::proxy::request::admit::{self, Admitted, Identified, Rejected, RoutedRequest};
use crate::proxy::request::attempts::Attempts;
use crate::proxy::request::failure::INTERNAL;
use crate::proxy::request::mirror;
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
    let known = Identified::of(&mut view, &handle.ingress(), &context.shared, &snapshot);
    let admitted = admit::admit(known.head, &handle.ingress(), &snapshot, |_| true);
    context.request_id = String::from_utf8_lossy(known.request_id.as_bytes()).into_owned();
    context.logged = known.logged;
    let admitted = admitted.map_err(|rejected| match rejected {
        Rejected::Refused(refusal) => refusal,
        // There is no other lane.
        Rejected::NotCarried => INTERNAL,
    })?;
    let assignment = admitted.assignment();
    let Admitted { routed, choice, set_cookie, flags, refusal, .. } = admitted;
    let length = routed.length();
    let RoutedRequest { validated, route, service, underscore, .. } = routed;
    let upgrade = validated.upgrade.and_then(|offer| offer.choose(&service.upgrades)).map(Box::from);
    let special = upgrade.is_some() || message::is_grpc(head);
    let routed = Routed {
        copy: mirror::copy(&assignment, head.method.as_str(), special),
        version: choice.version,
        reason: choice.reason,
        key: choice.key,
        cohort: choice.cohort,
        set_cookie,
        flags: flags.bits(),
        target: validated.target_changed.then(|| validated.target.as_bytes().into()),
        authority: validated.authority.into(),
        upgrade,
        underscore,
        has_body: validated.framing.has_body(),
        length,
        expects: validated.expect_continue,
        manner: None,
        ahead: BytesMut::new(),
        attempts: Attempts::new(head.method.as_str(), Instant::now(), service.timeouts.request),
        informational: 0,
        route: Arc::clone(route),
        service: Arc::clone(service),
        snapshot: Arc::clone(&snapshot),
    };
    context.stage = RequestStage::Routed(Box::new(routed));
    context.request_entered();
    refusal.map_or(Ok(()), Err)
}
