//! Random documents for the property tests of values and patches.

use super::{Object, Value};
use crate::domain::number::Number;
use proptest::collection::vec;
use proptest::prelude::*;

/// Numbers of every kind of text.
fn numbers() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        4 => any::<i64>().prop_map(|integer| integer.to_string()),
        4 => (0_i64..4).prop_map(|integer| integer.to_string()),
        1 => "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,6})?",
    ];
    text.prop_map(|text| Value::Number(Number::parse(&text).unwrap()))
}

/// Any document; objects with many members and odd names are in it.
pub(in crate::domain) fn documents() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        4 => "[a-zA-Z0-9 ]{0,30}",
        1 => any::<String>(),
        1 => "[\\x00-\\x1f\"\\\\/\u{e000}-\u{10ffff}]{0,9}",
    ];
    nested(numbers().boxed(), text.boxed())
}

/// Small documents that share names and values, with numbers that are integers.
pub(in crate::domain) fn similar_documents() -> impl Strategy<Value = Value> {
    nested((0_i64..3).prop_map(Value::from).boxed(), "[abc/~]{0,1}".boxed())
}

fn nested(numbers: BoxedStrategy<Value>, text: BoxedStrategy<String>) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        numbers,
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        let members = prop_oneof![8 => 0_usize..6, 1 => 12..24_usize];
        let members = members.prop_flat_map({
            let (text, inner) = (text.clone(), inner.clone());
            move |count| vec((text.clone(), inner.clone()), count)
        });
        prop_oneof![
            vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect::<Object>())),
        ]
    })
}
