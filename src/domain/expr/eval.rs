//! What an expression means. Values are borrowed from the event, the state and the expression as long as
//! possible: `$state.a.b` copies nothing.
//!
//! Where jq has no opinion or another one, API.md section 3 decides: numbers are decimals, and what jq
//! silently turns into something else is poison. Comparisons keep jq's order over all types: null, false,
//! true, numbers, texts (by code point), arrays, objects. INVARIANT: what one event may make is bounded by
//! its [`Budget`].

use super::{Ast, Comparison, Expr, Field, Operator, Step};
use crate::domain::decimal::Decimal;
use crate::domain::moment;
use crate::domain::number::{Number, NumberError};
use crate::domain::poison::{self, Poison};
use crate::domain::reducer::EventView;
use crate::domain::value::{Object, Value};
use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

/// What may still be copied or built for this event, in bytes of JSON.
#[derive(Debug)]
pub struct Budget(Cell<usize>);

/// What an expression can see.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `.` and `$event`.
    pub event: &'a EventView<'a>,
    /// `$state`: the state before the event.
    pub state: &'a Value,
    /// Shared by all expressions of the event.
    pub budget: &'a Budget,
}

type Evaluated<'a> = Result<Cow<'a, Value>, Poison>;

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }

    /// Takes `bytes` out of the budget.
    ///
    /// # Errors
    /// [`poison::SIZE`] if they are not there any more.
    pub fn spend(&self, bytes: usize) -> Result<(), Poison> {
        let Some(left) = self.0.get().checked_sub(bytes) else {
            return Err(Poison::new(poison::SIZE, "one event makes more bytes than the reducer allows"));
        };
        self.0.set(left);
        Ok(())
    }

    /// An owned copy, paid for.
    ///
    /// # Errors
    /// [`poison::SIZE`] if it is too large.
    pub fn own(&self, value: Cow<'_, Value>) -> Result<Value, Poison> {
        match value {
            Cow::Owned(value) => Ok(value),
            Cow::Borrowed(value) => {
                self.spend(value.json_len())?;
                Ok(value.clone())
            }
        }
    }
}

impl Expr {
    /// The value over the event's data.
    ///
    /// # Errors
    /// Poison where API.md section 3 says so.
    pub fn eval<'a>(&'a self, scope: &Scope<'a>) -> Evaluated<'a> {
        eval(&self.root, scope.event.data, scope)
    }
}

/// What is wrong with a number, as poison.
pub(crate) fn number_poison(error: NumberError) -> Poison {
    let code = match error {
        NumberError::DivisionByZero => poison::DIVISION,
        NumberError::Overflow => poison::OVERFLOW,
        NumberError::NotAnInteger | NumberError::Syntax => poison::TYPE,
    };
    Poison::new(code, error.to_string())
}

/// `a null`, `a text`, …: what messages call a value. Values themselves never enter messages.
pub(crate) fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn wrong_type(detail: String) -> Poison {
    Poison::new(poison::TYPE, detail)
}

/// Neither null nor false.
fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

fn owned<'a>(value: impl Into<Value>) -> Evaluated<'a> {
    Ok(Cow::Owned(value.into()))
}

fn eval<'a>(ast: &'a Ast, input: &'a Value, scope: &Scope<'a>) -> Evaluated<'a> {
    let truth = |ast: &'a Ast| Ok::<_, Poison>(is_true(&*eval(ast, input, scope)?));
    match ast {
        Ast::Constant(value) => Ok(Cow::Borrowed(value)),
        Ast::Input => Ok(Cow::Borrowed(input)),
        Ast::State => Ok(Cow::Borrowed(scope.state)),
        Ast::Event => Ok(Cow::Owned(whole_event(scope)?)),
        Ast::EventField(field) => Ok(Cow::Owned(event_field(*field, scope)?)),
        Ast::Path(base, steps) => path(eval(base, input, scope)?, steps, input, scope),
        Ast::Negate(operand) => match &*eval(operand, input, scope)? {
            Value::Number(number) => owned(-number.to_decimal().map_err(number_poison)?),
            other => Err(wrong_type(format!("cannot negate {}", noun(other)))),
        },
        Ast::Arithmetic(operator, a, b) => {
            arithmetic(*operator, eval(a, input, scope)?, eval(b, input, scope)?, scope)
        }
        Ast::Compare(comparison, a, b) => {
            owned(compare(*comparison, &*eval(a, input, scope)?, &*eval(b, input, scope)?))
        }
        Ast::And(a, b) => owned(truth(a)? && truth(b)?),
        Ast::Or(a, b) => owned(truth(a)? || truth(b)?),
        Ast::Alternative(a, b) => {
            let first = eval(a, input, scope)?;
            if is_true(&first) { Ok(first) } else { eval(b, input, scope) }
        }
        Ast::Pipe(a, b) => match eval(a, input, scope)? {
            Cow::Borrowed(value) => eval(b, value, scope),
            Cow::Owned(value) => {
                let result = scope.budget.own(eval(b, &value, scope)?)?;
                Ok(Cow::Owned(result))
            }
        },
        Ast::If(branches, otherwise) => {
            for (condition, branch) in branches {
                if truth(condition)? {
                    return eval(branch, input, scope);
                }
            }
            eval(otherwise, input, scope)
        }
        Ast::Concat(parts) => concat(parts, input, scope),
        Ast::Length => length(input),
        Ast::Has(key) => has(input, &*eval(key, input, scope)?),
        Ast::Not => owned(!is_true(input)),
    }
}

fn text_or_null(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

fn event_field(field: Field, scope: &Scope<'_>) -> Result<Value, Poison> {
    let event = scope.event;
    Ok(match field {
        Field::Type => Value::from(event.event_type),
        Field::Id => text_or_null(event.event_id),
        Field::Version => Value::from(event.version.0),
        Field::Time => Value::from(moment::format(event.time)),
        Field::Key => text_or_null(event.key),
        Field::Headers => {
            scope.budget.spend(event.headers.iter().map(|(name, _)| name.len() + 8).sum())?;
            // A repeated header: the last one counts, as in Kafka's own `lastHeader`.
            event
                .headers
                .iter()
                .map(|(name, text)| (name.clone(), text_or_null(text.as_deref())))
                .collect::<Object>()
                .into()
        }
    })
}

fn whole_event(scope: &Scope<'_>) -> Result<Value, Poison> {
    let mut members = Object::with_capacity(Field::ALL.len());
    for (name, field) in Field::ALL {
        members.insert(name, event_field(field, scope)?);
    }
    Ok(Value::Object(members))
}

fn path<'a>(base: Cow<'a, Value>, steps: &'a [Step], input: &'a Value, scope: &Scope<'a>) -> Evaluated<'a> {
    match base {
        Cow::Borrowed(value) => walk(value, steps, input, scope).map(Cow::Borrowed),
        Cow::Owned(value) => {
            let found = walk(&value, steps, input, scope)?;
            scope.budget.own(Cow::Borrowed(found)).map(Cow::Owned)
        }
    }
}

fn walk<'v>(
    mut value: &'v Value,
    steps: &[Step],
    input: &Value,
    scope: &Scope<'_>,
) -> Result<&'v Value, Poison> {
    for step in steps {
        value = match step {
            Step::Name(name) => member(value, name)?,
            Step::Index(index) => element(value, *index)?,
            Step::Computed(ast) => match &*eval(ast, input, scope)? {
                Value::String(name) => member(value, name)?,
                Value::Number(number) => element(value, index_of(number)?)?,
                Value::Null if value.is_null() => &Value::Null,
                other => return Err(wrong_type(format!("cannot read {} by {}", noun(value), noun(other)))),
            },
        };
    }
    Ok(value)
}

fn member<'v>(value: &'v Value, name: &str) -> Result<&'v Value, Poison> {
    match value {
        Value::Object(members) => Ok(members.get(name).unwrap_or(&Value::Null)),
        Value::Null => Ok(&Value::Null),
        other => Err(wrong_type(format!("cannot read a member of {}", noun(other)))),
    }
}

fn element(value: &Value, index: i64) -> Result<&Value, Poison> {
    match value {
        Value::Array(elements) => {
            let index = if index < 0 { index + elements.len().cast_signed() as i64 } else { index };
            let found = usize::try_from(index).ok().and_then(|index| elements.get(index));
            Ok(found.unwrap_or(&Value::Null))
        }
        Value::Null => Ok(&Value::Null),
        other => Err(wrong_type(format!("cannot read an element of {}", noun(other)))),
    }
}

/// An integer by value (`1.0` is one); one that no array can have is as good as the largest.
fn index_of(number: &Number) -> Result<i64, Poison> {
    if let Some(index) = number.as_i64() {
        return Ok(index.max(i64::MIN / 2));
    }
    let integer = number.to_decimal().map_err(number_poison)?.to_integer();
    let integer = integer.ok_or_else(|| wrong_type("an index with a fraction".to_owned()))?;
    Ok(i64::try_from(integer).unwrap_or(if integer < 0 { i64::MIN / 2 } else { i64::MAX }))
}

fn arithmetic<'a>(
    operator: Operator,
    a: Cow<'a, Value>,
    b: Cow<'a, Value>,
    scope: &Scope<'a>,
) -> Evaluated<'a> {
    match (operator, &*a, &*b) {
        (operator, Value::Number(a), Value::Number(b)) => {
            owned(compute(operator, a, b).map_err(number_poison)?)
        }
        (Operator::Add, Value::Null, _) => Ok(b),
        (Operator::Add, _, Value::Null) => Ok(a),
        (Operator::Add, Value::String(a), Value::String(b)) => {
            scope.budget.spend(a.len() + b.len())?;
            owned([&**a, &**b].concat())
        }
        (operator, a, b) => {
            let detail = format!("`{}` does not take {} and {}", operator.sign(), noun(a), noun(b));
            Err(wrong_type(detail))
        }
    }
}

fn compute(operator: Operator, a: &Number, b: &Number) -> Result<Decimal, NumberError> {
    let (a, b) = (a.to_decimal()?, b.to_decimal()?);
    match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => a.checked_div(b),
        Operator::Remainder => a.checked_rem(b),
    }
}

fn compare(comparison: Comparison, a: &Value, b: &Value) -> bool {
    match comparison {
        Comparison::Equal => a.eq_value(b),
        Comparison::Unequal => !a.eq_value(b),
        Comparison::Less => order(a, b).is_lt(),
        Comparison::LessOrEqual => order(a, b).is_le(),
        Comparison::Greater => order(a, b).is_gt(),
        Comparison::GreaterOrEqual => order(a, b).is_ge(),
    }
}

/// jq's total order. Objects: first their sorted names, then the values name by name.
pub(crate) fn order(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.cmp_value(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let first = a.iter().zip(b).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let sorted = |object: &'_ Object| {
                let mut names: Vec<Box<str>> = object.keys().map(Box::from).collect();
                names.sort_unstable();
                names
            };
            let (names, others) = (sorted(a), sorted(b));
            names.cmp(&others).then_with(|| {
                let values = names.iter().map(|name| match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => order(a, b),
                    _ => Ordering::Equal,
                });
                values.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
            })
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn concat<'a>(parts: &'a [Ast], input: &'a Value, scope: &Scope<'a>) -> Evaluated<'a> {
    let mut text = Vec::new();
    for part in parts {
        let value = eval(part, input, scope)?;
        match &*value {
            Value::String(part) => {
                scope.budget.spend(part.len())?;
                text.extend_from_slice(part.as_bytes());
            }
            other => {
                scope.budget.spend(other.json_len())?;
                other.write_json(&mut text);
            }
        }
    }
    owned(String::from_utf8(text).expect("texts and JSON are UTF-8"))
}

/// jq's: code points of a text, elements, members, 0 for null, a number without its sign.
fn length<'a>(input: &'a Value) -> Evaluated<'a> {
    let count = match input {
        Value::Null => 0,
        Value::String(text) => text.chars().count(),
        Value::Array(elements) => elements.len(),
        Value::Object(members) => members.len(),
        Value::Number(number) => {
            let mut text = Vec::new();
            number.write_to(&mut text);
            let Some(unsigned) = text.strip_prefix(b"-") else { return Ok(Cow::Borrowed(input)) };
            let unsigned = Number::parse(&String::from_utf8_lossy(unsigned));
            return owned(Value::Number(unsigned.expect("a number without its minus is one")));
        }
        Value::Bool(_) => return Err(wrong_type("a boolean has no length".to_owned())),
    };
    owned(count as u64)
}

fn has<'a>(input: &Value, key: &Value) -> Evaluated<'a> {
    match (input, key) {
        (Value::Object(members), Value::String(name)) => owned(members.contains_key(name)),
        (Value::Array(elements), Value::Number(number)) => {
            let index = index_of(number)?;
            owned(usize::try_from(index).is_ok_and(|index| index < elements.len()))
        }
        _ => Err(wrong_type(format!("{} cannot have {} as a key", noun(input), noun(key)))),
    }
}
