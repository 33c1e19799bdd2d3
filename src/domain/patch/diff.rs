//! The patches that lead from one document to another.

use super::{JsonPatch, Operation};
use crate::domain::value::{Object, Pointer, Value};

/// A patch that turns `a` into exactly `b`: number texts and member order too. Members are compared by name; arrays by
/// their common prefix and suffix, what is between by index.
#[must_use]
pub fn diff(a: &Value, b: &Value) -> JsonPatch {
    let mut difference = Difference { path: Pointer::default(), operations: Vec::new() };
    difference.values(a, b);
    JsonPatch { operations: difference.operations }
}

struct Difference {
    path: Pointer,
    operations: Vec<Operation>,
}

impl Difference {
    fn values(&mut self, a: &Value, b: &Value) {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => self.objects(a, b),
            (Value::Array(a), Value::Array(b)) => self.arrays(a, b),
            _ if a == b => {}
            _ => self.operations.push(Operation::Replace { path: self.path.clone(), value: b.clone() }),
        }
    }

    fn child(&self, token: impl Into<Box<str>>) -> Pointer {
        let mut path = self.path.clone();
        path.push(token);
        path
    }

    fn inside(&mut self, token: impl Into<Box<str>>, a: &Value, b: &Value) {
        self.path.push(token);
        self.values(a, b);
        self.path.pop();
    }

    fn objects(&mut self, a: &Object, b: &Object) {
        for name in a.keys().filter(|name| !b.contains_key(name)) {
            self.operations.push(Operation::Remove { path: self.child(name) });
        }
        // What is added comes last, so a member can only stay where it is if everything before it in `b` has stayed, in
        // the order of `a`. From the first that cannot, each is added or moved to the end.
        let mut common = a.keys().filter(|name| b.contains_key(name));
        let mut in_place = true;
        for (name, new) in b.iter() {
            let Some(old) = a.get(name) else {
                in_place = false;
                self.operations.push(Operation::Add { path: self.child(name), value: new.clone() });
                continue;
            };
            in_place = in_place && common.any(|earlier| earlier == name);
            if !in_place {
                let path = self.child(name);
                self.operations.push(Operation::Move { from: path.clone(), path });
            }
            self.inside(name, old, new);
        }
    }

    fn arrays(&mut self, a: &[Value], b: &[Value]) {
        let prefix = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let (a, b) = (&a[prefix..], &b[prefix..]);
        let suffix = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
        let (a, b) = (&a[..a.len() - suffix], &b[..b.len() - suffix]);
        let both = a.len().min(b.len());
        for (nth, (a, b)) in a.iter().zip(b).enumerate() {
            self.inside((prefix + nth).to_string(), a, b);
        }
        for nth in (both..a.len()).rev() {
            self.operations.push(Operation::Remove { path: self.child((prefix + nth).to_string()) });
        }
        for (nth, value) in b.iter().enumerate().skip(both) {
            let path = self.child((prefix + nth).to_string());
            self.operations.push(Operation::Add { path, value: value.clone() });
        }
    }
}

/// A merge patch that turns `a` into `b` but for member order, which merge patches cannot say. `None` if no merge patch
/// can: `b` has a null member that `a` has not.
#[must_use]
pub fn merge_diff(a: &Value, b: &Value) -> Option<Value> {
    let (Value::Object(a), Value::Object(b)) = (a, b) else {
        let expressible = !b.as_object().is_some_and(has_null_member);
        return expressible.then(|| b.clone());
    };
    let mut patch = Object::new();
    for name in a.keys().filter(|name| !b.contains_key(name)) {
        patch.insert(name, Value::Null);
    }
    for (name, new) in b.iter() {
        match a.get(name) {
            Some(old) if old == new => {}
            _ if new.is_null() => return None,
            Some(old) => drop(patch.insert(name, merge_diff(old, new)?)),
            None => drop(patch.insert(name, merge_diff(&Value::Null, new)?)),
        }
    }
    Some(Value::Object(patch))
}

/// Whether a member, at any depth that a merge patch looks at, is null.
fn has_null_member(object: &Object) -> bool {
    object.values().any(|value| value.is_null() || value.as_object().is_some_and(has_null_member))
}
