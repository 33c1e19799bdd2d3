//! Values on the right side: literals with expressions as leaves, and how they are computed for one event.
//!
//! Every expression sees the state *before* the event, while operations change it in place. So the
//! expressions that read `$state` are computed before the first operation runs and kept as results; an error
//! counts only where the result is used. All others are computed where they are used, and borrow from the
//! event.

use crate::domain::expr::{Budget, Expr, Scope};
use crate::domain::poison::Poison;
use crate::domain::reducer::EventView;
use crate::domain::source::{Node, NodeKind, Problem};
use crate::domain::value::{Object, Value};
use std::borrow::Cow;
use std::fmt::{Formatter, Result as Formatted};

/// An expression of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Computed {
    /// Does not read `$state`.
    Now(Box<Expr>),
    /// Its number among the rule's expressions that read `$state`.
    Before(usize),
}

/// A value on the right side.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Template {
    Literal(Value),
    Computed(Computed),
    Array(Vec<Template>),
    Object(Vec<(Box<str>, Template)>),
}

/// Collects what the reading of rules yields besides the rules.
#[derive(Debug, Default)]
pub(super) struct Compiler {
    pub(super) problems: Vec<Problem>,
    /// The expressions that read `$state`, of the rule that is being read.
    pub(super) state_exprs: Vec<Expr>,
}

/// What the operations of one rule share while one event is applied.
pub(super) struct Run<'a> {
    pub(super) event: &'a EventView<'a>,
    pub(super) budget: &'a Budget,
    /// Results of the expressions that read `$state`; each is used once at most.
    pub(super) before: Vec<Option<Result<Value, Poison>>>,
}

impl Computed {
    pub(super) fn expr<'a>(&'a self, state_exprs: &'a [Expr]) -> &'a Expr {
        match self {
            Self::Now(expr) => expr,
            Self::Before(number) => &state_exprs[*number],
        }
    }
}

impl Compiler {
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn computed(&mut self, expr: Expr) -> Computed {
        if !expr.reads_state() {
            return Computed::Now(Box::new(expr));
        }
        self.state_exprs.push(expr);
        Computed::Before(self.state_exprs.len() - 1)
    }

    /// Reads a value; what cannot be read is a problem and null.
    pub(super) fn template(&mut self, node: &Node) -> Template {
        match &node.kind {
            NodeKind::String { text, .. } if text.starts_with(['.', '$', '=']) => self.expression(node, text),
            NodeKind::Sequence(elements) => {
                let elements: Vec<_> = elements.iter().map(|element| self.template(element)).collect();
                let literals = elements.iter().map(Template::literal).collect::<Option<Vec<_>>>();
                literals
                    .map_or(Template::Array(elements), |literals| Template::Literal(Value::Array(literals)))
            }
            NodeKind::Mapping(members) => {
                let name = |key: &Node| Box::<str>::from(key.text().unwrap_or_default());
                let members: Vec<_> =
                    members.iter().map(|(key, value)| (name(key), self.template(value))).collect();
                let literals = members.iter().map(|(name, value)| Some((name.clone(), value.literal()?)));
                let literals = literals.collect::<Option<Object>>();
                literals
                    .map_or(Template::Object(members), |literals| Template::Literal(Value::Object(literals)))
            }
            _ => Template::Literal(node.to_value()),
        }
    }

    fn expression(&mut self, node: &Node, text: &str) -> Template {
        let (skipped, code) = text.strip_prefix('=').map_or((0, text), |code| (1, code));
        match Expr::parse(code) {
            Ok(expr) => match expr.constant() {
                Some(value) => Template::Literal(value.clone()),
                None => Template::Computed(self.computed(expr)),
            },
            Err(error) => {
                let hint = match skipped {
                    0 => format!("{}; a literal text is written `'=\"…\"'`", error.hint),
                    _ => error.hint,
                };
                self.problem(Problem::new(node.place_in_text(skipped + error.at), error.message, hint));
                Template::Literal(Value::Null)
            }
        }
    }
}

impl<'a> Run<'a> {
    /// A run over an event: computes what reads the state, which nothing has changed yet.
    pub(super) fn new(event: &'a EventView<'a>, budget: &'a Budget, state: &Value, exprs: &[Expr]) -> Self {
        let scope = Scope { event, state, budget };
        let result = |expr: &Expr| Some(expr.eval(&scope).and_then(|value| budget.own(value)));
        Self { event, budget, before: exprs.iter().map(result).collect() }
    }

    /// The value of an expression.
    pub(super) fn computed(&mut self, computed: &'a Computed) -> Result<Cow<'a, Value>, Poison> {
        match computed {
            Computed::Now(expr) => {
                expr.eval(&Scope { event: self.event, state: &Value::Null, budget: self.budget })
            }
            Computed::Before(number) => {
                let result = self.before[*number].take().expect("an expression is used once per event");
                result.map(Cow::Owned)
            }
        }
    }

    /// The value of a template.
    pub(super) fn value(&mut self, template: &'a Template) -> Result<Cow<'a, Value>, Poison> {
        match template {
            Template::Literal(value) => Ok(Cow::Borrowed(value)),
            Template::Computed(computed) => self.computed(computed),
            Template::Array(elements) => {
                let elements = elements.iter().map(|element| self.owned(element));
                Ok(Cow::Owned(Value::Array(elements.collect::<Result<_, _>>()?)))
            }
            Template::Object(members) => {
                let mut object = Object::with_capacity(members.len());
                for (name, member) in members {
                    object.insert(name.clone(), self.owned(member)?);
                }
                Ok(Cow::Owned(Value::Object(object)))
            }
        }
    }

    /// The value of a template, to put into the state.
    pub(super) fn owned(&mut self, template: &'a Template) -> Result<Value, Poison> {
        let value = self.value(template)?;
        self.budget.own(value)
    }
}

impl Template {
    /// The value, if no event changes it.
    pub(super) fn literal(&self) -> Option<Value> {
        match self {
            Self::Literal(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// Writes the canonical text: JSON, with expressions as `=expression`.
    pub(super) fn print(&self, state_exprs: &[Expr], f: &mut Formatter<'_>) -> Formatted {
        match self {
            Self::Literal(value) => f.write_str(&value.to_json()),
            Self::Computed(computed) => write!(f, "={}", computed.expr(state_exprs)),
            Self::Array(elements) => {
                f.write_str("[")?;
                for (at, element) in elements.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { "," })?;
                    element.print(state_exprs, f)?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (at, (name, member)) in members.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{}:", Value::from(&**name).to_json())?;
                    member.print(state_exprs, f)?;
                }
                f.write_str("}")
            }
        }
    }
}
