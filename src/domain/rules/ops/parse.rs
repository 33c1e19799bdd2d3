//! Reading operations from the config: an item of a rule is a mapping of exactly one operation.

use super::{Op, Pair, Upsert, Verb, arrays};
use crate::domain::rules::path::Path;
use crate::domain::rules::template::{Compiler, Template};
use crate::domain::source::{Node, NodeKind, Problem};
use crate::domain::value::{Object, Value};

const KNOWN: &str = "operations are `set`, `unset`, `merge`, `mergeAt`, `add`, `append`, `prepend`, `upsert`, \
                     `remove`, `min`, `max`, `keepLast` and `delete`";

impl Op {
    /// Reads one item; `None` after a problem.
    pub(in super::super) fn parse(node: &Node, compiler: &mut Compiler) -> Option<Self> {
        let (key, shape) = match node.members() {
            Some([(key, shape)]) => (key, shape),
            Some([_, (second, _), ..]) => {
                let message = "a second operation in one item";
                compiler.problem(Problem::new(second.span, message, "start it with its own `-`"));
                return None;
            }
            _ => {
                let message = format!("{} where an operation should be", node.noun());
                compiler.problem(Problem::new(
                    node.span,
                    message,
                    "write an item like `- set: { status: open }`",
                ));
                return None;
            }
        };
        let name = key.text().unwrap_or_default();
        match name {
            "unset" => Some(Self::Unset(paths(shape, compiler))),
            "merge" => Some(Self::Merge(object_template(shape, "merge", compiler)?)),
            "upsert" => upsert(shape, compiler).map(|upsert| Self::Upsert(Box::new(upsert))),
            "delete" if shape.kind == NodeKind::Bool(true) => Some(Self::Delete),
            "delete" => {
                compiler.problem(Problem::new(
                    shape.span,
                    "`delete` takes only `true`",
                    "write `delete: true`",
                ));
                None
            }
            name => match Verb::named(name) {
                Some(verb) => Some(Self::Each(verb, pairs(verb, shape, compiler))),
                None => {
                    compiler.problem(Problem::new(key.span, format!("`{name}` is not an operation"), KNOWN));
                    None
                }
            },
        }
    }
}

/// `{ path: value, … }`.
fn pairs(verb: Verb, node: &Node, compiler: &mut Compiler) -> Vec<Pair> {
    let Some(members) = node.members() else {
        let (message, name) = (format!("{} where paths and values should be", node.noun()), verb.name());
        compiler.problem(Problem::new(node.span, message, format!("write `{name}: {{ path: value }}`")));
        return Vec::new();
    };
    let mut pairs = Vec::with_capacity(members.len());
    for (key, value) in members {
        let path = Path::parse(key, compiler);
        let template = compiler.template(value);
        if let Some(literal) = template.literal() {
            compiler.problems.extend(literal_problem(verb, &literal, value));
        }
        pairs.extend(path.map(|path| (path, template)));
    }
    pairs
}

/// A literal that would make every event poison is a mistake of the config.
fn literal_problem(verb: Verb, literal: &Value, node: &Node) -> Option<Problem> {
    let (wrong, hint) = match (verb, literal) {
        (_, Value::Null) if !matches!(verb, Verb::MergeAt | Verb::KeepLast) => (false, ""),
        (Verb::Add, literal) => {
            (!matches!(literal, Value::Number(_)), "a number, or an expression like `.price`")
        }
        (Verb::Min | Verb::Max, literal) => (
            !matches!(literal, Value::Number(_) | Value::String(_)),
            "a number, a text, or an expression like `.time`",
        ),
        (Verb::MergeAt, literal) => {
            (!matches!(literal, Value::Object(_)), "a mapping, or an expression like `.address`")
        }
        (Verb::KeepLast, literal) => (arrays::count_of(literal).is_err(), "a whole number from 0"),
        _ => (false, ""),
    };
    let message = || format!("`{}` does not take {}", verb.name(), node.noun());
    wrong.then(|| Problem::new(node.span, message(), format!("write {hint}")))
}

fn paths(node: &Node, compiler: &mut Compiler) -> Vec<Path> {
    let Some(elements) = node.elements() else {
        let message = format!("{} where a list of paths should be", node.noun());
        compiler.problem(Problem::new(node.span, message, "write `unset: [path]`"));
        return Vec::new();
    };
    elements.iter().filter_map(|element| Path::parse(element, compiler)).collect()
}

/// A template that can give an object.
fn object_template(node: &Node, what: &str, compiler: &mut Compiler) -> Option<Template> {
    let template = compiler.template(node);
    if matches!(template, Template::Array(_))
        || template.literal().is_some_and(|value| value.as_object().is_none())
    {
        let message = format!("`{what}` takes an object, not {}", node.noun());
        compiler.problem(Problem::new(node.span, message, "write a mapping, or an expression like `.`"));
        return None;
    }
    Some(template)
}

fn upsert(node: &Node, compiler: &mut Compiler) -> Option<Upsert> {
    const SHAPE: &str = "write `upsert: { at: path, new: { … }, set: { … }, add: { … } }`";
    let Some(members) = node.members() else {
        let message = format!("{} where an upsert should be", node.noun());
        compiler.problem(Problem::new(node.span, message, SHAPE));
        return None;
    };
    for (key, _) in members {
        let name = key.text().unwrap_or_default();
        if !["at", "new", "set", "add"].contains(&name) {
            compiler.problem(Problem::new(key.span, format!("`upsert` has no `{name}`"), SHAPE));
        }
    }
    let at = match node.get("at") {
        Some(at) => Path::parse(at, compiler),
        None => {
            compiler.problem(Problem::new(node.span, "an `upsert` without `at`", SHAPE));
            None
        }
    };
    let new = match node.get("new") {
        Some(new) => object_template(new, "new", compiler),
        None => Some(Template::Literal(Value::Object(Object::new()))),
    };
    let mut inside = |name, verb| node.get(name).map_or_else(Vec::new, |node| pairs(verb, node, compiler));
    let (set, add) = (inside("set", Verb::Set), inside("add", Verb::Add));
    Some(Upsert { at: at?, new: new?, set, add })
}
