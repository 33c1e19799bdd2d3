//! Reads a mapping by the table of keys. A value of the wrong shape is noted as a problem and replaced by its
//! default, so that one run finds all problems.

use super::keys::{Key, Shape};
use super::problems::{Origin, Origins, Problems};
use super::units::{duration_ms, size_bytes};
use super::{Secret, SecretRef};
use crate::codec::yaml;
use crate::domain::source::{Node, NodeKind, Problem, Span};
use crate::domain::value::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Where a secret should stand.
pub(super) const ELSEWHERE: &str = "write `{ fromFile: PATH }` or `{ fromEnv: NAME }`";

/// What all sections of one reading share.
pub(super) struct Reading<'a> {
    pub(super) origins: &'a Origins,
    pub(super) problems: RefCell<Problems>,
    /// What is allowed, but hardly meant.
    pub(super) warnings: RefCell<Vec<String>>,
    /// Fetches what `{ fromFile: … }` and `{ fromEnv: … }` name.
    pub(super) fetch: &'a dyn Fn(&SecretRef) -> Result<String, String>,
}

/// One mapping of the file, or its absence.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    reading: &'a Reading<'a>,
    node: Option<&'a Node>,
    keys: &'static [Key],
    path: &'a str,
}

impl Reading<'_> {
    pub(super) fn problem(
        &self,
        path: &str,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let problem = Problem::new(span, message, hint);
        self.problems.borrow_mut().add(self.origins.of(path), problem);
    }
}

/// Runs `read` on a section: its node is checked for unknown keys once.
impl<'a> Section<'a> {
    pub(super) fn root(reading: &'a Reading<'a>, node: &'a Node, keys: &'static [Key]) -> Self {
        let section = Self { reading, node: Some(node), keys, path: "" };
        section.check_keys();
        section
    }

    /// True if the file has this section.
    pub(super) fn is_given(&self) -> bool {
        self.node.is_some()
    }

    /// Where it starts; the start of the file if it is not there.
    pub(super) fn span(&self) -> Span {
        self.node.map_or(Span::new(1, 1), |node| node.span)
    }

    fn key(&self, name: &str) -> &'static Key {
        self.keys.iter().find(|key| key.name == name).expect("code reads only keys of the table")
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The value of a key where it is given; an explicit null counts as left out.
    pub(super) fn given(&self, name: &str) -> Option<&'a Node> {
        let node = self.node?.get(name)?;
        (node.kind != NodeKind::Null).then_some(node)
    }

    /// Notes a problem with the value of a key, or with the section where the key is missing.
    /// What was given for some keys, as JSON.
    pub(super) fn json_of(&self, names: &[&str]) -> String {
        let given = names.iter().filter_map(|name| Some((*name, self.given(name)?)));
        let members = given.map(|(name, node)| {
            format!("{}:{}", Value::String(name.into()).to_json(), node.to_value().to_json())
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    pub(super) fn problem(&self, name: &str, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.given(name).map_or_else(|| self.span(), |node| node.span);
        self.reading.problem(&self.path_of(name), span, message, hint);
    }

    /// Notes what is allowed with this value of a key, but hardly meant.
    pub(super) fn warn(&self, name: &str, message: impl std::fmt::Display) {
        let span = self.given(name).map_or_else(|| self.span(), |node| node.span);
        let place = self.reading.problems.borrow().place(&self.reading.origins.of(&self.path_of(name)), span);
        self.reading.warnings.borrow_mut().push(format!("{place}: {message}"));
    }

    /// Notes problems that the domain found in the value of a key.
    pub(super) fn problems(&self, name: &str, found: Vec<Problem>) {
        let origin = self.reading.origins.of(&self.path_of(name));
        for problem in found {
            self.reading.problems.borrow_mut().add(origin.clone(), problem);
        }
    }

    fn check_keys(&self) {
        let Some(node) = self.node else { return };
        let Some(members) = node.members() else {
            if node.kind != NodeKind::Null {
                let names: Vec<_> = self.keys.iter().map(|key| key.name).collect();
                let message = format!("{} where a mapping should be", node.noun());
                self.reading.problem(
                    self.path,
                    node.span,
                    message,
                    format!("its keys are {}", names.join(", ")),
                );
            }
            return;
        };
        for (key, _) in members {
            let name = key.text().unwrap_or_default();
            match self.keys.iter().find(|known| known.name == name) {
                None => {
                    let message = format!("`{name}` is not a key");
                    self.reading.problem(&self.path_of(name), key.span, message, self.suggestion(name));
                }
                Some(known) if matches!(known.shape, Shape::Later) => {
                    let message = format!("`{name}` is not available in this version");
                    self.reading.problem(&self.path_of(name), key.span, message, "remove it");
                }
                Some(_) => {}
            }
        }
    }

    fn suggestion(&self, name: &str) -> String {
        let names = || self.keys.iter().map(|key| key.name);
        match names().map(|key| (distance(key, name), key)).min() {
            Some((near, key)) if near <= 1 + name.len() / 4 => format!("did you mean `{key}`?"),
            _ => format!("the keys here are {}", names().collect::<Vec<_>>().join(", ")),
        }
    }

    /// The text of a value, given or by default, and whether it was given.
    fn scalar(&self, name: &str) -> Option<String> {
        let node = match self.given(name) {
            Some(node) => node.clone(),
            None => yaml::parse(self.key(name).default?).expect("the defaults of the table are YAML"),
        };
        match &node.kind {
            NodeKind::String { text, .. } => Some(text.to_string()),
            NodeKind::Number(_) | NodeKind::Bool(_) => Some(node.to_value().to_json()),
            _ => {
                self.problem(name, format!("{} where one value should be", node.noun()), self.key(name).doc);
                self.key(name).default.map(str::to_owned)
            }
        }
    }

    /// Reads a value; where it does not parse, notes it and takes the default.
    fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, (String, String)>) -> Option<T> {
        match parse(&self.scalar(name)?) {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                self.problem(name, message, hint);
                parse(self.key(name).default?).ok()
            }
        }
    }

    /// A value that has a default.
    fn with_default<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, (String, String)>) -> T {
        self.parsed(name, parse).expect("keys that are read so have a default that parses")
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.parsed(name, |text| Ok(text.to_owned())).filter(|text| {
            let empty = text.is_empty() && self.key(name).default != Some("\"\"");
            if empty {
                self.problem(name, format!("`{name}` is empty"), self.key(name).doc);
            }
            !empty
        })
    }

    /// A text that must be given.
    pub(super) fn required(&self, name: &str) -> Option<String> {
        if self.given(name).is_none() {
            self.problem(name, format!("`{name}` is missing"), format!("add it: {}", self.key(name).doc));
            return None;
        }
        self.text(name)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.with_default(name, flag)
    }

    /// The same of a key without a default.
    pub(super) fn flag_if_given(&self, name: &str) -> Option<bool> {
        self.given(name).and_then(|_| self.parsed(name, flag))
    }

    pub(super) fn ms(&self, name: &str) -> u64 {
        self.with_default(name, |text| self.duration(name, text))
    }

    /// The same of a key without a default.
    pub(super) fn ms_if_given(&self, name: &str) -> Option<u64> {
        self.given(name).and_then(|_| self.parsed(name, |text| self.duration(name, text)))
    }

    fn duration(&self, name: &str, text: &str) -> Result<u64, (String, String)> {
        let is_none_allowed = matches!(self.key(name).shape, Shape::DurationOrNone);
        duration_ms(text).and_then(|ms| if is_none_allowed { Ok(ms) } else { positive(text, ms) })
    }

    pub(super) fn bytes(&self, name: &str) -> u64 {
        self.with_default(name, |text| size_bytes(text).and_then(|bytes| positive(text, bytes)))
    }

    pub(super) fn whole(&self, name: &str) -> u64 {
        let (Shape::Whole(low, high) | Shape::AutoWhole(low, high)) = self.key(name).shape else {
            unreachable!("`{name}` is not a whole number in the table")
        };
        self.with_default(name, |text| whole(text, low, high))
    }

    /// The same of a key without a default.
    pub(super) fn whole_if_given(&self, name: &str) -> Option<u64> {
        let Shape::Whole(low, high) = self.key(name).shape else {
            unreachable!("`{name}` is not a whole number in the table")
        };
        self.given(name).and_then(|_| self.parsed(name, |text| whole(text, low, high)))
    }

    /// A whole number, or none for `auto`.
    pub(super) fn auto_whole(&self, name: &str) -> Option<u64> {
        let Shape::AutoWhole(low, high) = self.key(name).shape else {
            unreachable!("`{name}` cannot be `auto` in the table")
        };
        self.with_default(
            name,
            |text| if text == "auto" { Ok(None) } else { whole(text, low, high).map(Some) },
        )
    }

    /// A decimal number in thousandths.
    pub(super) fn permille(&self, name: &str) -> u64 {
        let hint = || "write a number with at most three decimals, as in `1.0`".to_owned();
        self.with_default(name, |text| {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let digits = format!("{whole}{fraction:0<3}");
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && fraction.len() <= 3;
            let number = digits.parse::<u64>().ok().filter(|number| plain && *number <= 1_000_000);
            number.ok_or_else(|| (format!("`{text}` is not a number from 0 to 1000"), hint()))
        })
    }

    pub(super) fn choice(&self, name: &str) -> String {
        self.with_default(name, |text| self.choose(name, text))
    }

    /// The same of a key without a default.
    pub(super) fn choice_if_given(&self, name: &str) -> Option<String> {
        self.given(name).and_then(|_| self.parsed(name, |text| self.choose(name, text)))
    }

    fn choose(&self, name: &str, text: &str) -> Result<String, (String, String)> {
        let (Shape::Choice(words) | Shape::ChoiceOrDuration(words)) = self.key(name).shape else {
            unreachable!("`{name}` is not a choice in the table")
        };
        let or_duration = matches!(self.key(name).shape, Shape::ChoiceOrDuration(_));
        if words.contains(&text) || (or_duration && duration_ms(text).is_ok()) {
            return Ok(text.to_owned());
        }
        let more = if or_duration { ", or a duration such as `90d`" } else { "" };
        Err((format!("`{text}` is not a choice here"), format!("one of {}{more}", words.join(", "))))
    }

    /// A list of texts; one text counts as a list of one.
    pub(super) fn texts(&self, name: &str) -> Vec<(String, Span)> {
        let default = self.key(name).default.map(|text| yaml::parse(text).expect("a default is YAML"));
        let Some(node) = self.given(name).or(default.as_ref()) else { return Vec::new() };
        let elements = node.elements().unwrap_or(std::slice::from_ref(node));
        let mut texts = Vec::with_capacity(elements.len());
        for element in elements {
            match element.text() {
                Some(text) => texts.push((text.to_owned(), element.span)),
                None => {
                    let message = format!("{} where a text should be", element.noun());
                    self.reading.problem(&self.path_of(name), element.span, message, self.key(name).doc);
                }
            }
        }
        if texts.is_empty() && elements.is_empty() {
            self.problem(name, format!("`{name}` is an empty list"), self.key(name).doc);
        }
        texts
    }

    /// A text that is secret.
    pub(super) fn secret_text(&self, name: &str) -> Option<Secret> {
        let node = self.given(name)?;
        let secret = self.secret(&self.path_of(name), node)?;
        if secret.reveal().is_empty() {
            self.problem(name, format!("`{name}` is empty"), self.key(name).doc);
            return None;
        }
        let origin = self.reading.origins.of(&self.path_of(name));
        if origin == Origin::File && node.members().is_none() {
            self.warn(name, format!("`{name}` stands in the file: {ELSEWHERE}"));
        }
        Some(secret)
    }

    /// Names and texts; a value may be a secret.
    pub(super) fn map(&self, name: &str) -> BTreeMap<String, Secret> {
        let Some(node) = self.given(name) else { return BTreeMap::new() };
        let Some(members) = node.members() else {
            self.problem(
                name,
                format!("{} where names and values should be", node.noun()),
                self.key(name).doc,
            );
            return BTreeMap::new();
        };
        let read = |(key, value): &(Node, Node)| {
            let path = format!("{}.{}", self.path_of(name), key.text().unwrap_or_default());
            Some((key.text()?.to_owned(), self.secret(&path, value)?))
        };
        members.iter().filter_map(read).collect()
    }

    /// Notes a problem with one name of a map.
    pub(super) fn member_problem(&self, name: &str, member: &str, message: String, hint: String) {
        let members = self.given(name).and_then(Node::members).unwrap_or_default();
        let span = members.iter().find(|(key, _)| key.text() == Some(member)).map(|(key, _)| key.span);
        let path = format!("{}.{member}", self.path_of(name));
        self.reading.problem(&path, span.unwrap_or_else(|| self.span()), message, hint);
    }

    /// True if the file itself has a text for this name of a map.
    pub(super) fn member_is_plain(&self, name: &str, member: &str) -> bool {
        let value = self.given(name).and_then(|map| map.get(member));
        let origin = self.reading.origins.of(&format!("{}.{member}", self.path_of(name)));
        origin == Origin::File && value.is_some_and(|value| value.members().is_none())
    }

    fn secret(&self, path: &str, node: &Node) -> Option<Secret> {
        let reference = match &node.kind {
            NodeKind::String { text, .. } => return Some(Secret::plain(text.to_string())),
            NodeKind::Number(_) | NodeKind::Bool(_) => return Some(Secret::plain(node.to_value().to_json())),
            NodeKind::Mapping(members) => match &members[..] {
                [(key, value)] => match (key.text(), value.text()) {
                    (Some("fromFile"), Some(file)) => Some(SecretRef::File(file.to_owned())),
                    (Some("fromEnv"), Some(variable)) => Some(SecretRef::Environment(variable.to_owned())),
                    _ => None,
                },
                _ => None,
            },
            NodeKind::Null | NodeKind::Sequence(_) => None,
        };
        let hint = "write a text, `{ fromFile: PATH }` or `{ fromEnv: NAME }`";
        let Some(reference) = reference else {
            self.reading.problem(path, node.span, "not a text and not a reference to a secret", hint);
            return None;
        };
        match (self.reading.fetch)(&reference) {
            Ok(text) => Some(Secret::fetched(text.trim_end_matches(['\r', '\n']).to_owned(), reference)),
            Err(why) => {
                self.reading.problem(
                    path,
                    node.span,
                    format!("cannot read {reference}: {why}"),
                    "check its name and rights",
                );
                None
            }
        }
    }

    /// Reads an inner section.
    pub(super) fn section<T>(&self, name: &str, read: impl FnOnce(Section<'_>) -> T) -> T {
        let Shape::Section(keys) = self.key(name).shape else {
            unreachable!("`{name}` is not a section in the table")
        };
        let path = self.path_of(name);
        let section = Section { reading: self.reading, node: self.given(name), keys, path: &path };
        section.check_keys();
        read(section)
    }

    /// Reads every section of a list.
    pub(super) fn sections<T>(&self, name: &str, mut read: impl FnMut(Section<'_>) -> T) -> Vec<T> {
        let Shape::Sections(keys) = self.key(name).shape else {
            unreachable!("`{name}` is not a list in the table")
        };
        let Some(node) = self.given(name) else { return Vec::new() };
        let Some(elements) = node.elements() else {
            self.problem(
                name,
                format!("{} where a list should be", node.noun()),
                "start each entry with `- `",
            );
            return Vec::new();
        };
        let one = |(nth, node)| {
            let path = format!("{}[{nth}]", self.path_of(name));
            let section = Section { reading: self.reading, node: Some(node), keys, path: &path };
            section.check_keys();
            read(section)
        };
        elements.iter().enumerate().map(one).collect()
    }
}

fn flag(text: &str) -> Result<bool, (String, String)> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err((format!("`{other}` is neither true nor false"), "write `true` or `false`".into())),
    }
}

fn positive(text: &str, value: u64) -> Result<u64, (String, String)> {
    if value > 0 { Ok(value) } else { Err((format!("`{text}` is nothing"), "write more than 0".into())) }
}

fn whole(text: &str, low: u64, high: u64) -> Result<u64, (String, String)> {
    let number = text.parse::<u64>().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| {
        (format!("`{text}` is not allowed here"), format!("a whole number from {low} to {high}"))
    })
}

/// How many letters have to be changed, added or dropped (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = cost.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
