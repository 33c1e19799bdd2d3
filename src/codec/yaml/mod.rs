//! YAML text to a [`Node`] tree with places. Events come from `saphyr-parser` (YAML 1.2); the core schema
//! (yaml.org/spec/1.2.2 section 10.3) is resolved here, so that numbers keep their digits: `1.10` stays
//! `1.10`.
//!
//! INVARIANT: a tree that comes out is at most [`DEPTH_MAX`] deep and has at most [`NODES_MAX`] nodes,
//! aliases expanded and what anchors keep counted; every mapping key is a text and unique. Where this differs
//! from the core schema: keys are never resolved (`on`, `1` and `null` are member names), `.inf` and `.nan`
//! are texts because JSON lacks them, and merge keys, own tags and a second document are refused.

use crate::domain::number::Number;
use crate::domain::source::{Node, NodeKind, Problem, Span};
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Deepest nesting of a document.
pub const DEPTH_MAX: usize = 128;
/// Most nodes of a document, aliases expanded and what anchors keep counted.
pub const NODES_MAX: usize = 1_000_000;

/// Reads one document. An empty text is a `Null` node.
///
/// # Errors
/// All problems found; a text that is not YAML has one, where the parser gave up.
pub fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if !builder.event(event, span) {
                    break;
                }
            }
            Err(error) => {
                let place = span_of(error.marker());
                let message = format!("not valid YAML: {}", error.info());
                builder.problem(place, message, "check indentation, quotes and brackets here and just above");
                break;
            }
        }
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    Ok(builder.root.unwrap_or(Node { span: Span::new(1, 1), kind: NodeKind::Null }))
}

/// Builds the tree without recursion: the open sequences and mappings are a stack.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    problems: Vec<Problem>,
}

struct Open {
    span: Span,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    Sequence(Vec<Node>),
    Mapping { members: Vec<(Node, Node)>, key: Option<Node>, seen: BTreeMap<Box<str>, Span> },
}

/// What an alias stands for, with what it costs to repeat it.
struct Anchored {
    node: Node,
    nodes: usize,
    height: usize,
}

impl Builder {
    fn problem(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(span, message, hint));
    }

    /// Takes one event; false once going on makes no sense.
    fn event(&mut self, event: Event<'_>, place: saphyr_parser::Span) -> bool {
        let span = span_of(&place.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = self.scalar(&text, style, tag.as_deref(), &place);
                self.finish(Node { span, kind }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.container_tag(tag.as_deref(), "seq", span);
                self.open(Open { span, anchor, kind: OpenKind::Sequence(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                self.container_tag(tag.as_deref(), "map", span);
                let kind = OpenKind::Mapping { members: Vec::new(), key: None, seen: BTreeMap::new() };
                self.open(Open { span, anchor, kind })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(_) if self.root.is_some() => {
                self.problem(span, "a second document", "keep one document in a file and remove the `---`");
                false
            }
            _ => true,
        }
    }

    fn open(&mut self, open: Open) -> bool {
        if self.open.len() + 1 >= DEPTH_MAX {
            self.problem(open.span, format!("nested deeper than {DEPTH_MAX} levels"), "nest less deeply");
            return false;
        }
        self.open.push(open);
        true
    }

    fn close(&mut self) -> bool {
        let Some(open) = self.open.pop() else { return false };
        let kind = match open.kind {
            OpenKind::Sequence(elements) => NodeKind::Sequence(elements),
            OpenKind::Mapping { members, .. } => NodeKind::Mapping(members),
        };
        self.finish(Node { span: open.span, kind }, open.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> bool {
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.problem(span, "an alias to the node it stands in", "write the value out");
            return false;
        };
        if self.open.len() + anchored.height > DEPTH_MAX {
            self.problem(span, format!("nested deeper than {DEPTH_MAX} levels"), "nest less deeply");
            return false;
        }
        self.nodes += anchored.nodes;
        let node = anchored.node.clone();
        self.finish(node, 0)
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) -> bool {
        let anchored = (anchor != 0).then(|| measure(&node));
        // What an anchor keeps counts again: anchors within anchors keep the innermost nodes once a level.
        self.nodes += 1 + anchored.map_or(0, |(nodes, _)| nodes);
        if self.nodes > NODES_MAX {
            let hint = "use fewer anchors and aliases";
            self.problem(node.span, format!("more than {NODES_MAX} nodes"), hint);
            return false;
        }
        if let Some((nodes, height)) = anchored {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, height });
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::Sequence(elements)) => elements.push(node),
            Some(OpenKind::Mapping { key: slot @ None, .. }) => *slot = Some(node),
            Some(OpenKind::Mapping { members, key: slot @ Some(_), seen }) => {
                let key = slot.take().expect("the arm matched Some");
                self.problems.extend(key_problem(&key, seen));
                members.push((key, node));
            }
        }
        true
    }

    /// True where the next node is a mapping's key.
    fn at_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: OpenKind::Mapping { key: None, .. }, .. }))
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        place: &saphyr_parser::Span,
    ) -> NodeKind {
        let span = span_of(&place.start);
        let plain = style == ScalarStyle::Plain;
        let string = || NodeKind::String { text: text.into(), plain, origin: origin(text, style, place) };
        if self.at_key() {
            if plain && text == "<<" {
                self.problem(
                    span,
                    "merge keys (`<<`) are not supported",
                    "repeat the members, or alias the whole",
                );
            }
            return string();
        }
        let Some(tag) = tag else {
            return if plain { resolve(text).unwrap_or_else(string) } else { string() };
        };
        match (tag.is_yaml_core_schema(), tag.suffix.as_str(), resolve(text)) {
            (true, "str", _) => string(),
            (false, "", _) if tag.handle == "!" => string(),
            (true, "null", Some(kind @ NodeKind::Null))
            | (true, "bool", Some(kind @ NodeKind::Bool(_)))
            | (true, "int" | "float", Some(kind @ NodeKind::Number(_))) => kind,
            (true, "null" | "bool" | "int" | "float", _) => {
                self.problem(
                    span,
                    format!("`{text}` is not a `!!{}`", tag.suffix),
                    "remove the tag or fix the value",
                );
                string()
            }
            _ => {
                self.problem(span, format!("tag `{tag}` is not supported"), "remove the tag");
                string()
            }
        }
    }

    fn container_tag(&mut self, tag: Option<&Tag>, own: &str, span: Span) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == own)
        {
            self.problem(span, format!("tag `{tag}` is not supported"), "remove the tag");
        }
    }
}

/// Checks that a key is a text and new to its mapping.
fn key_problem(key: &Node, seen: &mut BTreeMap<Box<str>, Span>) -> Option<Problem> {
    let Some(text) = key.text() else {
        return Some(Problem::new(key.span, format!("{} as a key", key.noun()), "a key is a text"));
    };
    let first = seen.get(text).copied();
    if first.is_none() {
        seen.insert(text.into(), key.span);
    }
    let hint = |place| format!("remove one of them; the first is at {place}");
    first.map(|place| Problem::new(key.span, format!("key `{text}` twice in one mapping"), hint(place)))
}

/// Nodes and levels of a tree. Recursion is bounded by `DEPTH_MAX`.
fn measure(node: &Node) -> (usize, usize) {
    let add = |(nodes, height): (usize, usize), child: &Node| {
        let (more, deep) = measure(child);
        (nodes + more, height.max(deep + 1))
    };
    match &node.kind {
        NodeKind::Sequence(elements) => elements.iter().fold((1, 1), add),
        NodeKind::Mapping(members) => {
            members.iter().map(|(_, value)| value).fold((1 + members.len(), 1), add)
        }
        _ => (1, 1),
    }
}

fn span_of(marker: &saphyr_parser::Marker) -> Span {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Span::new(count(marker.line()), count(marker.col()).saturating_add(1))
}

/// Where the text's first character stands, if the source repeats the text without escapes and folding.
fn origin(text: &str, style: ScalarStyle, place: &saphyr_parser::Span) -> Option<Span> {
    let start = span_of(&place.start);
    let on_one_line = place.start.line() == place.end.line();
    match style {
        ScalarStyle::Plain => on_one_line.then_some(start),
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
            (on_one_line && place.len() == text.chars().count() + 2).then(|| start.right(1))
        }
        ScalarStyle::Literal | ScalarStyle::Folded => None,
    }
}

/// The core schema for plain scalars; `None` is a text.
fn resolve(text: &str) -> Option<NodeKind> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(NodeKind::Null),
        "true" | "True" | "TRUE" => return Some(NodeKind::Bool(true)),
        "false" | "False" | "FALSE" => return Some(NodeKind::Bool(false)),
        _ => {}
    }
    let json = number_text(text)?;
    Number::parse(&json).ok().map(NodeKind::Number)
}

/// A YAML number in JSON's grammar: no `+`, no leading zeros, digits on both sides of the point; digits stay.
fn number_text(text: &str) -> Option<Cow<'_, str>> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            return u128::from_str_radix(digits, radix).ok().map(|number| number.to_string().into());
        }
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => unsigned.split_at(at),
        None => (unsigned, ""),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let no_digits = whole.is_empty() && fraction.is_none_or(str::is_empty);
    if no_digits || !digits(whole) || !digits(fraction.unwrap_or("")) || !is_exponent(exponent) {
        return None;
    }
    let mut json = String::with_capacity(text.len() + 1);
    if negative {
        json.push('-');
    }
    let whole = whole.trim_start_matches('0');
    json.push_str(if whole.is_empty() { "0" } else { whole });
    if let Some(fraction) = fraction.filter(|fraction| !fraction.is_empty()) {
        json.push('.');
        json.push_str(fraction);
    }
    json.push_str(exponent);
    Some(json.into())
}

/// Nothing, or `e` with an optional sign and digits.
fn is_exponent(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['e', 'E']) else { return text.is_empty() };
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
