//! Rules: a reducer written in the config (API.md section 3). Operations run in the order written, the type's
//! own before those of `"*"`; if one fails, none has happened.
//!
//! | file | owns |
//! |---|---|
//! | [`check`] | the tests of the config: `given` these events, `then` this state |
//! | [`journal`] | the state while it is changed, and the way back |
//! | [`ops`] | the operations |
//! | [`path`] | paths on the left side |
//! | [`template`] | values on the right side |

pub mod check;
mod journal;
mod ops;
mod path;
mod template;
#[cfg(test)]
mod tests;

use crate::domain::expr::{Budget, Expr};
use crate::domain::poison::Poison;
use crate::domain::reducer::{APPLY_BYTES_MAX, EventView, Outcome, Reducer, TOMBSTONE};
use crate::domain::source::{Node, Problem};
use crate::domain::value::{Object, Value};
use journal::Journal;
use ops::{Next, Op};
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result as Formatted};
use template::{Compiler, Run};

/// The rules of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    init: Value,
    on: BTreeMap<Box<str>, Rule>,
    /// The rule of `"*"`.
    any: Option<Rule>,
    /// Length of the canonical text.
    text_bytes: usize,
    /// Some rule reads `$state`.
    reads_state: bool,
}

/// Bytes of JSON that a number takes at the most, with what stands around it.
const NUMBER_BYTES: usize = 64;

/// The operations for one event type.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    ops: Vec<Op>,
    /// Its expressions that read `$state`.
    state_exprs: Vec<Expr>,
}

impl Rules {
    /// Reads `{ init: …, on: { TYPE: [ operation, … ], … } }`; without `init` the state starts as `{}`.
    ///
    /// # Errors
    /// All problems, each with its place and a hint.
    pub fn parse(node: &Node) -> Result<Self, Vec<Problem>> {
        let mut compiler = Compiler::default();
        for (key, _) in node.members().unwrap_or_default() {
            let name = key.text().unwrap_or_default();
            if !["init", "on"].contains(&name) {
                let hint =
                    "a reducer of rules has `init` and `on`; operations go below an event type in `on`";
                compiler.problem(Problem::new(key.span, format!("a reducer has no `{name}`"), hint));
            }
        }
        let init = node.get("init").map_or_else(|| Value::Object(Object::new()), Node::to_value);
        let mut rules = Self { init, on: BTreeMap::new(), any: None, text_bytes: 0, reads_state: false };
        match node.get("on").map(|on| (on, on.members())) {
            Some((_, Some(members))) => {
                for (key, node) in members {
                    rules.read(key, node, &mut compiler);
                }
            }
            Some((on, None)) => {
                let message = format!("`on` is {}", on.noun());
                compiler.problem(Problem::new(on.span, message, "write `on: { TYPE: [ operation, … ] }`"));
            }
            None => {
                let hint = "write `on: { TYPE: [ operation, … ] }`";
                compiler.problem(Problem::new(node.span, "a reducer without `on`", hint));
            }
        }
        rules.text_bytes = rules.to_string().len();
        rules.reads_state = rules.on.values().chain(&rules.any).any(|rule| !rule.state_exprs.is_empty());
        if compiler.problems.is_empty() { Ok(rules) } else { Err(compiler.problems) }
    }

    fn read(&mut self, key: &Node, node: &Node, compiler: &mut Compiler) {
        let event_type = key.text().unwrap_or_default();
        if event_type == TOMBSTONE {
            let message = format!("`{TOMBSTONE}` always deletes");
            compiler.problem(Problem::new(key.span, message, "remove its rule"));
        }
        let Some(items) = node.elements() else {
            let message = format!("the rule of `{event_type}` is {}", node.noun());
            compiler.problem(Problem::new(node.span, message, "write a list of operations"));
            return;
        };
        let ops = items.iter().filter_map(|item| Op::parse(item, compiler)).collect();
        let rule = Rule { ops, state_exprs: std::mem::take(&mut compiler.state_exprs) };
        if event_type == "*" {
            self.any = Some(rule);
        } else {
            self.on.insert(event_type.into(), rule);
        }
    }
}

impl Rule {
    fn apply<'a>(&'a self, journal: &mut Journal<'_, 'a>, run: &mut Run<'a>) -> Result<Next, Poison> {
        for op in &self.ops {
            if op.apply(journal, run)? == Next::Deleted {
                return Ok(Next::Deleted);
            }
        }
        Ok(Next::GoOn)
    }
}

impl Reducer for Rules {
    fn initial(&self) -> Value {
        self.init.clone()
    }

    fn apply(&self, state: &mut Value, event: &EventView<'_>) -> Result<Outcome, Poison> {
        if event.event_type == TOMBSTONE {
            return Ok(Outcome::Deleted);
        }
        let own = self.on.get(event.event_type);
        if own.is_none() && self.any.is_none() {
            return Ok(Outcome::NoRule);
        }
        let budget = Budget::new(APPLY_BYTES_MAX);
        let prepare = |rule: &'_ Rule| Run::new(event, &budget, state, &rule.state_exprs);
        let runs = [own, self.any.as_ref()].map(|rule| rule.map(|rule| (rule, prepare(rule))));
        let before = cfg!(debug_assertions).then(|| state.json_len());
        let mut journal = Journal::new(state);
        for (rule, mut run) in runs.into_iter().flatten() {
            match rule.apply(&mut journal, &mut run) {
                Ok(Next::GoOn) => {}
                Ok(Next::Deleted) => return Ok(Outcome::Deleted),
                Err(poison) => {
                    journal.roll_back();
                    return Err(poison);
                }
            }
        }
        let unchanged = journal.is_empty();
        let growth = journal.commit();
        if let Some(before) = before {
            let after = before.checked_add_signed(growth);
            assert_eq!(after, Some(state.json_len()), "the journal counts every byte");
        }
        Ok(if unchanged { Outcome::Unchanged } else { Outcome::Changed { growth } })
    }

    /// Every byte of the rules' text can stand for one copy of the event at the most (and of the state, where
    /// rules read it), each twice as long where it is quoted inside a text.
    fn growth_bound(&self, state_bytes: usize, event_bytes: usize, _event: &EventView<'_>) -> usize {
        let source = event_bytes + NUMBER_BYTES + if self.reads_state { state_bytes } else { 0 };
        self.text_bytes.saturating_mul(2).saturating_mul(source)
    }

    fn fingerprint_text(&self) -> String {
        self.to_string()
    }
}

/// The canonical text. The order of members in `init` counts (states keep it), that of the event types does
/// not.
impl Display for Rules {
    fn fmt(&self, f: &mut Formatter<'_>) -> Formatted {
        writeln!(f, "rules 1\ninit {}", self.init.to_json())?;
        let any = self.any.as_ref().map(|rule| ("*", rule));
        for (event_type, rule) in self.on.iter().map(|(name, rule)| (&**name, rule)).chain(any) {
            writeln!(f, "on {}", Value::from(event_type).to_json())?;
            for op in &rule.ops {
                op.print(&rule.state_exprs, f)?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
