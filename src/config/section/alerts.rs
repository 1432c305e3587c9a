//! Who is told about rollouts, and of what.

use std::sync::Arc;

use schemars::JsonSchema;

use crate::config::syntax::map::Map;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Fields, Read, Reader, Step};
use crate::config::syntax::url::{Url, read_secret};
use crate::config::syntax::yaml::{Node, Value};
use crate::rollout::alerts::{Receiver, Transition};

/// One receiver of alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Who it is.
    pub receiver: Receiver,
    /// Of what it is told, in the order of [`Transition::ALL`]. Never empty.
    pub on: Vec<Transition>,
}

/// Where PagerDuty takes events.
pub const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// What somebody is told of who did not choose: where a person has to do something, and how it ended.
pub const ALERTS_DEFAULT: [Transition; 6] = [
    Transition::Waiting,
    Transition::Paused,
    Transition::RolledBack,
    Transition::Aborted,
    Transition::Succeeded,
    Transition::StoreError,
];

/// How many receivers a file may have.
const MAX_RECEIVERS: usize = 64;

/// The section `alerts`.
pub(crate) fn read<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Map<Alert>> {
    reader.map(node, MAX_RECEIVERS, |reader, node| Alert::read(node, reader))
}

impl Read for Alert {
    fn read<'n>(node: &'n Node<'n>, reader: &mut Reader<'n>) -> Option<Self> {
        let mut fields = reader.fields(node, &["slack", "pagerduty", "webhook", "on"])?;
        let slack = fields.with("slack", read_slack);
        let pagerduty = fields.with("pagerduty", read_pagerduty);
        let webhook = fields.with("webhook", read_webhook);
        let on = fields.with("on", read_on);
        let set = ["slack", "pagerduty", "webhook"].into_iter().filter(|name| fields.get(name).is_some());
        match set.collect::<Vec<_>>().as_slice() {
            [_] => {}
            [] => fields.fault_here("nobody is told", "add one of `slack`, `pagerduty` and `webhook`"),
            [first, second, ..] => {
                let message = format!("`{first}` and `{second}` together");
                fields.fault_at(second, |place| {
                    Problem::new(place, message)
                        .help("give each receiver a name of its own, and let rollouts name both")
                });
            }
        }
        fields.done()?;
        let receiver = slack?.or(pagerduty?).or(webhook?)?;
        Some(Self { receiver, on: on?.unwrap_or_else(|| ALERTS_DEFAULT.to_vec()) })
    }
}

fn read_on<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Vec<Transition>> {
    let words = Transition::ALL.map(|on| (on.as_str(), on));
    let items =
        reader.items(node, "a list, such as `[rolled_back, paused]`", |reader, node| reader.choose(node, &words))?;
    reader.count(items.total, &(1..=Transition::ALL.len()), node.place)?;
    let mut on = items.all()?;
    on.sort_unstable();
    on.dedup();
    Some(on)
}

fn read_url<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Arc<str>> {
    Url::read(node, reader).map(|url| url.get())
}

fn read_slack<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Receiver> {
    let mut fields = reader.fields(node, &["url", "url_file"])?;
    let url = read_secret(&mut fields, ("url", "url_file"), true, read_url);
    fields.done()?;
    url?.map(|url| Receiver::Slack { url })
}

fn read_pagerduty<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Receiver> {
    let mut fields = reader.fields(node, &["routing_key", "routing_key_file", "url"])?;
    let routing_key = read_secret(&mut fields, ("routing_key", "routing_key_file"), true, |reader, node| {
        const EXPECTED: &str = "an integration key of PagerDuty: 1 to 128 letters and digits";
        let text = reader.text(node, EXPECTED)?;
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if fits { Some(text.into()) } else { reader.wrong(node, EXPECTED, None) }
    });
    let url = fields.with("url", read_url);
    fields.done()?;
    let url = url?.unwrap_or_else(|| PAGERDUTY_URL.into());
    routing_key?.map(|routing_key| Receiver::PagerDuty { routing_key, url })
}

fn read_webhook<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Receiver> {
    let mut fields = reader.fields(node, &["url", "url_file", "secret", "secret_file"])?;
    let url = read_secret(&mut fields, ("url", "url_file"), true, read_url);
    let secret = read_secret(&mut fields, ("secret", "secret_file"), false, |reader, node| {
        const EXPECTED: &str = "a text of 1 to 1024 bytes";
        let text = reader.text(node, EXPECTED)?;
        if (1..=1_024).contains(&text.len()) { Some(text.into()) } else { reader.wrong(node, EXPECTED, None) }
    });
    fields.done()?;
    let secret = secret?;
    url?.map(|url| Receiver::Webhook { url, secret })
}

/// Notes every receiver that a rollout names and the file does not have. The tree is looked at rather than what was
/// read of it, so that a service with another fault is looked at all the same.
pub(crate) fn check_names(fields: &mut Fields<'_, '_>) {
    let declared: Vec<&str> = match fields.get("alerts").map(|(_, node)| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| &*key.text).collect(),
        _ => Vec::new(),
    };
    let Some((section, services)) = fields.get("services") else { return };
    let Value::Map(services) = &services.value else { return };
    for (name, service) in services {
        let Some((rollout, node)) = service.field("rollout") else { continue };
        let Some((alerts, Node { value: Value::List(items), .. })) = node.field("alerts") else { continue };
        for (at, item) in items.iter().enumerate() {
            let Value::Text(text) = &item.value else { continue };
            if declared.contains(&&*text.text) {
                continue;
            }
            let reader = &mut *fields.reader;
            let near = reader.nearest(&text.text, declared.iter().copied());
            let problem = Problem::new(item.place, "no receiver has this name").found_node(item).nearest(near);
            let problem = problem.help("a rollout tells names under the file's `alerts`");
            reader.below(Step::Field(&section.text), section.place, |reader| {
                reader.below(Step::Field(&name.text), name.place, |reader| {
                    reader.below(Step::Field(&rollout.text), rollout.place, |reader| {
                        reader.below(Step::Field(&alerts.text), alerts.place, |reader| {
                            reader.below(Step::Item(at), item.place, |reader| reader.note(problem));
                        });
                    });
                });
            });
        }
    }
}

/// What the file says where the type says it in another shape.
pub(crate) mod shape {
    use std::path::PathBuf;

    use super::{JsonSchema, Transition, Url};

    /// One receiver of alerts. Exactly one of `slack`, `pagerduty` and `webhook` is set.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    pub(crate) struct Alert {
        /// A channel of Slack, or of what takes the same messages.
        slack: Option<Slack>,
        /// PagerDuty, Events API version 2. A success resolves what a rollback opened.
        pagerduty: Option<PagerDuty>,
        /// Anything that takes CloudEvents.
        webhook: Option<AlertWebhook>,
        /// Of what it is told.
        #[schemars(length(min = 1), extend("default" = ["waiting", "paused", "rolled_back", "aborted", "succeeded"]))]
        on: Option<Vec<Transition>>,
    }

    /// A channel of Slack. One of `url_file` and `url` is set.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    struct Slack {
        /// The incoming webhook's address. It is a secret: better `${VARIABLE}`, or `url_file`.
        url: Option<Url>,
        /// A file with that address.
        url_file: Option<PathBuf>,
    }

    /// PagerDuty. One of `routing_key_file` and `routing_key` is set.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    struct PagerDuty {
        /// The integration's key. It is a secret: better `${VARIABLE}`, or `routing_key_file`.
        routing_key: Option<String>,
        /// A file with that key.
        routing_key_file: Option<PathBuf>,
        /// Where events are sent.
        #[schemars(extend("default" = "https://events.pagerduty.com/v2/enqueue"))]
        url: Option<Url>,
    }

    /// Anything that takes CloudEvents. One of `url` and `url_file` is set.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "describes the file to the schema; never built")]
    struct AlertWebhook {
        /// Where to.
        url: Option<Url>,
        /// A file with that address.
        url_file: Option<PathBuf>,
        /// The key that signs each event (HMAC-SHA256). Better `${VARIABLE}`, or `secret_file`.
        secret: Option<String>,
        /// A file with that key; default: events are not signed.
        secret_file: Option<PathBuf>,
    }
}
