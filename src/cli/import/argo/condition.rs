//! Argo's conditions on `result`, as far as they are bounds of one number.
//!
//! ```text
//! result[0] >= 0.95                        min 0.95
//! asFloat(result) < 0.5 && result > 0      min 0, max 0.5, which allow the limits themselves
//! len(result) == 0 || result[0] >= 0.95    min 0.95, and no data passes
//! ```
//!
//! The rest of the language (expr-lang) is not read: who imports decides.

/// What a condition says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bounds {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    /// A limit is excluded that Weir's bound includes.
    pub(super) strict: bool,
    /// What a result without a number means: whether it passes, if it is said.
    pub(super) no_data: Option<bool>,
}

/// How deep parentheses may nest.
const MAX_DEPTH: usize = 16;
/// The longest condition that is read.
const MAX_LENGTH: usize = 1_024;

/// The bounds within which a `successCondition` holds.
pub(super) fn success(text: &str) -> Option<Bounds> {
    let mut bounds = Bounds::default();
    let mut some = false;
    for part in alternatives(parse(text)?) {
        match part {
            // No data is a success.
            Test::NoData => bounds.no_data = Some(true),
            part if !some => {
                some = true;
                for test in conjuncts(part) {
                    match test {
                        Test::Compare(how, number) => bounds.add(how, number)?,
                        Test::HasData => bounds.no_data = Some(false),
                        Test::NoData | Test::All(_) | Test::Any(_) => return None,
                    }
                }
            }
            _ => return None,
        }
    }
    bounds.some()
}

/// The bounds outside of which a `failureCondition` holds.
pub(super) fn failure(text: &str) -> Option<Bounds> {
    let mut bounds = Bounds::default();
    for part in alternatives(parse(text)?) {
        if let Test::NoData = part {
            bounds.no_data = Some(false);
            continue;
        }
        let mut tests = conjuncts(part);
        let before = tests.len();
        tests.retain(|test| !matches!(test, Test::HasData));
        if tests.len() < before {
            bounds.no_data = bounds.no_data.or(Some(true));
        }
        let [Test::Compare(how, number)] = tests.as_slice() else { return None };
        bounds.add(how.opposite(), *number)?;
    }
    bounds.some()
}

impl Bounds {
    /// Narrows the bounds; nothing if two say the same thing or it is no bound.
    fn add(&mut self, how: How, number: f64) -> Option<()> {
        let free = |bound: Option<f64>| bound.is_none().then_some(number);
        match how {
            How::Above | How::AtLeast => self.min = Some(free(self.min)?),
            How::Below | How::AtMost => self.max = Some(free(self.max)?),
            How::Equal => (self.min, self.max) = (Some(free(self.min)?), Some(free(self.max)?)),
            How::Unequal => return None,
        }
        self.strict |= matches!(how, How::Above | How::Below);
        Some(())
    }

    fn some(self) -> Option<Self> {
        (self.min.is_some() || self.max.is_some()).then_some(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
    Unequal,
}

impl How {
    /// What holds where this does not.
    const fn opposite(self) -> Self {
        match self {
            Self::Below => Self::AtLeast,
            Self::AtMost => Self::Above,
            Self::Above => Self::AtMost,
            Self::AtLeast => Self::Below,
            Self::Equal => Self::Unequal,
            Self::Unequal => Self::Equal,
        }
    }

    /// The same with its sides exchanged.
    const fn turned(self) -> Self {
        match self {
            Self::Below => Self::Above,
            Self::AtMost => Self::AtLeast,
            Self::Above => Self::Below,
            Self::AtLeast => Self::AtMost,
            Self::Equal | Self::Unequal => self,
        }
    }

    fn of(sign: &str) -> Option<Self> {
        Some(match sign {
            "<" => Self::Below,
            "<=" => Self::AtMost,
            ">" => Self::Above,
            ">=" => Self::AtLeast,
            "==" => Self::Equal,
            "!=" => Self::Unequal,
            _ => return None,
        })
    }
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// The result, compared with a number.
    Compare(How, f64),
    /// The result is empty, or is not a number.
    NoData,
    /// It is not so.
    HasData,
    All(Vec<Self>),
    Any(Vec<Self>),
}

fn alternatives(test: Test) -> Vec<Test> {
    match test {
        Test::Any(tests) => tests.into_iter().flat_map(alternatives).collect(),
        test => vec![test],
    }
}

fn conjuncts(test: Test) -> Vec<Test> {
    match test {
        Test::All(tests) => tests.into_iter().flat_map(conjuncts).collect(),
        test => vec![test],
    }
}

fn parse(text: &str) -> Option<Test> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, depth: 0 };
    let test = parser.any()?;
    parser.tokens.is_empty().then_some(test)
}

/// Words, numbers and signs.
fn tokens(text: &str) -> Option<Vec<&str>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_alphabetic() || first == '_' {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if first.is_ascii_digit() || first == '.' {
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())
        } else {
            ["&&", "||", "<=", ">=", "==", "!="]
                .iter()
                .find(|sign| rest.starts_with(**sign))
                .map_or(1, |sign| sign.len())
        };
        // A sign outside of ASCII is none of the language.
        tokens.push(rest.get(..length)?);
        rest = rest.get(length..)?.trim_start();
    }
    Some(tokens)
}

/// One side of a comparison.
enum Side {
    Result,
    /// How many results there are.
    Length,
    Number(f64),
}

struct Parser<'t> {
    tokens: &'t [&'t str],
    depth: usize,
}

impl<'t> Parser<'t> {
    fn next(&mut self) -> Option<&'t str> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    /// Takes the token, if it comes next.
    fn takes(&mut self, token: &str) -> bool {
        let found = self.tokens.first() == Some(&token);
        if found {
            let _ = self.next();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Option<()> {
        self.takes(token).then_some(())
    }

    fn any(&mut self) -> Option<Test> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut tests = vec![self.all()?];
        while self.takes("||") || self.takes("or") {
            tests.push(self.all()?);
        }
        self.depth -= 1;
        Some(if tests.len() == 1 { tests.remove(0) } else { Test::Any(tests) })
    }

    fn all(&mut self) -> Option<Test> {
        let mut tests = vec![self.one()?];
        while self.takes("&&") || self.takes("and") {
            tests.push(self.one()?);
        }
        Some(if tests.len() == 1 { tests.remove(0) } else { Test::All(tests) })
    }

    fn one(&mut self) -> Option<Test> {
        let not = self.takes("!") || self.takes("not");
        if self.takes("isNaN") {
            self.expect("(")?;
            let of_result = matches!(self.side()?, Side::Result);
            self.expect(")")?;
            return of_result.then_some(if not { Test::HasData } else { Test::NoData });
        }
        if not {
            return None;
        }
        if self.takes("(") {
            let inner = self.any()?;
            self.expect(")")?;
            return Some(inner);
        }
        let left = self.side()?;
        let how = How::of(self.next()?)?;
        let right = self.side()?;
        match (left, right) {
            (Side::Result, Side::Number(number)) => Some(Test::Compare(how, number)),
            (Side::Number(number), Side::Result) => Some(Test::Compare(how.turned(), number)),
            (Side::Length, Side::Number(number)) => length(how, number),
            (Side::Number(number), Side::Length) => length(how.turned(), number),
            _ => None,
        }
    }

    fn side(&mut self) -> Option<Side> {
        match self.next()? {
            "result" => {
                if self.takes("[") {
                    self.expect("0")?;
                    self.expect("]")?;
                }
                Some(Side::Result)
            }
            "len" => {
                self.expect("(")?;
                self.expect("result")?;
                self.expect(")")?;
                Some(Side::Length)
            }
            "asFloat" | "asInt" | "float" | "int" => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return None;
                }
                self.expect("(")?;
                let side = self.side()?;
                self.expect(")")?;
                self.depth -= 1;
                Some(side)
            }
            "-" => self.next()?.parse().ok().map(|number: f64| Side::Number(-number)),
            number => number.parse().ok().filter(|number: &f64| number.is_finite()).map(Side::Number),
        }
    }
}

/// What a comparison of the number of results says, where it only tells some from none.
fn length(how: How, number: f64) -> Option<Test> {
    let nothing = number.abs() < f64::EPSILON;
    let one = (number - 1.0).abs() < f64::EPSILON;
    match how {
        How::Equal | How::AtMost if nothing => Some(Test::NoData),
        How::Below if one => Some(Test::NoData),
        How::Above | How::Unequal if nothing => Some(Test::HasData),
        How::AtLeast if one => Some(Test::HasData),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(min: Option<f64>, max: Option<f64>, strict: bool, no_data: Option<bool>) -> Option<Bounds> {
        Some(Bounds { min, max, strict, no_data })
    }

    #[test]
    fn simple_conditions_are_bounds() {
        for (text, expected) in [
            ("result[0] >= 0.95", bounds(Some(0.95), None, false, None)),
            ("result < 0.05", bounds(None, Some(0.05), true, None)),
            ("0.05 >= result", bounds(None, Some(0.05), false, None)),
            ("asFloat(result[0]) > -1 && result[0] <= 2.5", bounds(Some(-1.0), Some(2.5), true, None)),
            ("(result[0] >= 1) and (result[0] <= 2)", bounds(Some(1.0), Some(2.0), false, None)),
            ("asInt(result) == 0", bounds(Some(0.0), Some(0.0), false, None)),
            ("len(result) == 0 || result[0] <= 5", bounds(None, Some(5.0), false, Some(true))),
            ("isNaN(result[0]) || result[0] <= 5", bounds(None, Some(5.0), false, Some(true))),
            ("len(result) > 0 && result[0] <= 5", bounds(None, Some(5.0), false, Some(false))),
            ("!isNaN(result[0]) && result[0] >= 5", bounds(Some(5.0), None, false, Some(false))),
        ] {
            assert_eq!(success(text), expected, "{text}");
        }
    }

    #[test]
    fn a_condition_of_failure_is_a_bound_from_the_other_side() {
        for (text, expected) in [
            ("result[0] < 0.95", bounds(Some(0.95), None, false, None)),
            ("result[0] >= 10", bounds(None, Some(10.0), true, None)),
            ("result[0] < 1 || result[0] > 2", bounds(Some(1.0), Some(2.0), false, None)),
            ("result != 0", bounds(Some(0.0), Some(0.0), false, None)),
            ("len(result) == 0 || result[0] > 2", bounds(None, Some(2.0), false, Some(false))),
            ("len(result) > 0 && result[0] > 2", bounds(None, Some(2.0), false, Some(true))),
        ] {
            assert_eq!(failure(text), expected, "{text}");
        }
    }

    #[test]
    fn other_conditions_are_not_guessed() {
        let deep = format!("{}result > 1{}", "(".repeat(40), ")".repeat(40));
        for text in [
            "",
            "result",
            "true",
            "result == 'true'",
            "result == true",
            "result.ok && result.percent >= 0.9",
            "all(result, # < 1000)",
            "result[1] > 5",
            "result[0] > 1 || result[0] < -1",
            "result[0] > 1 && result[0] > 2",
            "result[0] >= result[1]",
            "len(result) == 3",
            "result[0] != 5",
            "result[0] > 1 result",
            "result[0] > é",
            "result >",
            &deep,
            &"(".repeat(2_000),
            &"asFloat(".repeat(100),
        ] {
            assert_eq!(success(text), None, "{text}");
        }
        assert_eq!(failure("result[0] == 5"), None);
        assert_eq!(failure("result[0] > 1 && result[0] < 2"), None);
    }
}
