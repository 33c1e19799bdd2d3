//! The tests of the config: fold the events of `given` from the reducer's initial state and compare with
//! `then`, numbers by value. Both are always literal.

use crate::domain::ids::{Timestamp, Version};
use crate::domain::moment;
use crate::domain::reducer::{EventView, Outcome, Reducer};
use crate::domain::source::{Node, NodeKind, Problem, Span};
use crate::domain::value::Value;
use std::fmt::{Display, Formatter, Result as Formatted};

/// One test of the config.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// Where it stands.
    pub span: Span,
    given: Vec<Given>,
    then: Value,
}

/// An event as a test writes it.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    event_type: Box<str>,
    data: Value,
    id: Option<Box<str>>,
    /// Left out: counted from 1.
    version: Option<u64>,
    /// Left out: the epoch.
    time: Timestamp,
    key: Option<Box<str>>,
    headers: Vec<(Box<str>, Option<Box<str>>)>,
}

/// How a test went.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The state is as expected.
    Pass,
    /// An event of `given` is poison: its number from 1 and why.
    Poison(usize, String),
    /// The state differs, here.
    Differs(Vec<Difference>),
}

/// A place where two states differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// JSON pointer of the place.
    pub path: String,
    /// What `then` has there, if anything.
    pub expected: Option<Value>,
    /// What the fold has there, if anything.
    pub got: Option<Value>,
}

const SHAPE: &str =
    "an event of `given` has `type` and `data`, and may have `id`, `version`, `time`, `key`, `headers`";
const EVENT_KEYS: [&str; 7] = ["type", "data", "id", "version", "time", "key", "headers"];

/// Reads `tests: [ { given: [ … ], then: … }, … ]`.
///
/// # Errors
/// All problems, each with its place and a hint.
pub fn parse(node: &Node) -> Result<Vec<Test>, Vec<Problem>> {
    let mut problems = Vec::new();
    let Some(elements) = node.elements() else {
        let message = format!("{} where a list of tests should be", node.noun());
        return Err(vec![Problem::new(
            node.span,
            message,
            "write `tests: [ { given: [ … ], then: { … } } ]`",
        )]);
    };
    let tests = elements.iter().filter_map(|element| test(element, &mut problems)).collect();
    if problems.is_empty() { Ok(tests) } else { Err(problems) }
}

fn test(node: &Node, problems: &mut Vec<Problem>) -> Option<Test> {
    unknown_keys(node, &["given", "then"], "a test has `given` and `then`", problems);
    let given = node.get("given").and_then(Node::elements);
    let (Some(given), Some(then)) = (given, node.get("then")) else {
        let hint = "write `{ given: [ … ], then: { … } }`; `then: null` is a deleted aggregate";
        problems.push(Problem::new(node.span, "a test needs a list `given`, and `then`", hint));
        return None;
    };
    let given = given.iter().filter_map(|event| Given::parse(event, problems)).collect();
    Some(Test { span: node.span, given, then: then.to_value() })
}

fn unknown_keys(node: &Node, known: &[&str], hint: &str, problems: &mut Vec<Problem>) {
    for (key, _) in node.members().unwrap_or_default() {
        let name = key.text().unwrap_or_default();
        if !known.contains(&name) {
            problems.push(Problem::new(key.span, format!("`{name}` is not known here"), hint));
        }
    }
}

impl Given {
    fn parse(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        unknown_keys(node, &EVENT_KEYS, SHAPE, problems);
        let mut wrong = |node: &Node, message: &str| problems.push(Problem::new(node.span, message, SHAPE));
        let text = |name: &str, wrong: &mut dyn FnMut(&Node, &str)| {
            let found = node.get(name).filter(|found| found.kind != NodeKind::Null)?;
            if found.text().is_none() {
                wrong(found, &format!("`{name}` must be a text"));
            }
            found.text().map(Box::from)
        };
        let (id, key) = (text("id", &mut wrong), text("key", &mut wrong));
        let version = node.get("version").and_then(|node| {
            let version = node.to_value().as_i64().and_then(|version| u64::try_from(version).ok());
            if version.is_none_or(|version| version == 0) {
                wrong(node, "`version` must be an integer from 1");
            }
            version
        });
        let time = node.get("time").and_then(|node| {
            let time = match &node.kind {
                NodeKind::String { text, .. } => moment::parse(text),
                kind => {
                    matches!(kind, NodeKind::Number(_)).then(|| node.to_value().as_i64().map(Timestamp))?
                }
            };
            if time.is_none() {
                wrong(node, "`time` must be RFC 3339, a date, or integer milliseconds");
            }
            time
        });
        let mut headers = Vec::new();
        for (name, header) in node.get("headers").and_then(Node::members).unwrap_or_default() {
            if header.text().is_none() && header.kind != NodeKind::Null {
                wrong(header, "a header must be a text or null");
            }
            headers.push((name.text().unwrap_or_default().into(), header.text().map(Box::from)));
        }
        let Some(event_type) = text("type", &mut wrong) else {
            wrong(node, "an event without `type`");
            return None;
        };
        let data = node.get("data").map_or(Value::Null, Node::to_value);
        Some(Self { event_type, data, id, version, time: time.unwrap_or_default(), key, headers })
    }

    fn view(&self, counted: u64) -> EventView<'_> {
        EventView {
            event_type: &self.event_type,
            event_id: self.id.as_deref(),
            version: Version(self.version.unwrap_or(counted)),
            time: self.time,
            key: self.key.as_deref(),
            headers: &self.headers,
            data: &self.data,
        }
    }
}

impl Test {
    /// Folds the events and compares. A deleted aggregate is null.
    #[must_use]
    pub fn run(&self, reducer: &dyn Reducer) -> Verdict {
        let (mut folded, poison) = self.fold(reducer);
        if let Some((number, poison)) = poison.into_iter().next() {
            return Verdict::Poison(number, poison);
        }
        let got = folded.take().unwrap_or_default();
        let mut differences = Vec::new();
        differ(&mut String::new(), &self.then, &got, &mut differences);
        if differences.is_empty() { Verdict::Pass } else { Verdict::Differs(differences) }
    }

    /// The state after all events, `None` if deleted, and which events (numbered from 1) were poison and why;
    /// those changed nothing.
    #[must_use]
    pub fn fold(&self, reducer: &dyn Reducer) -> (Option<Value>, Vec<(usize, String)>) {
        let (mut state, mut poison) = (Some(reducer.initial()), Vec::new());
        for (at, given) in self.given.iter().enumerate() {
            let mut next = state.take();
            let live = next.is_some();
            let folded = next.get_or_insert_with(|| reducer.initial());
            match reducer.apply(folded, &given.view(at as u64 + 1)) {
                Ok(Outcome::Deleted) => {}
                Ok(Outcome::Changed { .. } | Outcome::Unchanged) => state = next,
                // A deleted aggregate stays deleted through an event that does nothing.
                Ok(Outcome::NoRule) => state = next.filter(|_| live),
                Err(error) => {
                    poison.push((at + 1, error.to_string()));
                    state = next.filter(|_| live);
                }
            }
        }
        (state, poison)
    }
}

/// Collects the places where two values differ, numbers by value. Recursion is bounded by the values' own
/// depth.
fn differ(path: &mut String, expected: &Value, got: &Value, differences: &mut Vec<Difference>) {
    let length = path.len();
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let missing = got.iter().filter(|(name, _)| !expected.contains_key(name)).map(|(name, _)| name);
            for name in expected.keys().chain(missing) {
                path.push('/');
                path.push_str(&name.replace('~', "~0").replace('/', "~1"));
                both(path, expected.get(name), got.get(name), differences);
                path.truncate(length);
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            for index in 0..expected.len().max(got.len()) {
                path.push_str(&format!("/{index}"));
                both(path, expected.get(index), got.get(index), differences);
                path.truncate(length);
            }
        }
        (expected, got) if expected.eq_value(got) => {}
        (expected, got) => differences.push(Difference {
            path: path.clone(),
            expected: Some(expected.clone()),
            got: Some(got.clone()),
        }),
    }
}

fn both(path: &mut String, expected: Option<&Value>, got: Option<&Value>, differences: &mut Vec<Difference>) {
    if let (Some(expected), Some(got)) = (expected, got) {
        return differ(path, expected, got, differences);
    }
    differences.push(Difference { path: path.clone(), expected: expected.cloned(), got: got.cloned() });
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> Formatted {
        let show =
            |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_json);
        let path = if self.path.is_empty() { "the state" } else { &self.path };
        write!(f, "{path}: expected {}, got {}", show(&self.expected), show(&self.got))
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Formatted {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Poison(number, why) => write!(f, "event {number} is poison: {why}"),
            Self::Differs(differences) => differences.iter().enumerate().try_for_each(|(at, difference)| {
                let line = if at == 0 { "" } else { "\n" };
                write!(f, "{line}{difference}")
            }),
        }
    }
}
