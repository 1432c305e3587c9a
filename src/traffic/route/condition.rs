//! What a rule asks beyond the host and a literal path: regex, methods and headers.

use ahash::AHashMap;
use regex::bytes::{Regex, RegexBuilder};

use crate::traffic::Request;
use crate::traffic::validate::fields::is_token;

use super::error::{MAX_REGEXES, RouteError};
use super::pattern::{HeaderMatch, HeaderTest, PathPattern};
use super::rule::Rule;

/// The most memory of one compiled regular expression, and of the cache that each thread keeps for it.
const REGEX_BYTES: usize = 128 * 1024;

/// All of these must be met; what is absent is.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// What the path must match as a whole.
    pub(super) path: Option<Regex>,
    /// The methods of which the request has one; none means any.
    pub(super) methods: Box<[String]>,
    /// Names in lower case, with what each value must be.
    pub(super) headers: Box<[(String, Test)]>,
}

/// What a header's value must be.
#[derive(Debug)]
pub(crate) enum Test {
    Present,
    Absent,
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

impl Condition {
    /// Whether `request` with `path` meets it.
    pub(super) fn is_met(&self, path: &str, request: &impl Request) -> bool {
        // The regex last: it is what costs.
        (self.methods.is_empty() || self.methods.iter().any(|method| method == request.method()))
            && self.headers.iter().all(|(name, test)| test.is_met(request.header(name)))
            && self.path.as_ref().is_none_or(|regex| regex.is_match(path.as_bytes()))
    }
}

impl Test {
    /// The test of a value by itself.
    ///
    /// # Errors
    /// If its regular expression does not compile, or is too large.
    pub(crate) fn compile(test: &HeaderTest) -> Result<Self, regex::Error> {
        Ok(match test {
            HeaderTest::Present => Self::Present,
            HeaderTest::Absent => Self::Absent,
            HeaderTest::Exact(text) => Self::Exact(text.clone()),
            HeaderTest::Prefix(text) => Self::Prefix(text.clone()),
            HeaderTest::Regex(pattern) => Self::Regex(compile_whole(pattern)?),
        })
    }

    /// Whether a value meets it; none: there is no such value.
    #[inline]
    pub(crate) fn is_met(&self, value: Option<&[u8]>) -> bool {
        let Some(value) = value else { return matches!(self, Self::Absent) };
        match self {
            Self::Present => true,
            Self::Absent => false,
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// A condition's part of the precedence; the greater one wins.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) regex_bytes: u32,
    pub(super) methods: bool,
    pub(super) headers: u32,
}

/// The different conditions of all rules. Most rules have the first one, which asks nothing.
pub(super) struct Conditions {
    pub(super) all: Vec<Condition>,
    known: AHashMap<Asked, u32>,
    regexes: AHashMap<String, Regex>,
}

/// A condition as a value to compare, in one order.
#[derive(PartialEq, Eq, Hash)]
struct Asked {
    regex: Option<String>,
    methods: Vec<String>,
    headers: Vec<(String, HeaderTest)>,
}

impl Conditions {
    pub(super) fn new() -> Self {
        Self { all: vec![Condition::default()], known: AHashMap::new(), regexes: AHashMap::new() }
    }

    /// The condition of a rule and its rank; `None` after an error.
    pub(super) fn intern<T>(
        &mut self,
        rule: usize,
        given: &Rule<T>,
        errors: &mut Vec<RouteError>,
    ) -> Option<(u32, Rank)> {
        let regex = match &given.path {
            PathPattern::Regex(pattern) => Some(pattern.clone()),
            PathPattern::Exact(_) | PathPattern::Prefix(_) => None,
        };
        if regex.is_none() && given.methods.is_empty() && given.headers.is_empty() {
            return Some((0, Rank::default()));
        }
        let errors_before = errors.len();
        let asked = Asked {
            regex,
            methods: methods(rule, &given.methods, errors),
            headers: headers(rule, &given.headers, errors),
        };
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let rank = Rank {
            // A regex counts at least one byte, so that even an empty one is told from none.
            regex_bytes: asked.regex.as_ref().map_or(0, |pattern| count(pattern.len()).max(1)),
            methods: !asked.methods.is_empty(),
            headers: count(asked.headers.len()),
        };
        if let Some(known) = self.known.get(&asked) {
            return Some((*known, rank));
        }
        let condition = self.compile(rule, &asked, errors);
        if errors.len() > errors_before {
            return None;
        }
        let id = count(self.all.len());
        self.all.push(condition);
        self.known.insert(asked, id);
        Some((id, rank))
    }

    fn compile(&mut self, rule: usize, asked: &Asked, errors: &mut Vec<RouteError>) -> Condition {
        let path = asked.regex.as_deref().and_then(|pattern| self.regex(rule, pattern, errors));
        let mut test = |test: &HeaderTest, errors: &mut Vec<RouteError>| match test {
            HeaderTest::Present => Some(Test::Present),
            HeaderTest::Absent => Some(Test::Absent),
            HeaderTest::Exact(text) => Some(Test::Exact(text.clone())),
            HeaderTest::Prefix(text) => Some(Test::Prefix(text.clone())),
            HeaderTest::Regex(pattern) => self.regex(rule, pattern, errors).map(Test::Regex),
        };
        let headers = asked.headers.iter().filter_map(|(name, own)| Some((name.clone(), test(own, errors)?))).collect();
        Condition { path, methods: asked.methods.clone().into_boxed_slice(), headers }
    }

    fn regex(&mut self, rule: usize, pattern: &str, errors: &mut Vec<RouteError>) -> Option<Regex> {
        if let Some(known) = self.regexes.get(pattern) {
            return Some(known.clone());
        }
        if self.regexes.len() >= MAX_REGEXES {
            errors.push(RouteError::Regexes { rule });
            return None;
        }
        match compile_whole(pattern) {
            Ok(regex) => {
                self.regexes.insert(pattern.to_owned(), regex.clone());
                Some(regex)
            }
            Err(error) => {
                let reason = error.to_string();
                errors.push(RouteError::Regex { rule, pattern: pattern.to_owned(), reason });
                None
            }
        }
    }
}

/// `pattern`, to be matched from the first to the last byte.
fn compile_whole(pattern: &str) -> Result<Regex, regex::Error> {
    let compile =
        |pattern: &str| RegexBuilder::new(pattern).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).build();
    // Alone first: `a)|(?:b` is valid only inside the group that follows.
    compile(pattern)?;
    compile(&format!(r"\A(?:{pattern})\z"))
}

fn methods(rule: usize, given: &[String], errors: &mut Vec<RouteError>) -> Vec<String> {
    for method in given {
        // Methods are case-sensitive, and every registered one is in upper case.
        if !is_token(method.as_bytes()) || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            errors.push(RouteError::Method { rule, found: method.clone() });
        }
    }
    let mut methods = given.to_vec();
    methods.sort_unstable();
    methods.dedup();
    methods
}

fn headers(rule: usize, given: &[HeaderMatch], errors: &mut Vec<RouteError>) -> Vec<(String, HeaderTest)> {
    for header in given {
        // What becomes of a header with an underscore is known only once there is a route.
        if !is_token(header.name.as_bytes()) || header.name.contains('_') {
            errors.push(RouteError::Header { rule, found: header.name.clone() });
        }
    }
    let mut headers: Vec<_> = given.iter().map(|own| (own.name.to_ascii_lowercase(), own.test.clone())).collect();
    headers.sort_unstable();
    headers.dedup();
    headers
}
