//! Patches against the `json-patch` crate and the examples of RFC 6902 appendix A and RFC 7396 appendix A.

use super::*;
use crate::domain::value::Limits;
use crate::domain::value::strategy::{documents, similar_documents};
use proptest::collection::vec;
use proptest::prelude::*;

fn json(text: &str) -> Value {
    Value::parse(text.as_bytes(), &Limits::default()).unwrap()
}

/// Applies a patch; checks that a failure leaves the document as it was.
fn patched(document: &str, patch: &str) -> Result<String, PatchFault> {
    let mut target = json(document);
    let patch = JsonPatch::parse(&json(patch)).map_err(|error| error.fault)?;
    let result = patch.apply(&mut target, &Budget::default());
    if result.is_err() {
        assert_eq!(target, json(document));
    }
    result.map(|()| target.to_json()).map_err(|error| error.fault)
}

#[test]
fn the_examples_of_rfc_6902_appendix_a_hold() {
    for (document, patch, expected) in [
        (r#"{"foo":"bar"}"#, r#"[{"op":"add","path":"/baz","value":"qux"}]"#, r#"{"foo":"bar","baz":"qux"}"#),
        (
            r#"{"foo":["bar","baz"]}"#,
            r#"[{"op":"add","path":"/foo/1","value":"qux"}]"#,
            r#"{"foo":["bar","qux","baz"]}"#,
        ),
        (r#"{"baz":"qux","foo":"bar"}"#, r#"[{"op":"remove","path":"/baz"}]"#, r#"{"foo":"bar"}"#),
        (
            r#"{"foo":["bar","qux","baz"]}"#,
            r#"[{"op":"remove","path":"/foo/1"}]"#,
            r#"{"foo":["bar","baz"]}"#,
        ),
        (
            r#"{"baz":"qux","foo":"bar"}"#,
            r#"[{"op":"replace","path":"/baz","value":"boo"}]"#,
            r#"{"baz":"boo","foo":"bar"}"#,
        ),
        (
            r#"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}"#,
            r#"[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]"#,
            r#"{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}"#,
        ),
        (
            r#"{"foo":["all","grass","cows","eat"]}"#,
            r#"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
            r#"{"foo":["all","cows","eat","grass"]}"#,
        ),
        (
            r#"{"baz":"qux","foo":["a",2,"c"]}"#,
            r#"[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]"#,
            r#"{"baz":"qux","foo":["a",2,"c"]}"#,
        ),
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/child","value":{"grandchild":{}}}]"#,
            r#"{"foo":"bar","child":{"grandchild":{}}}"#,
        ),
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/baz","value":"qux","xyz":123}]"#,
            r#"{"foo":"bar","baz":"qux"}"#,
        ),
        (r#"{"/":9,"~1":10}"#, r#"[{"op":"test","path":"/~01","value":10}]"#, r#"{"/":9,"~1":10}"#),
        (
            r#"{"foo":["bar"]}"#,
            r#"[{"op":"add","path":"/foo/-","value":["abc","def"]}]"#,
            r#"{"foo":["bar",["abc","def"]]}"#,
        ),
    ] {
        assert_eq!(patched(document, patch).as_deref(), Ok(expected), "{patch}");
    }
}

#[test]
fn operations_that_cannot_be_done_fail_and_leave_no_trace() {
    use PatchFault::*;
    for (document, operation, fault) in [
        (r#"{"baz":"qux"}"#, r#"{"op":"test","path":"/baz","value":"bar"}"#, TestFailed),
        (r#"{"foo":"bar"}"#, r#"{"op":"add","path":"/baz/bat","value":"qux"}"#, NotFound),
        (r#"{"/":9,"~1":10}"#, r#"{"op":"test","path":"/~01","value":"10"}"#, TestFailed),
        ("[1]", r#"{"op":"add","path":"/2","value":0}"#, BadIndex),
        ("[1]", r#"{"op":"add","path":"/01","value":0}"#, BadIndex),
        ("[1]", r#"{"op":"add","path":"/a","value":0}"#, BadIndex),
        ("[1]", r#"{"op":"remove","path":"/-"}"#, BadIndex),
        ("[1]", r#"{"op":"remove","path":"/1"}"#, BadIndex),
        ("[1]", r#"{"op":"replace","path":"/1","value":0}"#, NotFound),
        ("1", r#"{"op":"add","path":"/1","value":0}"#, NotFound),
        ("{}", r#"{"op":"replace","path":"/a","value":0}"#, NotFound),
        ("{}", r#"{"op":"remove","path":"/a"}"#, NotFound),
        ("{}", r#"{"op":"remove","path":""}"#, RemovesRoot),
        ("{}", r#"{"op":"test","path":"/a","value":null}"#, NotFound),
        ("{}", r#"{"op":"copy","from":"/a","path":"/b"}"#, NotFound),
        ("{}", r#"{"op":"move","from":"/a","path":"/a"}"#, NotFound),
        (r#"{"a":{"b":1}}"#, r#"{"op":"move","from":"/a","path":"/a/c"}"#, IntoItself),
        (r#"{"a":{"b":1}}"#, r#"{"op":"move","from":"","path":"/c"}"#, IntoItself),
        (r#"{"a":1,"b":[]}"#, r#"{"op":"move","from":"/a","path":"/b/1"}"#, BadIndex),
        (r#"[{"a":1},2]"#, r#"{"op":"move","from":"/0","path":"/2"}"#, BadIndex),
    ] {
        // The operations before the failing one have to be undone too.
        let before = r#"{"op":"add","path":"","value":[0]},{"op":"add","path":"/0","value":{"x":1}},
            {"op":"move","from":"/0/x","path":"/1"},{"op":"remove","path":"/0"},
            {"op":"copy","from":"","path":"/-"}"#;
        let restore = format!(r#"{{"op":"replace","path":"","value":{document}}}"#);
        assert_eq!(patched(document, &format!("[{operation}]")), Err(fault), "{operation}");
        assert_eq!(
            patched(document, &format!("[{before},{restore},{operation}]")),
            Err(fault),
            "{operation}"
        );
    }
}

#[test]
fn what_is_not_a_patch_is_refused_by_operation() {
    use PatchFault::*;
    for (patch, fault) in [
        ("{}", NotAnArray),
        ("[1]", NotAnObject),
        (r#"[{"path":"/a"}]"#, UnknownOp),
        (r#"[{"op":"spam","path":"/a"}]"#, UnknownOp),
        (r#"[{"op":"remove"}]"#, NoPointer),
        (r#"[{"op":"remove","path":1}]"#, NoPointer),
        (r#"[{"op":"move","path":"/a"}]"#, NoPointer),
        (r#"[{"op":"remove","path":"a"}]"#, Pointer(PointerError::NoSlash)),
        (r#"[{"op":"add","path":"/a"}]"#, NoValue),
    ] {
        assert_eq!(patched("{}", patch), Err(fault), "{patch}");
    }
    let second = JsonPatch::parse(&json(r#"[{"op":"remove","path":"/a"},{"op":"add","path":"/a"}]"#));
    assert_eq!(second.unwrap_err().to_string(), "operation `1`: `value` is missing");
}

#[test]
fn tests_compare_by_value_and_values_keep_their_text() {
    let patch =
        r#"[{"op":"test","path":"/a","value":{"y":1,"x":2.0}},{"op":"replace","path":"/b","value":1.10}]"#;
    assert_eq!(
        patched(r#"{"a":{"x":2,"y":1.00},"b":0}"#, patch).as_deref(),
        Ok(r#"{"a":{"x":2,"y":1.00},"b":1.10}"#)
    );
}

#[test]
fn copies_cannot_grow_a_document_without_bound() {
    let doubling = json(r#"[{"op":"copy","from":"","path":"/a"},{"op":"copy","from":"","path":"/b"}]"#);
    let mut patch = JsonPatch::parse(&doubling).unwrap();
    patch.operations = patch.operations.into_iter().cycle().take(200).collect();
    let mut target = json("{}");
    let error = patch.apply(&mut target, &Budget { max_bytes: 1 << 20, max_depth: 1 << 20 }).unwrap_err();
    assert_eq!((error.fault, target.to_json().as_str()), (PatchFault::TooLarge, "{}"));
    let error = patch.apply(&mut target, &Budget { max_bytes: usize::MAX, max_depth: 20 }).unwrap_err();
    assert_eq!((error.fault, target.to_json().as_str()), (PatchFault::TooDeep, "{}"));
}

#[test]
fn moves_cannot_nest_deeper_than_the_budget() {
    let patch = r#"[{"op":"move","from":"/b","path":"/a/b"},{"op":"add","path":"/b","value":[1]}]"#;
    let patch = JsonPatch::parse(&json(patch)).unwrap();
    let apply =
        |max_depth| patch.apply(&mut json(r#"{"a":{},"b":[[]]}"#), &Budget { max_bytes: 100, max_depth });
    assert_eq!(apply(4), Ok(()));
    assert_eq!(apply(3), Err(PatchError { operation: 0, fault: PatchFault::TooDeep }));
}

#[test]
fn the_budget_of_bytes_is_exact() {
    let patch = JsonPatch::parse(&json(r#"[{"op":"add","path":"/a","value":[1,2]}]"#)).unwrap();
    let apply = |max_bytes| patch.apply(&mut json("{}"), &Budget { max_bytes, max_depth: 9 }).is_ok();
    assert!(apply(5) && !apply(4));
}

#[test]
fn the_examples_of_rfc_7396_appendix_a_hold() {
    for (target, patch, expected) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null", "null"),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
    ] {
        let (mut copied, mut owned) = (json(target), json(target));
        merge(&mut copied, &json(patch));
        merge_owned(&mut owned, json(patch));
        assert_eq!(
            (copied.to_json().as_str(), owned.to_json().as_str()),
            (expected, expected),
            "{target} {patch}"
        );
    }
}

#[test]
fn differences_name_only_what_differs() {
    let difference = |a, b| diff(&json(a), &json(b)).to_value().to_json();
    assert_eq!(difference(r#"{"a":[1,2,3]}"#, r#"{"a":[1,2,3]}"#), "[]");
    assert_eq!(
        difference(r#"{"a":[1,2,3]}"#, r#"{"a":[1,9,2,3]}"#),
        r#"[{"op":"add","path":"/a/1","value":9}]"#
    );
    assert_eq!(difference(r#"{"a":[1,2,3]}"#, r#"{"a":[1,3]}"#), r#"[{"op":"remove","path":"/a/1"}]"#);
    assert_eq!(
        difference(r#"{"a":1,"b":{"c":2}}"#, r#"{"a":1,"b":{"c":2.0}}"#),
        r#"[{"op":"replace","path":"/b/c","value":2.0}]"#
    );
    assert_eq!(
        difference(r#"{"a":1,"b":2}"#, r#"{"b":2,"c/d":3}"#),
        r#"[{"op":"remove","path":"/a"},{"op":"add","path":"/c~1d","value":3}]"#
    );
    assert_eq!(
        difference(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
        r#"[{"op":"move","from":"/a","path":"/a"}]"#
    );
    assert_eq!(
        merge_diff(&json(r#"{"a":1,"b":{"c":2,"d":3}}"#), &json(r#"{"b":{"c":4,"d":3}}"#)).unwrap().to_json(),
        r#"{"a":null,"b":{"c":4}}"#
    );
    assert_eq!(merge_diff(&json("{}"), &json(r#"{"a":{"b":null}}"#)), None);
    assert_eq!(
        merge_diff(&json(r#"{"a":null}"#), &json(r#"{"a":null,"b":[null]}"#)).unwrap().to_json(),
        r#"{"b":[null]}"#
    );
}

/// Paths that often exist in similar documents: short, with few names and indexes.
fn pointers() -> impl Strategy<Value = Pointer> {
    vec(prop::sample::select(vec!["", "a", "b", "c", "/", "~", "0", "1", "2", "-"]), 0..4)
        .prop_map(Pointer::from_iter)
}

/// Members of two wide objects.
fn wide_pointers() -> impl Strategy<Value = Pointer> {
    (0..20_usize, 0..40_usize).prop_map(|(object, member)| match object {
        0 => Pointer::from_iter(["z"]),
        1 => Pointer::from_iter(["x"]),
        _ => Pointer::from_iter([["x", "y"][object % 2].to_owned(), member.to_string()]),
    })
}

fn operations(pointers: BoxedStrategy<Pointer>) -> impl Strategy<Value = Operation> {
    let pointers = || pointers.clone();
    prop_oneof![
        3 => (pointers(), similar_documents()).prop_map(|(path, value)| Operation::Add { path, value }),
        2 => pointers().prop_map(|path| Operation::Remove { path }),
        1 => (pointers(), similar_documents()).prop_map(|(path, value)| Operation::Replace { path, value }),
        3 => (pointers(), pointers()).prop_map(|(from, path)| Operation::Move { from, path }),
        2 => (pointers(), pointers()).prop_map(|(from, path)| Operation::Copy { from, path }),
        1 => (pointers(), similar_documents()).prop_map(|(path, value)| Operation::Test { path, value }),
    ]
}

fn theirs(value: &Value) -> serde_json::Value {
    serde_json::from_str(&value.to_json()).unwrap()
}

/// Method: apply operations one by one, dropping those that fail, so that long patches are exercised; each is
/// compared with `json-patch`, then the whole with a failing operation at its end must change nothing.
fn agrees_with_json_patch(start: Value, operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let (mut ours, mut done) = (start.clone(), JsonPatch::default());
    let budget = Budget { max_bytes: 1 << 20, max_depth: 60 };
    // `json-patch` refuses to move the root onto itself; RFC 6902 does not.
    let root_to_root = |operation: &Operation| match operation {
        Operation::Move { from, path } => from.is_root() && path.is_root(),
        _ => false,
    };
    for operation in operations.into_iter().filter(|operation| !root_to_root(operation)) {
        let before = ours.clone();
        let patch = JsonPatch { operations: vec![operation.clone()] };
        prop_assert_eq!(&JsonPatch::parse(&patch.to_value()).unwrap(), &patch);
        let result = patch.apply(&mut ours, &budget);
        let mut other = theirs(&before);
        let their_patch: json_patch::Patch = serde_json::from_str(&patch.to_value().to_json()).unwrap();
        let their_result = json_patch::patch(&mut other, &their_patch);
        prop_assert_eq!(
            result.is_ok(),
            their_result.is_ok(),
            "{:?} on {}: {:?}",
            &patch,
            before,
            their_result
        );
        if result.is_ok() {
            prop_assert!(ours.eq_value(&json(&other.to_string())), "{:?} on {}", &patch, before);
            done.operations.push(operation);
        } else {
            prop_assert_eq!(&ours, &before);
        }
    }
    let whole = Budget { max_bytes: 1 << 24, ..budget };
    let mut again = start.clone();
    prop_assert_eq!(done.apply(&mut again, &whole), Ok(()));
    prop_assert_eq!(again, ours);
    done.operations.push(Operation::Remove { path: Pointer::default() });
    let mut again = start.clone();
    let error = done.apply(&mut again, &whole).unwrap_err();
    prop_assert_eq!((error.operation, error.fault), (done.operations.len() - 1, PatchFault::RemovesRoot));
    prop_assert_eq!(&again, &start);
    // The index must be right too, not only the order.
    prop_assert!(again.eq_value(&start) && start.eq_value(&again));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn patches_agree_with_json_patch_and_fail_without_a_trace(
        start in similar_documents(), operations in vec(operations(pointers().boxed()), 0..24),
    ) {
        agrees_with_json_patch(start, operations)?;
    }

    /// Around the size from which objects have an index and empty slots.
    #[test]
    fn patches_of_wide_objects_agree_with_json_patch_too(
        members in 10_usize..40, operations in vec(operations(wide_pointers().boxed()), 0..40),
    ) {
        let wide = || (0..members).map(|n| (n.to_string(), Value::from(n as u64))).collect::<Object>();
        let start = [("x", wide().into()), ("y", wide().into())].into_iter().collect::<Object>();
        agrees_with_json_patch(start.into(), operations)?;
    }

    #[test]
    fn merge_patches_agree_with_json_patch(target in similar_documents(), patch in similar_documents()) {
        let (mut copied, mut owned, mut other) = (target.clone(), target.clone(), theirs(&target));
        merge(&mut copied, &patch);
        merge_owned(&mut owned, patch.clone());
        json_patch::merge(&mut other, &theirs(&patch));
        prop_assert_eq!(&copied, &owned);
        prop_assert!(copied.eq_value(&json(&other.to_string())), "{} into {}", patch, target);
    }

    #[test]
    fn a_difference_leads_from_one_document_exactly_to_the_other(
        a in similar_documents(), b in similar_documents(),
    ) {
        let mut target = a.clone();
        prop_assert_eq!(diff(&a, &b).apply(&mut target, &Budget::default()), Ok(()));
        prop_assert_eq!(target, b.clone());
        prop_assert!(diff(&b, &b).operations.is_empty());
        if let Some(patch) = merge_diff(&a, &b) {
            let mut target = a;
            merge(&mut target, &patch);
            prop_assert_eq!(target.digest(), b.digest());
        }
    }

    #[test]
    fn differences_of_unlike_documents_hold_too(a in documents(), b in documents()) {
        let mut target = a.clone();
        prop_assert_eq!(diff(&a, &b).apply(&mut target, &Budget::default()), Ok(()));
        prop_assert_eq!(target.to_json(), b.to_json());
    }
}
