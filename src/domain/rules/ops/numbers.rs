//! Operations on numbers: `add`, `min`, `max`. A value of null is skipped before it comes here; a target of
//! null counts as missing.

use crate::domain::decimal::Decimal;
use crate::domain::expr::{noun, number_poison};
use crate::domain::number::Number;
use crate::domain::poison::{self, Poison};
use crate::domain::rules::journal::{Journal, Route};
use crate::domain::rules::template::Run;
use crate::domain::value::Value;
use std::borrow::Cow;

/// Adds to the number at the route; missing counts as 0.
pub(super) fn add<'a>(route: &Route, value: &Value, journal: &mut Journal<'_, 'a>) -> Result<(), Poison> {
    let Value::Number(number) = value else {
        return Err(Poison::new(poison::TYPE, format!("cannot add {}", noun(value))));
    };
    let summand = number.to_decimal().map_err(number_poison)?;
    let mut place = journal.walk(route)?;
    let sum = match &*place.value {
        Value::Null => Decimal::ZERO.checked_add(summand),
        Value::Number(present) => present.to_decimal().and_then(|present| present.checked_add(summand)),
        other => return Err(Poison::new(poison::TYPE, format!("cannot add to {}", noun(other)))),
    };
    place.set(Value::Number(Number::from(sum.map_err(number_poison)?)))
}

/// Keeps the larger, or the smaller, of two numbers or two texts; of equals the one that is there.
pub(super) fn keep<'a>(
    larger: bool,
    route: &Route,
    value: Cow<'a, Value>,
    journal: &mut Journal<'_, 'a>,
    run: &Run<'a>,
) -> Result<(), Poison> {
    if !matches!(&*value, Value::Number(_) | Value::String(_)) {
        return Err(Poison::new(poison::TYPE, format!("{} is neither a number nor a text", noun(&value))));
    }
    let mut place = journal.walk(route)?;
    let order = match (&*value, &*place.value) {
        (_, Value::Null) => None,
        (Value::Number(new), Value::Number(present)) => Some(new.cmp_value(present)),
        (Value::String(new), Value::String(present)) => Some(new.cmp(present)),
        (new, present) => {
            let detail = format!("cannot compare {} with {}", noun(new), noun(present));
            return Err(Poison::new(poison::TYPE, detail));
        }
    };
    let wins = order.is_none_or(|order| if larger { order.is_gt() } else { order.is_lt() });
    if wins { place.set(run.budget.own(value)?) } else { Ok(()) }
}
