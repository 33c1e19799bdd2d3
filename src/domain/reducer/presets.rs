//! Reducers without rules: the event's data is the state, a merge patch of it, a JSON patch of it, or a row
//! change with the row before and after. A state of null is a deletion.

use super::{APPLY_BYTES_MAX, EventView, Outcome, Reducer, STATE_DEPTH_MAX, TOMBSTONE};
use crate::domain::patch::{Budget, JsonPatch, PatchError, merge};
use crate::domain::poison::{self, Poison};
use crate::domain::value::{Object, Value};

/// A reducer that is only a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The data is an RFC 7396 patch of the state, which starts as `{}`.
    Merge,
    /// The data is the state.
    Replace,
    /// The data is an RFC 6902 patch of the state, which starts as null.
    JsonPatch,
    /// The data is a row change as Debezium writes it; the state is the row.
    Debezium,
}

/// What stands for a column that a change leaves as it was, where the database does not tell its value: as
/// text, and as Base64 for columns of bytes.
const UNAVAILABLE: [&str; 2] = ["__debezium_unavailable_value", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="];

impl Preset {
    /// The preset as the config names it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Merge, Self::Replace, Self::JsonPatch, Self::Debezium]
            .into_iter()
            .find(|preset| preset.name() == name)
    }

    /// `merge`, `replace`, `json-patch` or `debezium`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Replace => "replace",
            Self::JsonPatch => "json-patch",
            Self::Debezium => "debezium",
        }
    }
}

impl Reducer for Preset {
    fn initial(&self) -> Value {
        match self {
            Self::Merge => Value::Object(Object::new()),
            Self::Replace | Self::JsonPatch | Self::Debezium => Value::Null,
        }
    }

    fn apply(&self, state: &mut Value, event: &EventView<'_>) -> Result<Outcome, Poison> {
        if event.event_type == TOMBSTONE {
            return Ok(Outcome::Deleted);
        }
        let len = |value: &Value| value.json_len().cast_signed();
        // What a patch adds stands in it, unless it copies from the state.
        let mut growth = len(event.data);
        match self {
            Self::Merge => merge(state, event.data),
            Self::Replace => {
                growth -= len(state);
                state.clone_from(event.data);
            }
            Self::JsonPatch => {
                let before = copies(event.data).then(|| len(state));
                let budget = Budget { max_bytes: APPLY_BYTES_MAX, max_depth: STATE_DEPTH_MAX };
                let faulty =
                    |error: PatchError| Poison::new(poison::PATCH, format!("apply JSON patch: {error}"));
                JsonPatch::parse(event.data).map_err(faulty)?.apply(state, &budget).map_err(faulty)?;
                growth = before.map_or(growth, |before| len(state) - before);
            }
            Self::Debezium => match changed_row(state, event.data)? {
                None => return Ok(Outcome::Deleted),
                Some(row) => {
                    growth = len(&row) - len(state);
                    *state = row;
                }
            },
        }
        Ok(if state.is_null() { Outcome::Deleted } else { Outcome::Changed { growth } })
    }

    fn growth_bound(&self, _state_bytes: usize, event_bytes: usize, event: &EventView<'_>) -> usize {
        match event.data {
            data if *self == Self::JsonPatch && copies(data) => APPLY_BYTES_MAX,
            // A text may come from `const:`, or from a key or header, where nothing in it was escaped.
            Value::String(_) => event.data.json_len(),
            _ => event_bytes,
        }
    }

    fn fingerprint_text(&self) -> String {
        self.name().to_owned()
    }
}

/// Whether a JSON patch copies values of the state.
fn copies(patch: &Value) -> bool {
    let copies = |operation: &Value| operation.get("op").and_then(Value::as_str) == Some("copy");
    patch.as_array().is_some_and(|operations| operations.iter().any(copies))
}

/// The row after a change; none if it is gone.
fn changed_row(former: &Value, change: &Value) -> Result<Option<Value>, Poison> {
    match change.get("op").and_then(Value::as_str) {
        Some("c" | "u" | "r") => {}
        Some("d") => return Ok(None),
        _ => return Err(Poison::new(poison::TYPE, "the data is no row change: `op` is none of c, u, d, r")),
    }
    let Some(Value::Object(after)) = change.get("after") else {
        return Err(Poison::new(poison::TYPE, "a row change without an object `after`"));
    };
    let mut row = after.clone();
    for (name, column) in row.iter_mut().filter(|(_, column)| is_unavailable(column)) {
        let known = [Some(former), change.get("before")].into_iter().flatten();
        let mut known = known.filter_map(|row| row.get(name)).filter(|column| !is_unavailable(column));
        // Nobody knows what never was told: then the row says so.
        if let Some(value) = known.next() {
            column.clone_from(value);
        }
    }
    Ok(Some(Value::Object(row)))
}

/// A column of which only its type is known: a text, an array of one such text, a map with one such name.
fn is_unavailable(column: &Value) -> bool {
    match column {
        Value::String(text) => UNAVAILABLE.contains(&&**text),
        Value::Array(elements) => {
            matches!(&elements[..], [Value::String(text)] if UNAVAILABLE.contains(&&**text))
        }
        Value::Object(members) => {
            members.len() == 1 && members.keys().all(|name| UNAVAILABLE.contains(&name))
        }
        _ => false,
    }
}
