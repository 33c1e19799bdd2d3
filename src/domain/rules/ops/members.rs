//! Operations on members and entries: `set`, `merge`, `mergeAt`, `upsert`.

use super::{Upsert, Verb};
use crate::domain::expr::noun;
use crate::domain::poison::{self, Poison};
use crate::domain::rules::journal::{Journal, Route};
use crate::domain::rules::template::Run;
use crate::domain::value::Value;
use std::borrow::Cow;

/// Assigns, null too.
pub(super) fn set<'a>(
    route: &Route,
    value: Cow<'a, Value>,
    journal: &mut Journal<'_, 'a>,
    run: &Run<'a>,
) -> Result<(), Poison> {
    let value = run.budget.own(value)?;
    journal.walk(route)?.set(value)
}

/// Merges into the object at the route. A patch that is no object would replace the target, which is a wrong
/// type here.
pub(super) fn merge<'a>(
    route: &Route,
    patch: Cow<'a, Value>,
    journal: &mut Journal<'_, 'a>,
    run: &Run<'a>,
) -> Result<(), Poison> {
    let Value::Object(members) = &*patch else {
        return Err(Poison::new(poison::TYPE, format!("{} is no merge patch of an object", noun(&patch))));
    };
    run.budget.spend(patch.json_len())?;
    journal.merge(route, members)
}

/// Creates the entry if it is missing or null, then applies `set` and `add` inside it.
pub(super) fn upsert<'a>(
    upsert: &'a Upsert,
    journal: &mut Journal<'_, 'a>,
    run: &mut Run<'a>,
) -> Result<(), Poison> {
    let Upsert { at, new, set, add } = upsert;
    let context = |poison: Poison| poison.context(&format!("`upsert` at `{at}`"));
    let route = at.resolve(0..0, journal, run).map_err(context)?;
    let mut place = journal.walk(&route).map_err(context)?;
    if place.value.is_null() {
        let value = run.owned(new).map_err(context)?;
        if !matches!(value, Value::Object(_)) {
            return Err(context(Poison::new(
                poison::TYPE,
                format!("`new` is {}, not an object", noun(&value)),
            )));
        }
        place.set(value).map_err(context)?;
    } else if !matches!(place.value, Value::Object(_)) {
        return Err(context(Poison::new(poison::TYPE, format!("the entry is {}", noun(place.value)))));
    }
    set.iter().try_for_each(|pair| Verb::Set.apply(pair, route.clone(), journal, run)).map_err(context)?;
    add.iter().try_for_each(|pair| Verb::Add.apply(pair, route.clone(), journal, run)).map_err(context)
}
