//! Who is told about rollouts, and of what.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::syntax::fields::Fields;
use crate::config::syntax::map::Map;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{Read as _, Reader};
use crate::config::syntax::section::section;
use crate::config::syntax::tree::Node;
use crate::config::syntax::url::{HttpUrl, check_secret, secret};
use crate::rollout::alerts::{Receiver, Transition};

/// One receiver of alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    /// Who it is.
    pub(crate) receiver: Receiver,
    /// Of what it is told, in the order of [`Transition::ALL`]. Never empty.
    pub(crate) on: Vec<Transition>,
}

/// Where PagerDuty takes events.
pub(crate) const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// What somebody is told of who did not choose: where a person has to do something, and how it ended.
pub(crate) const ALERTS_DEFAULT: [Transition; 7] = [
    Transition::Waiting,
    Transition::Paused,
    Transition::RolledBack,
    Transition::Aborted,
    Transition::Superseded,
    Transition::Succeeded,
    Transition::StoreError,
];

/// How many receivers a file may have.
const MAX_RECEIVERS: usize = 64;

/// The section `alerts`.
pub(crate) fn read<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Map<Alert>> {
    reader.map(node, MAX_RECEIVERS, |reader, node| Alert::read(node, reader))
}

section! {
    /// One receiver of alerts. Exactly one of `slack`, `pagerduty` and `webhook` is set.
    impl Alert as "Alert" {
        /// A channel of Slack, or of what takes the same messages.
        slack: Option<Slack> = optional(),
        /// PagerDuty, Events API version 2. A success resolves what a rollback opened.
        pagerduty: Option<PagerDuty> = optional(),
        /// Anything that takes CloudEvents.
        webhook: Option<AlertWebhook> = optional(),
        /// Of what it is told.
        on: Vec<Transition> = list_or(ALERTS_DEFAULT.to_vec(), ALERTS_DEFAULT, 1..=Transition::ALL.len(), read_on),
    }
    rules(fields) {
        check_one_receiver(&mut fields);
    }
    => {
        let receiver = slack.map(Slack::receiver).or(pagerduty.map(PagerDuty::receiver)).or(webhook.map(AlertWebhook::receiver));
        Alert { receiver: receiver??, on }
    }
}

fn check_one_receiver(fields: &mut Fields<'_, '_>) {
    let set = ["slack", "pagerduty", "webhook"].into_iter().filter(|name| fields.get(name).is_some());
    match set.collect::<Vec<_>>().as_slice() {
        [_] => {}
        [] => fields.fault_here("nobody is told", "add one of `slack`, `pagerduty` and `webhook`"),
        [first, second, ..] => {
            let message = format!("`{first}` and `{second}` together");
            fields.fault_at(second, |place| {
                Problem::new(place, message).help("give each receiver a name of its own, and let rollouts name both")
            });
        }
    }
}

fn read_on<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<Transition>> {
    let words = Transition::ALL.map(|on| (on.as_str(), on));
    let items =
        reader.items(node, "a list, such as `[rolled_back, paused]`", |reader, node| reader.choose(node, &words))?;
    reader.count(items.total, &bounds, node.place)?;
    let mut on = items.all()?;
    on.sort_unstable();
    on.dedup();
    Some(on)
}

section! {
    /// A channel of Slack. One of `url_file` and `url` is set.
    #[derive(Clone)]
    struct Slack {
        /// The incoming webhook's address. It is a secret: better `${VARIABLE}`, or `url_file`.
        url: Option<HttpUrl> = optional(),
        /// A file with that address.
        url_file: Option<PathBuf> = optional(),
    }
    rules(fields) {
        check_secret(&mut fields, ("url", "url_file"), true);
    }
}

impl Slack {
    fn receiver(self) -> Option<Receiver> {
        Some(Receiver::Slack { url: secret(self.url.map(|url| url.get()), self.url_file)? })
    }
}

section! {
    /// PagerDuty. One of `routing_key_file` and `routing_key` is set.
    #[derive(Clone)]
    struct PagerDuty {
        /// The integration's key. It is a secret: better `${VARIABLE}`, or `routing_key_file`.
        routing_key: Option<Arc<str>> as Option<String> = with(read_routing_key),
        /// A file with that key.
        routing_key_file: Option<PathBuf> = optional(),
        /// Where events are sent.
        url: Option<HttpUrl> = with_or(None::<HttpUrl>, PAGERDUTY_URL, read_url),
    }
    rules(fields) {
        check_secret(&mut fields, ("routing_key", "routing_key_file"), true);
    }
}

impl PagerDuty {
    fn receiver(self) -> Option<Receiver> {
        let routing_key = secret(self.routing_key, self.routing_key_file)?;
        Some(Receiver::PagerDuty { routing_key, url: self.url.map_or_else(|| PAGERDUTY_URL.into(), |url| url.get()) })
    }
}

fn read_url<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Option<HttpUrl>> {
    HttpUrl::read(node, reader).map(Some)
}

fn read_routing_key<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Arc<str>> {
    const EXPECTED: &str = "an integration key of PagerDuty: 1 to 128 letters and digits";
    let text = reader.text(node, EXPECTED)?;
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if fits { Some(text.into()) } else { reader.wrong(node, EXPECTED, None) }
}

section! {
    /// Anything that takes CloudEvents. One of `url` and `url_file` is set.
    #[derive(Clone)]
    struct AlertWebhook {
        /// Where to.
        url: Option<HttpUrl> = optional(),
        /// A file with that address.
        url_file: Option<PathBuf> = optional(),
        /// The key that signs each event (HMAC-SHA256). Better `${VARIABLE}`, or `secret_file`.
        secret: Option<Arc<str>> as Option<String> = with(read_signing_key),
        /// A file with that key; default: events are not signed.
        secret_file: Option<PathBuf> = optional(),
    }
    rules(fields) {
        check_secret(&mut fields, ("url", "url_file"), true);
        check_secret(&mut fields, ("secret", "secret_file"), false);
    }
}

impl AlertWebhook {
    fn receiver(self) -> Option<Receiver> {
        let url = secret(self.url.map(|url| url.get()), self.url_file)?;
        Some(Receiver::Webhook { url, secret: secret(self.secret, self.secret_file) })
    }
}

fn read_signing_key<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>) -> Option<Arc<str>> {
    const EXPECTED: &str = "a text of 1 to 1024 bytes";
    let text = reader.text(node, EXPECTED)?;
    if (1..=1_024).contains(&text.len()) { Some(text.into()) } else { reader.wrong(node, EXPECTED, None) }
}
