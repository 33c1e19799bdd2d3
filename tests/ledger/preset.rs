//! RFC 7396 and RFC 6902 on `serde_json::Value`, with the order of members that a reader would expect. A
//! patch that fails leaves the state half changed: the caller throws it away.

use super::json::same;
use json_patch::jsonptr::PointerBuf;
use serde_json::{Map, Value};

/// RFC 7396, keeping the order of members (the `json-patch` crate's own merge swaps the last one in).
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let members = target.as_object_mut().expect("made an object above");
    for (name, value) in patch {
        if value.is_null() {
            members.shift_remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902 by the `json-patch` crate, one operation at a time.
pub(crate) fn patch(state: &mut Value, operations: Value) -> Option<()> {
    use json_patch as jp;
    let Value::Array(operations) = operations else { return None };
    for operation in operations {
        let Value::Object(mut operation) = operation else { return None };
        let pointer = |name: &str| PointerBuf::parse(operation.get(name)?.as_str()?.to_owned()).ok();
        let (path, from) = (pointer("path")?, pointer("from"));
        let name = operation.get("op")?.as_str()?.to_owned();
        let value = operation.shift_remove("value");
        let operation = match name.as_str() {
            "add" => jp::PatchOperation::Add(jp::AddOperation { path, value: value? }),
            "replace" => jp::PatchOperation::Replace(jp::ReplaceOperation { path, value: value? }),
            "remove" => {
                to_the_end(state, path.as_str());
                jp::PatchOperation::Remove(jp::RemoveOperation { path })
            }
            "move" => {
                let from = from?;
                if from == path {
                    state.pointer(path.as_str())?;
                    continue;
                }
                to_the_end(state, from.as_str());
                jp::PatchOperation::Move(jp::MoveOperation { from, path })
            }
            "copy" => jp::PatchOperation::Copy(jp::CopyOperation { from: from?, path }),
            "test" => {
                // The crate compares the text of numbers, RFC 6902 their value.
                same(state.pointer(path.as_str())?, &value?).then_some(())?;
                continue;
            }
            _ => return None,
        };
        jp::patch_unsafe(state, std::slice::from_ref(&operation)).ok()?;
    }
    Some(())
}

/// Makes a member the last of its object: the crate's removal would else move the last one into its place.
fn to_the_end(state: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    if let Some(Value::Object(members)) = state.pointer_mut(parent)
        && let Some(value) = members.shift_remove(&name)
    {
        members.insert(name, value);
    }
}
