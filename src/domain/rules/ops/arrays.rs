//! Operations on arrays: `append`, `prepend`, `remove`, `keepLast`. The last two find nothing to do where
//! there is no array, and create none.

use crate::domain::expr::noun;
use crate::domain::poison::{self, Poison};
use crate::domain::rules::journal::{Journal, Route};
use crate::domain::rules::template::Run;
use crate::domain::value::Value;
use std::borrow::Cow;

/// One element more, at the end or at the start; missing counts as `[]`.
pub(super) fn add<'a>(
    route: &Route,
    value: Cow<'a, Value>,
    at_end: bool,
    journal: &mut Journal<'_, 'a>,
    run: &Run<'a>,
) -> Result<(), Poison> {
    let value = run.budget.own(value)?;
    journal.walk(route)?.add_element(value, at_end)
}

/// Removes the elements that equal the value, numbers by value.
pub(super) fn remove<'a>(route: &Route, value: &Value, journal: &mut Journal<'_, 'a>) -> Result<(), Poison> {
    match journal.find(route)? {
        Some(mut place) => place.retain(|_, element| !element.eq_value(value)),
        None => Ok(()),
    }
}

/// Truncates to the last elements.
pub(super) fn keep_last<'a>(
    route: &Route,
    count: &Value,
    journal: &mut Journal<'_, 'a>,
) -> Result<(), Poison> {
    let count = count_of(count)?;
    match journal.find(route)? {
        Some(mut place) => {
            let length = place.value.as_array().map_or(0, Vec::len);
            place.retain(|index, _| length - index <= count)
        }
        None => Ok(()),
    }
}

/// A whole number from 0.
pub(super) fn count_of(value: &Value) -> Result<usize, Poison> {
    let wrong = |what: &str| Poison::new(poison::TYPE, format!("{what} is not a number of elements to keep"));
    let Value::Number(number) = value else { return Err(wrong(noun(value))) };
    let integer = number.to_decimal().ok().and_then(|decimal| decimal.to_integer());
    match integer {
        Some(integer) if integer >= 0 => Ok(usize::try_from(integer).unwrap_or(usize::MAX)),
        _ => Err(wrong("a negative number or one with a fraction")),
    }
}
