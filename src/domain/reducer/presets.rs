//! Reducers without rules: the event's data is the state, a merge patch of it, or a JSON patch of it. A state
//! of null is a deletion.

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
}

impl Preset {
    /// The preset as the config names it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Merge, Self::Replace, Self::JsonPatch].into_iter().find(|preset| preset.name() == name)
    }

    /// `merge`, `replace` or `json-patch`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Replace => "replace",
            Self::JsonPatch => "json-patch",
        }
    }
}

impl Reducer for Preset {
    fn initial(&self) -> Value {
        match self {
            Self::Merge => Value::Object(Object::new()),
            Self::Replace | Self::JsonPatch => Value::Null,
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
