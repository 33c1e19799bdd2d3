//! Paths on the left side: `a.b`, `a["b.c"]`, `a[0]`, `a[-1]`, `a[EXPR]` (API.md section 3). A literal `[n]`
//! is an array index; any other bracket is an expression, whose text or integer is a member name.

use super::template::{Compiler, Computed, Run};
use crate::domain::expr::{Expr, ParseError, noun, number_poison};
use crate::domain::poison::{self, Poison};
use crate::domain::rules::journal::{Journal, Key, Route};
use crate::domain::source::{Node, Problem};
use crate::domain::text::Text;
use crate::domain::value::Value;
use std::borrow::Cow;
use std::fmt::{Display, Formatter, Result as Formatted};

/// Most steps of one path.
const STEPS_MAX: usize = 64;

/// A path as it was written; at least one step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    steps: Vec<Step>,
    /// As written, for messages.
    pub(super) text: Box<str>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Name(Text),
    Index(i64),
    Computed(Computed),
}

impl Path {
    /// Reads a path from a text node.
    pub(super) fn parse(node: &Node, compiler: &mut Compiler) -> Option<Self> {
        let Some(text) = node.text() else {
            let message = format!("{} where a path should be", node.noun());
            compiler.problem(Problem::new(node.span, message, "write a path like `items[.sku].qty`"));
            return None;
        };
        match steps_of(text, compiler) {
            Ok(steps) => Some(Self { steps, text: text.into() }),
            Err(error) => {
                compiler.problem(Problem::new(node.place_in_text(error.at), error.message, error.hint));
                None
            }
        }
    }

    /// Evaluates the steps onto a route of the journal that starts with `prefix`.
    pub(super) fn resolve<'a>(
        &'a self,
        prefix: Route,
        journal: &mut Journal<'_, 'a>,
        run: &mut Run<'a>,
    ) -> Result<Route, Poison> {
        let mut route = journal.route(prefix);
        for step in &self.steps {
            let key = match step {
                Step::Name(name) => Key::Name(Cow::Borrowed(name)),
                Step::Index(index) => Key::Index(*index),
                Step::Computed(computed) => Key::Name(member_name(run.computed(computed)?)?),
            };
            journal.push(&mut route, key);
        }
        Ok(route)
    }
}

/// A text, or an integer by value without its scale.
fn member_name(value: Cow<'_, Value>) -> Result<Cow<'_, str>, Poison> {
    match value {
        Cow::Borrowed(Value::String(name)) => Ok(Cow::Borrowed(name)),
        Cow::Owned(Value::String(name)) => Ok(Cow::Owned(name.into())),
        value => match &*value {
            Value::Number(number) => {
                let integer = number.to_decimal().map_err(number_poison)?.to_integer();
                let fraction = || Poison::new(poison::TYPE, "a number with a fraction is no member name");
                Ok(Cow::Owned(integer.ok_or_else(fraction)?.to_string()))
            }
            other => Err(Poison::new(poison::TYPE, format!("{} is no member name", noun(other)))),
        },
    }
}

fn steps_of(text: &str, compiler: &mut Compiler) -> Result<Vec<Step>, ParseError> {
    let error = |byte: usize, message: &str, hint: &str| ParseError {
        at: text[..byte].chars().count(),
        message: message.to_owned(),
        hint: hint.to_owned(),
    };
    if text.starts_with('.') {
        return Err(error(0, "a path does not start with `.`", "write `a.b`; the state is meant anyway"));
    }
    if text.starts_with(['$', '=']) {
        return Err(error(0, "a path is no expression", "write `a.b`, or a member name like `[\"$a\"]`"));
    }
    let (mut steps, mut at) = (Vec::new(), 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with('[') {
            let Some(length) = bracket_length(rest) else {
                return Err(error(at, "a `[` without its `]`", "close it"));
            };
            let inner = &rest[1..length - 1];
            steps.push(bracket_step(inner, at + 1, text, compiler)?);
            at += length;
        } else {
            let length = rest.find(['.', '[', ']', '"', '\\']).unwrap_or(rest.len());
            let name = &rest[..length];
            let blank = name.trim() != name || name.chars().any(char::is_control);
            if name.is_empty() || blank || rest[length..].starts_with([']', '"', '\\']) {
                let hint = "names are joined by `.`; one with other signs is written `[\"the name\"]`";
                return Err(error(
                    at + if name.is_empty() || blank { 0 } else { length },
                    "not a member name",
                    hint,
                ));
            }
            steps.push(Step::Name(name.into()));
            at += length;
        }
        if steps.len() > STEPS_MAX {
            return Err(error(at, "the path has too many steps", "nest less deeply"));
        }
        match text[at..].chars().next() {
            None => return Ok(steps),
            Some('[') => {}
            Some('.') if !text[at + 1..].starts_with('[') => at += 1,
            Some(_) => return Err(error(at, "not a path", "write `a.b`, `a[\"b.c\"]`, `a[0]` or `a[.key]`")),
        }
    }
}

/// Bytes from a `[` to its `]`; brackets in texts do not count, those in their interpolations do.
fn bracket_length(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        let in_text = open.last() == Some(&'"');
        match letter {
            '\\' if in_text => {
                if let Some((_, '(')) = letters.next() {
                    open.push('(');
                }
            }
            '"' if in_text => drop(open.pop()),
            _ if in_text => {}
            '"' | '[' | '(' | '{' => open.push(letter),
            ']' | ')' | '}' => {
                open.pop();
                if open.is_empty() {
                    return Some(at + letter.len_utf8());
                }
            }
            _ => {}
        }
    }
    None
}

fn bracket_step(inner: &str, byte: usize, text: &str, compiler: &mut Compiler) -> Result<Step, ParseError> {
    let start = text[..byte].chars().count();
    let literal = inner.trim();
    let digits = literal.strip_prefix('-').unwrap_or(literal);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let index = literal.parse::<i64>().ok().filter(|index| *index > i64::MIN / 2);
        let hint = "an array has far fewer elements";
        let error =
            || ParseError { at: start, message: "an index that large".to_owned(), hint: hint.to_owned() };
        return index.map(Step::Index).ok_or_else(error);
    }
    let expr = Expr::parse(inner).map_err(|error| ParseError { at: start + error.at, ..error })?;
    match expr.constant() {
        Some(Value::String(name)) => Ok(Step::Name(name.clone())),
        Some(other) => Err(ParseError {
            at: start,
            message: format!("{} in brackets", noun(other)),
            hint: "in brackets stand an index, a text, or an expression that gives a member name".to_owned(),
        }),
        None => Ok(Step::Computed(compiler.computed(expr))),
    }
}

impl Path {
    /// Writes the canonical text, in which every step has brackets.
    pub(super) fn print(&self, state_exprs: &[Expr], f: &mut Formatter<'_>) -> Formatted {
        self.steps.iter().try_for_each(|step| match step {
            Step::Name(name) => write!(f, "[{}]", Value::String(name.clone()).to_json()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Computed(computed) => write!(f, "[={}]", computed.expr(state_exprs)),
        })
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> Formatted {
        f.write_str(&self.text)
    }
}
