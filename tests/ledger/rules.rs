//! Reducers, naively: the YAML a user writes (API.md section 3), folded step by step on `serde_json::Value`.
//! A step that fails leaves the state half changed: the caller throws it away.

use super::expr::{Expr, Scope};
use super::json::{self, Decimal, same};
use super::preset::{merge, patch};
use super::{unsupported, yaml};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a fold may look at.
pub(crate) struct Event<'a> {
    pub(crate) kind: &'a str,
    pub(crate) id: Option<&'a str>,
    pub(crate) version: u64,
    pub(crate) data: Value,
}

pub(crate) enum Reducer {
    Merge,
    Replace,
    JsonPatch,
    Rules { init: Value, on: BTreeMap<String, Vec<Step>>, uses_state: bool },
}

pub(crate) struct Step {
    name: String,
    /// For each path (empty: the root) the operand; `upsert` has one, whose parts are in `inner`.
    operands: Vec<(Vec<Segment>, Operand)>,
    inner: Vec<Step>,
}

pub(crate) enum Operand {
    Literal(Value),
    Expr(Box<Expr>),
    Array(Vec<Operand>),
    Object(Vec<(String, Operand)>),
}

pub(crate) enum Segment {
    Member(String),
    Index(i64),
    Expr(Box<Expr>),
}

/// A segment with its expression evaluated.
enum At {
    Member(String),
    Index(i64),
}

impl Reducer {
    pub(crate) fn parse(text: &str) -> Self {
        let Value::Object(rules) = (match yaml::read(text) {
            Value::String(name) => match name.as_str() {
                "merge" => return Self::Merge,
                "replace" => return Self::Replace,
                "json-patch" => return Self::JsonPatch,
                other => unsupported(&format!("the preset `{other}`")),
            },
            other => other,
        }) else {
            unsupported("a reducer that is neither a preset nor rules")
        };
        let mut init = Value::Object(Map::new());
        let mut on = BTreeMap::new();
        let mut uses_state = false;
        for (key, value) in rules {
            match (key.as_str(), value) {
                ("init", value) => init = value,
                ("on", Value::Object(types)) => {
                    for (kind, list) in types {
                        let list =
                            list.as_array().cloned().unwrap_or_else(|| unsupported("rules that are no list"));
                        let steps = list.iter().flat_map(|step| steps(step, &mut uses_state)).collect();
                        on.insert(kind, steps);
                    }
                }
                (key, _) => unsupported(&format!("`{key}` in a reducer")),
            }
        }
        Self::Rules { init, on, uses_state }
    }

    /// What a fold starts from; null for `replace` and `json-patch`.
    pub(crate) fn start(&self) -> Value {
        match self {
            Self::Merge => Value::Object(Map::new()),
            Self::Replace | Self::JsonPatch => Value::Null,
            Self::Rules { init, .. } => init.clone(),
        }
    }

    /// The next state (nothing: deleted). `None` is poison, and `state` is then worth nothing.
    pub(crate) fn fold(&self, state: Option<Value>, event: Event<'_>) -> Option<Option<Value>> {
        let deleted_or = |state: Value| Some(if state.is_null() { None } else { Some(state) });
        match self {
            Self::Merge => {
                let mut state = state.unwrap_or_else(|| self.start());
                merge(&mut state, event.data);
                deleted_or(state)
            }
            Self::Replace => deleted_or(event.data),
            Self::JsonPatch => {
                let mut state = state.unwrap_or(Value::Null);
                patch(&mut state, event.data)?;
                deleted_or(state)
            }
            Self::Rules { on, uses_state, .. } => {
                let own = on.get(event.kind);
                let any = on.get("*");
                if own.is_none() && any.is_none() {
                    return Some(state);
                }
                let mut state = state.unwrap_or_else(|| self.start());
                let about =
                    serde_json::json!({ "type": event.kind, "id": event.id, "version": event.version });
                let scope = Scope::new(&event.data, &about, uses_state.then_some(&state));
                for step in own.into_iter().chain(any).flatten() {
                    if step.name == "delete" {
                        return Some(None);
                    }
                    step.run(&mut state, &scope)?;
                }
                Some(Some(state))
            }
        }
    }
}

impl Step {
    fn run(&self, state: &mut Value, scope: &Scope) -> Option<()> {
        for (path, operand) in &self.operands {
            let path = resolve(path, scope)?;
            if self.name == "unset" {
                unset(state, &path)?;
                continue;
            }
            if self.name == "upsert" {
                let entry = slot(state, &path)?;
                if entry.is_null() {
                    *entry = operand.value(scope)?;
                }
                self.inner.iter().try_for_each(|step| step.run(entry, scope))?;
                continue;
            }
            let value = operand.value(scope)?;
            // Nothing to do must not leave an empty place behind.
            let idle = match self.name.as_str() {
                "add" | "min" | "max" => value.is_null(),
                "remove" | "keepLast" => missing(state, &path)?,
                _ => false,
            };
            if !idle {
                self.apply(slot(state, &path)?, value)?;
            }
        }
        Some(())
    }

    fn apply(&self, place: &mut Value, value: Value) -> Option<()> {
        match self.name.as_str() {
            "set" => *place = value,
            "merge" | "mergeAt" => {
                if !value.is_object() {
                    unsupported("a merge of something else than an object in rules");
                }
                if place.is_null() {
                    *place = Value::Object(Map::new());
                }
                place.is_object().then_some(())?;
                merge(place, value);
            }
            "add" => {
                let Value::Number(more) = value else { return None };
                let now = match place {
                    Value::Null => Decimal::parse("0")?,
                    Value::Number(n) => Decimal::parse(n.as_str())?,
                    _ => return None,
                };
                *place = json::number(now.plus(Decimal::parse(more.as_str())?, 1)?.text());
            }
            "append" => array(place)?.push(value),
            "prepend" => array(place)?.insert(0, value),
            "remove" => array(place)?.retain(|item| !same(item, &value)),
            "keepLast" => {
                let keep = value.as_u64().and_then(|n| usize::try_from(n).ok())?;
                let items = array(place)?;
                items.drain(..items.len().saturating_sub(keep));
            }
            "min" | "max" => {
                let order = match (&value, &*place) {
                    (Value::Number(new), Value::Null) => Decimal::parse(new.as_str()).map(|_| None)?,
                    (Value::String(_), Value::Null) => None,
                    (Value::Number(new), Value::Number(old)) => {
                        Some(Decimal::parse(new.as_str())?.compare(Decimal::parse(old.as_str())?))
                    }
                    (Value::String(new), Value::String(old)) => Some(new.cmp(old)),
                    _ => return None,
                };
                if order.is_none_or(|o| if self.name == "min" { o.is_lt() } else { o.is_gt() }) {
                    *place = value;
                }
            }
            other => unsupported(&format!("the operation `{other}`")),
        }
        Some(())
    }
}

impl Operand {
    fn parse(value: Value, uses_state: &mut bool) -> Self {
        match value {
            Value::String(text) if text.starts_with(['.', '$', '=']) => {
                let expr = Expr::compile(text.strip_prefix('=').unwrap_or(&text));
                *uses_state |= expr.uses_state();
                Self::Expr(Box::new(expr))
            }
            Value::Array(items) => {
                Self::Array(items.into_iter().map(|i| Self::parse(i, uses_state)).collect())
            }
            Value::Object(members) => {
                Self::Object(members.into_iter().map(|(n, m)| (n, Self::parse(m, uses_state))).collect())
            }
            other => Self::Literal(other),
        }
    }

    fn value(&self, scope: &Scope) -> Option<Value> {
        Some(match self {
            Self::Literal(value) => value.clone(),
            Self::Expr(expr) => expr.value(scope)?,
            Self::Array(items) => Value::Array(items.iter().map(|i| i.value(scope)).collect::<Option<_>>()?),
            Self::Object(members) => Value::Object(
                members.iter().map(|(n, m)| Some((n.clone(), m.value(scope)?))).collect::<Option<_>>()?,
            ),
        })
    }
}

/// The steps of one list item: `{ operation: operands, ... }`.
fn steps(item: &Value, uses_state: &mut bool) -> Vec<Step> {
    let item = item.as_object().unwrap_or_else(|| unsupported("a step that is no mapping"));
    item.iter().map(|(name, operands)| step(name, operands.clone(), uses_state)).collect()
}

fn step(name: &str, operands: Value, uses_state: &mut bool) -> Step {
    let null = || Operand::Literal(Value::Null);
    let mut inner = Vec::new();
    let operands = match (name, operands) {
        ("delete", Value::Bool(true)) => Vec::new(),
        ("merge", value) => vec![(Vec::new(), Operand::parse(value, uses_state))],
        ("unset", Value::Array(paths)) => {
            let path = |p: &Value| path(p.as_str().unwrap_or_else(|| unsupported("a path that is no text")));
            paths.iter().map(|p| (path(p), null())).collect()
        }
        ("upsert", Value::Object(mut parts)) => {
            let at = parts.shift_remove("at").unwrap_or_else(|| unsupported("`upsert` without `at`"));
            let new = parts.shift_remove("new").unwrap_or_else(|| Value::Object(Map::new()));
            inner.extend(parts.shift_remove("set").map(|set| step("set", set, uses_state)));
            inner.extend(parts.shift_remove("add").map(|add| step("add", add, uses_state)));
            assert!(parts.is_empty(), "`upsert` knows `at`, `new`, `set` and `add`");
            let at = path(at.as_str().unwrap_or_else(|| unsupported("a path that is no text")));
            vec![(at, Operand::parse(new, uses_state))]
        }
        (_, Value::Object(places)) => {
            places.into_iter().map(|(p, value)| (path(&p), Operand::parse(value, uses_state))).collect()
        }
        (name, _) => unsupported(&format!("this shape of `{name}`")),
    };
    // `$state` inside a path must be converted as well.
    let expressions = operands.iter().flat_map(|(path, _)| path);
    *uses_state |= expressions.into_iter().any(|s| matches!(s, Segment::Expr(e) if e.uses_state()));
    Step { name: name.to_owned(), operands, inner }
}

/// `a.b`, `a["b.c"]`, `a[0]`, `a[EXPR]`.
fn path(text: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = closing(inside);
            let inner = &inside[..end];
            segments.push(match (json::read(inner.as_bytes(), 0), inner.parse()) {
                (Some(Value::String(name)), _) => Segment::Member(name),
                (_, Ok(index)) => Segment::Index(index),
                _ => Segment::Expr(Box::new(Expr::compile(inner))),
            });
            rest = &inside[end + 1..];
            rest = rest.strip_prefix('.').unwrap_or(rest);
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            assert!(end > 0, "the path `{text}` has an empty name");
            segments.push(Segment::Member(rest[..end].to_owned()));
            rest = &rest[end..];
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
    }
    segments
}

/// Where the bracket that is already open closes.
fn closing(text: &str) -> usize {
    let (mut open, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' if !quoted => open += 1,
            ']' if !quoted => open -= 1,
            _ => {}
        }
        if open == 0 {
            return at;
        }
    }
    unsupported("a path whose bracket does not close")
}

fn resolve(path: &[Segment], scope: &Scope) -> Option<Vec<At>> {
    let one = |segment: &Segment| match segment {
        Segment::Member(name) => Some(At::Member(name.clone())),
        Segment::Index(index) => Some(At::Index(*index)),
        Segment::Expr(expr) => super::place::as_text(&expr.value(scope)?).map(At::Member),
    };
    path.iter().map(one).collect()
}

/// The place a path names, made (as null) with its parents where it is missing.
fn slot<'a>(root: &'a mut Value, path: &[At]) -> Option<&'a mut Value> {
    let mut place = root;
    for at in path {
        place = match at {
            At::Member(name) => {
                if place.is_null() {
                    *place = Value::Object(Map::new());
                }
                place.as_object_mut()?.entry(name.clone()).or_insert(Value::Null)
            }
            At::Index(index) => {
                let items = array(place)?;
                let n = position(items.len(), *index)?;
                if n == items.len() {
                    items.push(Value::Null);
                }
                items.get_mut(n)?
            }
        };
    }
    Some(place)
}

/// Whether nothing is at the path; a parent of the wrong type is poison.
fn missing(root: &Value, path: &[At]) -> Option<bool> {
    let mut place = root;
    for at in path {
        let next = match (at, place) {
            (_, Value::Null) => None,
            (At::Member(name), Value::Object(members)) => members.get(name),
            (At::Index(index), Value::Array(items)) => {
                position(items.len(), *index).and_then(|n| items.get(n))
            }
            _ => return None,
        };
        let Some(next) = next else { return Some(true) };
        place = next;
    }
    Some(place.is_null())
}

fn unset(root: &mut Value, path: &[At]) -> Option<()> {
    let (last, parents) = path.split_last()?;
    if missing(root, parents)? {
        return Some(());
    }
    match (last, slot(root, parents)?) {
        (At::Member(name), Value::Object(members)) => drop(members.shift_remove(name)),
        (At::Index(index), Value::Array(items)) => {
            if let Some(n) = position(items.len(), *index).filter(|n| *n < items.len()) {
                items.remove(n);
            }
        }
        _ => return None,
    }
    Some(())
}

fn position(len: usize, index: i64) -> Option<usize> {
    let n = if index < 0 { i64::try_from(len).ok()? + index } else { index };
    usize::try_from(n).ok()
}

fn array(place: &mut Value) -> Option<&mut Vec<Value>> {
    if place.is_null() {
        *place = Value::Array(Vec::new());
    }
    place.as_array_mut()
}
