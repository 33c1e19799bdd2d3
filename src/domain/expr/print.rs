//! The canonical text of an expression: one spelling per meaning of the tree, whatever blanks, quotes and
//! brackets the author used. It goes into the fingerprint, so changing it changes every lineage.

use super::{Ast, Expr, Step};
use crate::domain::value::Value;
use std::fmt::{Display, Formatter, Result};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.root.fmt(f)
    }
}

impl Display for Ast {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Constant(value) => f.write_str(&value.to_json()),
            Self::Input => f.write_str("."),
            Self::State => f.write_str("$state"),
            Self::Event => f.write_str("$event"),
            Self::EventField(field) => write!(f, "$event.{}", field.name()),
            Self::Path(base, steps) => {
                base.fmt(f)?;
                steps.iter().try_for_each(|step| match step {
                    Step::Name(name) => write!(f, "[{}]", Value::String(name.clone()).to_json()),
                    Step::Index(index) => write!(f, "[{index}]"),
                    Step::Computed(inner) => write!(f, "[{inner}]"),
                })
            }
            Self::Negate(operand) => write!(f, "(-{operand})"),
            Self::Arithmetic(operator, a, b) => write!(f, "({a} {} {b})", operator.sign()),
            Self::Compare(comparison, a, b) => write!(f, "({a} {} {b})", comparison.sign()),
            Self::And(a, b) => write!(f, "({a} and {b})"),
            Self::Or(a, b) => write!(f, "({a} or {b})"),
            Self::Alternative(a, b) => write!(f, "({a} // {b})"),
            Self::Pipe(a, b) => write!(f, "({a} | {b})"),
            Self::If(branches, otherwise) => {
                f.write_str("(")?;
                for (at, (condition, branch)) in branches.iter().enumerate() {
                    write!(f, "{}if {condition} then {branch} ", if at == 0 { "" } else { "el" })?;
                }
                write!(f, "else {otherwise} end)")
            }
            Self::Concat(parts) => {
                f.write_str("\"")?;
                for part in parts {
                    match part {
                        Self::Constant(text @ Value::String(_)) => {
                            let json = text.to_json();
                            f.write_str(&json[1..json.len() - 1])?;
                        }
                        hole => write!(f, "\\({hole})")?,
                    }
                }
                f.write_str("\"")
            }
            Self::Length => f.write_str("length"),
            Self::Has(key) => write!(f, "has({key})"),
            Self::Not => f.write_str("not"),
        }
    }
}
