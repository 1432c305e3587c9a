//! Mirroring: copies of a version's requests for another version, whose responses nobody gets.

use std::ops::RangeInclusive;

use super::split::declared;
use crate::config::syntax::fields::Fields;
use crate::config::syntax::problem::Problem;
use crate::config::syntax::read::{PathStep, Read as _, Reader};
use crate::config::syntax::scalar;
use crate::config::syntax::section::section;
use crate::config::syntax::tree::Node;
use crate::config::syntax::values::{self, Bytes, Period};
use crate::model::{Name, Weight};

section! {
    /// Copies requests for another version. Nobody gets its responses, and the requests themselves neither wait for it nor
    /// fail with it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Mirror {
        /// The version that gets the copies. Its own requests are not copied.
        pub(crate) to: Name as values::Name = required(),
        /// The version whose requests are copied; default: every other one.
        pub(crate) from: Option<Name> as Option<values::Name> = optional(),
        // All, as Envoy and Istio have it: whoever writes the section wants to see something.
        /// The percentage of these requests that is copied, exact over any ten thousand.
        pub(crate) share: Weight = with_or(Weight::FULL, 100, |reader, node| Weight::read(node, reader)),
        // Those that are safe (RFC 9110 §9.2.1): a copied POST changes data twice.
        /// Requests with these methods are copied. One that is not safe has its effect twice where versions share data.
        pub(crate) methods: Vec<String> = list_or(words(&SAFE), SAFE, 1..=MAX_METHODS, read_methods),
        // Without them a copy cannot act for its client: a version that nobody relies on yet may log what it gets.
        /// Headers that copies do not have, 32 at most. With `[]` a copy has its client's credentials.
        pub(crate) strip: Vec<String> = list_or(words(&CREDENTIALS), CREDENTIALS, 0..=MAX_STRIPPED, read_strip),
        /// The largest body that is copied, at most `64KiB`. Requests with a larger one, or with one that is not here within a
        /// moment, are not copied.
        pub(crate) max_body: Bytes = bounded(Bytes::kib(64), Bytes::new(0)..=Bytes::kib(64)),
        // The copy goes to both, for a copy is not what its client sent: it has no credentials.
        /// Whether a copy that is safe also goes to the version that has the request, and the two responses are compared: by
        /// status, `compare_headers` and body. It costs that version one request more for each copy.
        pub(crate) compare: bool = or(false),
        /// Headers that are compared, 32 at most.
        pub(crate) compare_headers: Vec<String> = list_or(words(&COMPARED), COMPARED, 0..=MAX_STRIPPED, read_strip),
        /// Copies that are under way at once, 1 to 1024, which is also what connections they have at most; what is more is not
        /// sent.
        pub(crate) max_in_flight: u16 = bounded(64, 1..=1024),
        /// How long a copy may take, connecting and response included: `10ms` to `1m`.
        pub(crate) timeout: Period = bounded(Period::from_secs(5), Period::from_millis(10)..=Period::from_secs(60)),
    }
}

const SAFE: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
const CREDENTIALS: [&str; 2] = ["authorization", "cookie"];
const COMPARED: [&str; 2] = ["content-type", "location"];
const MAX_METHODS: usize = 16;
const MAX_STRIPPED: usize = 32;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn read_methods<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<String>> {
    const EXPECTED: &str = "a method other than CONNECT, such as `POST`";
    read_tokens(reader, node, bounds, (EXPECTED, |token| token != "CONNECT" && !token.contains(char::is_lowercase)))
}

fn read_strip<'n>(reader: &mut Reader<'n>, node: &'n Node<'n>, bounds: RangeInclusive<usize>) -> Option<Vec<String>> {
    const EXPECTED: &str = "the name of a header other than `host`, such as `authorization`";
    let names = read_tokens(reader, node, bounds, (EXPECTED, |token| !token.eq_ignore_ascii_case("host")))?;
    Some(names.iter().map(|name| name.to_ascii_lowercase()).collect())
}

/// A list of tokens that are allowed, each once.
fn read_tokens<'n>(
    reader: &mut Reader<'n>,
    node: &'n Node<'n>,
    bounds: RangeInclusive<usize>,
    (expected, is_allowed): (&'static str, fn(&str) -> bool),
) -> Option<Vec<String>> {
    let items = reader.items(node, "a list", |reader, node| {
        let text = reader.text(node, expected)?;
        let good = scalar::is_token(text) && is_allowed(text);
        if good { Some(text.to_owned()) } else { reader.wrong(node, expected, None) }
    })?;
    reader.count(items.total, &bounds, node.place)?;
    let mut tokens = items.all()?;
    tokens.sort_unstable();
    tokens.dedup();
    Some(tokens)
}

/// Notes when a mirror names no version of the service, or one twice.
pub(crate) fn check_mirror(fields: &mut Fields<'_, '_>, mirror: Option<&Option<Mirror>>) {
    let Some(Mirror { to, from, .. }) = mirror.and_then(Option::as_ref) else { return };
    let known = is_declared(fields, "to", to) & from.as_ref().is_none_or(|from| is_declared(fields, "from", from));
    let others = declared(fields).len() > 1;
    if known && (from.as_ref() == Some(to) || !others) {
        fields.fault_at("mirror", |place| {
            let message = format!("version `{to}` cannot be its own mirror");
            Problem::new(place, message).help("`to` is the version that gets copies of what another one gets")
        });
    }
}

/// Notes when `name`, which a field of the mirror says, is no version of the service. Whether it is one.
fn is_declared(fields: &mut Fields<'_, '_>, field: &str, name: &str) -> bool {
    let versions = declared(fields);
    if versions.contains(&name) {
        return true;
    }
    let near = fields.reader.nearest(name, versions.iter().copied());
    let Some((section, node)) = fields.get("mirror") else { return false };
    let Some((key, value)) = node.field(field) else { return false };
    let problem = Problem::new(value.place, "no version has this name").found(value.shown()).nearest(near);
    let way = [(PathStep::Field(&section.text), section.place), (PathStep::Field(&key.text), key.place)];
    fields.note_below(&way, problem.expected(format!("a version of this service: {}", versions.join(", "))));
    false
}
