//! The leaves of a document, and which of them are new: what "who wrote this field last" and a difference in
//! the form of a tree are made of.
//!
//! A leaf is whatever holds nothing else: a text, a number, a boolean, null, an empty object, an empty array.
//! Old and new are compared by pointer, so an element inserted at the front of an array changes all behind
//! it. Numbers are compared by their text.
//!
//! COST: one walk over both documents; a path is only written down for a leaf that is handed out.

use super::pointer::array_index;
use super::{Pointer, Value};

/// A leaf and where it is.
pub type Leaf<'a> = (Pointer, &'a Value);

/// All leaves of a document that is itself at `at`, in the order in which they stand there.
#[must_use]
pub fn leaves<'a>(document: &'a Value, at: &Pointer) -> Vec<Leaf<'a>> {
    new_leaves(None, document, at)
}

/// The leaves of `new` that `old` has not, or has with another value. Both are at `at`.
#[must_use]
pub fn new_leaves<'a>(old: Option<&Value>, new: &'a Value, at: &Pointer) -> Vec<Leaf<'a>> {
    let mut walk = Walk { path: at.clone(), found: Vec::new() };
    walk.compare(old, new);
    walk.found
}

/// Whether a value holds nothing else.
#[must_use]
pub fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(array) => array.is_empty(),
        _ => true,
    }
}

struct Walk<'a> {
    path: Pointer,
    found: Vec<Leaf<'a>>,
}

impl<'a> Walk<'a> {
    fn compare(&mut self, old: Option<&Value>, new: &'a Value) {
        match new {
            Value::Object(object) if !object.is_empty() => {
                for (name, value) in object.iter() {
                    self.inside(name, old, value);
                }
            }
            Value::Array(array) if !array.is_empty() => {
                for (nth, value) in array.iter().enumerate() {
                    self.inside(&nth.to_string(), old, value);
                }
            }
            leaf if old != Some(leaf) => self.found.push((self.path.clone(), leaf)),
            _ => {}
        }
    }

    fn inside(&mut self, token: &str, old: Option<&Value>, new: &'a Value) {
        self.path.push(token);
        self.compare(old.and_then(|old| child(old, token)), new);
        self.path.pop();
    }
}

/// What a pointer's token leads to, whichever kind of container it is.
fn child<'v>(value: &'v Value, token: &str) -> Option<&'v Value> {
    match value {
        Value::Object(object) => object.get(token),
        Value::Array(array) => array.get(array_index(token)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::strategy::{documents, similar_documents};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn json(text: &str) -> Value {
        Value::parse(text.as_bytes(), &Limits::default()).expect("JSON")
    }

    fn written(leaves: &[Leaf<'_>]) -> Vec<String> {
        leaves.iter().map(|(path, value)| format!("{path} {}", value.to_json())).collect()
    }

    #[test]
    fn leaves_stand_in_the_order_of_the_document() {
        let document = json(r#"{"b":{"x/y":1,"e":{}},"a":[[],"t",null]}"#);
        assert_eq!(
            written(&leaves(&document, &Pointer::default())),
            ["/b/x~1y 1", "/b/e {}", "/a/0 []", "/a/1 \"t\"", "/a/2 null"]
        );
        assert_eq!(written(&leaves(&Value::Null, &Pointer::default())), [" null"]);
    }

    #[test]
    fn leaves_are_new_where_path_or_text_differ() {
        let old = json(r#"{"same":1.0,"text":1.0,"gone":2,"kind":{"a":1},"emptied":[1],"list":[1,2]}"#);
        let new = json(r#"{"same":1.0,"text":1.00,"kind":[1],"emptied":[],"list":[0,2,2],"fresh":{"a":{}}}"#);
        let found = written(&new_leaves(Some(&old), &new, &Pointer::default()));
        assert_eq!(
            found,
            ["/text 1.00", "/kind/0 1", "/emptied []", "/list/0 0", "/list/2 2", "/fresh/a {}"]
        );
        let part = Pointer::parse("/fresh").expect("a pointer");
        assert_eq!(written(&leaves(new.pointer(&part).expect("it is there"), &part)), ["/fresh/a {}"]);
        assert!(new_leaves(Some(&new), &new, &Pointer::default()).is_empty());
    }

    fn by_path(leaves: &[Leaf<'_>]) -> BTreeMap<String, String> {
        leaves.iter().map(|(path, leaf)| (path.to_string(), leaf.to_json())).collect()
    }

    /// Independent of the walk: all leaves of both as texts by path.
    fn naive(old: &Value, new: &Value) -> BTreeMap<String, String> {
        let root = Pointer::default();
        let (old, new) = (by_path(&leaves(old, &root)), by_path(&leaves(new, &root)));
        new.into_iter().filter(|(path, text)| old.get(path) != Some(text)).collect()
    }

    proptest! {
        #[test]
        fn new_leaves_are_those_whose_path_or_text_is_new(
            pair in prop_oneof![(similar_documents(), similar_documents()), (documents(), documents())],
        ) {
            let (old, new) = pair;
            let found = by_path(&new_leaves(Some(&old), &new, &Pointer::default()));
            prop_assert_eq!(found, naive(&old, &new));
        }

        #[test]
        fn every_leaf_is_at_its_path(document in documents()) {
            for (path, leaf) in leaves(&document, &Pointer::default()) {
                prop_assert!(is_leaf(leaf));
                prop_assert_eq!(document.pointer(&path), Some(leaf));
            }
        }
    }
}
