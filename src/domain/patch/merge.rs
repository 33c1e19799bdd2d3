//! RFC 7396 merge patches: the members of an object patch replace those of the target, null removes, anything else
//! replaces the whole. The result is at most as large as target and patch together, and no deeper than the deeper one.

use crate::domain::value::{Object, Value};

/// Merges `patch` into `target`, taking its values.
pub fn merge_owned(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    let members = become_object(target);
    for (name, value) in patch {
        match value {
            Value::Null => drop(members.remove(&name)),
            Value::Object(_) => merge_owned(members.get_or_insert_with(&name, Value::default), value),
            _ => drop(members.insert(name, value)),
        }
    }
}

/// Merges `patch` into `target`, copying its values.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    let members = become_object(target);
    for (name, value) in patch.iter() {
        match value {
            Value::Null => drop(members.remove(name)),
            _ => merge(members.get_or_insert_with(name, Value::default), value),
        }
    }
}

/// The members of the target, which is an empty object if it was none.
fn become_object(target: &mut Value) -> &mut Object {
    if !matches!(target, Value::Object(_)) {
        *target = Value::Object(Object::new());
    }
    target.as_object_mut().expect("it has just been made an object")
}
