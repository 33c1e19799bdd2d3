//! Values against `serde_json` (parsing), a plain list (objects), and the examples of RFC 8785.

use super::parse::JsonFault;
use super::strategy::documents;
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::borrow::Cow;

fn parse(text: &str) -> Value {
    Value::parse(text.as_bytes(), &Limits::default()).unwrap()
}

fn canonical(value: &Value) -> String {
    let mut out = Vec::new();
    value.canonical(&mut out);
    String::from_utf8(out).unwrap()
}

fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    value.write_pretty(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_document_comes_out_as_it_came_in() {
    for text in [
        "null",
        r#"{"z":1.10,"a":[1e400,-0,1234567890123456789012345678901],"é😀":"\u0000\u001f\n\"\\","":{}}"#,
        r#"[[],[[]],{"a":{"a":{}}},true,false,"",0]"#,
    ] {
        assert_eq!(parse(text).to_json(), text);
        assert_eq!(parse(&format!(" \t\r\n{text} \n")).to_json(), text);
    }
    assert_eq!(parse(r#""\ud83d\ude00\u00e9\/\b\f\n\r\t""#).as_str(), Some("😀é/\u{8}\u{c}\n\r\t"));
}

#[test]
fn what_is_not_strict_json_is_refused_at_the_right_byte() {
    use JsonFault::*;
    let cases: [(&[u8], JsonFault, usize); 46] = [
        (b"", UnexpectedEnd, 0),
        (b"  ", UnexpectedEnd, 2),
        (b"\xef\xbb\xbf{}", ByteOrderMark, 0),
        (b"\"a\xff\"", InvalidUtf8, 2),
        (b"\"\xed\xa0\x80\"", InvalidUtf8, 1),
        (b"\"\xc0\x80\"", InvalidUtf8, 1),
        (b"{} x", TrailingBytes, 3),
        (b"1 2", TrailingBytes, 2),
        (b"nul", UnexpectedEnd, 3),
        (b"nulx", ExpectedValue, 3),
        (b"True", ExpectedValue, 0),
        (b"NaN", ExpectedValue, 0),
        (b"'a'", ExpectedValue, 0),
        (b"[1,]", ExpectedValue, 3),
        (b"[,1]", ExpectedValue, 1),
        (b"[1", UnexpectedEnd, 2),
        (b"[1 2]", ExpectedComma, 3),
        (b"[1}", ExpectedComma, 2),
        (b"{", UnexpectedEnd, 1),
        (b"{,}", ExpectedName, 1),
        (b"{\"a\":1,}", ExpectedName, 7),
        (b"{a:1}", ExpectedName, 1),
        (b"{\"a\" 1}", ExpectedColon, 5),
        (b"{\"a\":}", ExpectedValue, 5),
        (b"{\"a\":1;}", ExpectedComma, 6),
        (b"{\"a\":1,\"b\":2,\"a\":3}", DuplicateName, 18),
        (b"{\"a\":1,\"\\u0061\":2}", DuplicateName, 17),
        (b"01", BadNumber, 1),
        (b"-", UnexpectedEnd, 1),
        (b"-a", BadNumber, 1),
        (b"1.", UnexpectedEnd, 2),
        (b"[1.]", BadNumber, 3),
        (b"[1e]", BadNumber, 3),
        (b"+1", ExpectedValue, 0),
        (b"\"a", UnexpectedEnd, 2),
        (b"\"a\nb\"", ControlCharacter, 2),
        (b"\"0123456789\x00\"", ControlCharacter, 11),
        (b"\"\\x\"", BadEscape, 2),
        (b"\"\\", UnexpectedEnd, 2),
        (b"\"\\u12", UnexpectedEnd, 5),
        (b"\"\\u12g4\"", BadEscape, 5),
        (b"\"\\u+123\"", BadEscape, 3),
        (b"\"\\ud800\"", LoneSurrogate, 1),
        (b"\"a\\udc00\"", LoneSurrogate, 2),
        (b"\"\\ud800\\u0061\"", LoneSurrogate, 1),
        (b"\"\\ud800\\ud800\"", LoneSurrogate, 1),
    ];
    for (bytes, fault, offset) in cases {
        let error = Value::parse(bytes, &Limits::default()).unwrap_err();
        assert_eq!((error.fault, error.offset), (fault, offset), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn limits_hold_exactly() {
    let limits = Limits { max_bytes: 12, max_depth: 2, max_members: 3 };
    let fault = |text: &str| Value::parse(text.as_bytes(), &limits).map_err(|error| error.fault);
    assert!(fault(r#"[[1,2]]     "#).is_ok());
    assert_eq!(fault(r#"[[1,2]]      "#), Err(JsonFault::TooLong));
    assert_eq!(fault("[[[]]]"), Err(JsonFault::TooDeep));
    assert_eq!(fault("[[1,2,3]]"), Err(JsonFault::TooManyMembers));
    assert_eq!(fault(r#"[{"a":[0]}]"#), Err(JsonFault::TooDeep));
    assert_eq!(fault(r#"{"":[1,2,3]}"#), Err(JsonFault::TooManyMembers));
}

#[test]
fn nesting_is_bounded_whatever_the_configuration_says() {
    let limits = Limits { max_depth: usize::MAX, ..Limits::default() };
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let deepest = Value::parse(nested(512).as_bytes(), &limits).unwrap();
    assert_eq!(deepest.depth(), 512);
    assert_eq!(deepest.to_json(), nested(512));
    for text in [nested(513), "[".repeat(1_000_000), r#"{"a":"#.repeat(1_000_000)] {
        assert_eq!(Value::parse(text.as_bytes(), &limits).unwrap_err().fault, JsonFault::TooDeep);
    }
}

#[test]
fn a_megabyte_of_string_and_a_hundred_thousand_members_round_trip() {
    let long = "0123456789é\\n".repeat(80_000);
    let text = format!(r#"["{long}"]"#);
    assert_eq!(parse(&text).to_json(), text);
    let members: Vec<_> = (0..100_000).map(|n| format!(r#""member-{n}":{n}"#)).collect();
    let text = format!("{{{}}}", members.join(","));
    let mut value = parse(&text);
    assert_eq!(value.to_json(), text);
    assert_eq!(value.get("member-77777").and_then(Value::as_i64), Some(77_777));
    // Quadratic work would take minutes here: insert, find and remove each a hundred thousand times.
    let object = value.as_object_mut().unwrap();
    let built: Object = object.iter().map(|(name, value)| (name, value.clone())).collect();
    assert_eq!(*object, built);
    for n in 0..100_000 {
        assert_eq!(object.remove(&format!("member-{n}")), Some(Value::from(n)));
    }
    assert!(object.is_empty());
    let repeated = text.replace("member-99999", "member-4");
    let fault = Value::parse(repeated.as_bytes(), &Limits::default()).unwrap_err().fault;
    assert_eq!(fault, JsonFault::DuplicateName);
}

#[test]
fn canonical_members_are_in_the_order_of_rfc_8785_section_3_2_3() {
    let text = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
        "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control",
        "\u00f6":"Latin Small Letter O With Diaeresis"}"#;
    let expected = [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ];
    let sorted = parse(&canonical(&parse(text)));
    let names: Vec<_> = sorted.as_object().unwrap().values().filter_map(Value::as_str).collect();
    assert_eq!(names, expected);
}

#[test]
fn canonical_strings_have_the_escapes_of_rfc_8785_and_numbers_their_text() {
    let text =
        r#"{ "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "n": [1E30, 4.50, 2e-3, 10] }"#;
    assert_eq!(canonical(&parse(text)), r#"{"n":[1E30,4.50,2e-3,10],"string":"€$\u000f\nA'B\"\\\\\"/"}"#);
    assert_eq!(parse("\"\u{7f}\u{2028}\"").to_json(), "\"\u{7f}\u{2028}\"");
}

#[test]
fn digests_are_of_the_canonical_form() {
    let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(parse(" { } ").digest().to_string(), empty);
    assert_eq!(parse(r#"{"b":1,"a":2}"#).digest(), parse(r#"{"a":2,"b":1}"#).digest());
    assert_ne!(parse(r#"{"a":1}"#).digest(), parse(r#"{"a":1.0}"#).digest());
}

#[test]
fn pretty_text_is_indented_by_two() {
    let text = "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": []\n  }\n}";
    assert_eq!(pretty(&parse(r#"{"a":[1,{}],"b":{"c":[]}}"#)), text);
}

#[test]
fn equality_is_of_text_and_of_meaning() {
    let (a, b) = (parse(r#"{"a":1,"b":[2.0]}"#), parse(r#"{"b":[2],"a":1.0}"#));
    assert!(a.eq_value(&b));
    assert_ne!(a, b);
    assert_ne!(parse(r#"{"a":1,"b":2}"#), parse(r#"{"b":2,"a":1}"#));
    for other in [r#"{"a":1}"#, r#"{"a":1,"b":[2,2]}"#, r#"{"a":1,"c":[2]}"#, "[]", "null"] {
        assert!(!a.eq_value(&parse(other)), "{other}");
        assert!(!parse(other).eq_value(&a), "{other}");
    }
}

#[test]
fn values_are_small_and_their_heap_is_counted() {
    assert!(size_of::<Value>() <= 32);
    assert_eq!(parse("1").heap_bytes(), 0);
    let heap = parse(r#"{"name":"text"}"#).heap_bytes();
    assert!((8 + 48..100).contains(&heap), "{heap}");
    let large = Value::from((0..1000).map(|n| (n.to_string(), Value::Null)).collect::<Object>());
    assert!((1000 * (48 + 3 + 16)..200_000).contains(&large.heap_bytes()));
}

/// What an object must do, as a list.
fn model_insert(model: &mut Vec<(String, Value)>, name: &str, value: Value) -> Option<Value> {
    match model.iter_mut().find(|member| member.0 == name) {
        Some(member) => Some(std::mem::replace(&mut member.1, value)),
        None => {
            model.push((name.to_owned(), value));
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_object_is_a_list_of_members_at_every_size(
        steps in vec((0_u8..8, 0_u32..40), 0..400), removing in 1_u8..5,
    ) {
        let (mut object, mut model) = (Object::new(), Vec::new());
        for (nth, (kind, name)) in steps.into_iter().enumerate() {
            let (name, value) = (name.to_string(), Value::from(nth as u64));
            if kind < removing {
                let place = model.iter().position(|member: &(String, Value)| member.0 == name);
                prop_assert_eq!(object.remove(&name), place.map(|place| model.remove(place).1));
            } else if kind == 7 {
                let found = object.get_or_insert_with(&name, || value.clone()).clone();
                let old = model_insert(&mut model, &name, value.clone());
                old.iter().for_each(|old| drop(model_insert(&mut model, &name, old.clone())));
                prop_assert_eq!(found, old.unwrap_or(value));
            } else {
                let old = object.insert(name.as_str(), value.clone());
                prop_assert_eq!(old, model_insert(&mut model, &name, value));
            }
            prop_assert_eq!(object.len(), model.len());
            prop_assert!(object.iter().eq(model.iter().map(|(name, value)| (name.as_str(), value))));
            let expected = model.iter().find(|member| member.0 == name).map(|member| &member.1);
            prop_assert_eq!(object.get(&name), expected);
        }
        prop_assert!(object.into_iter().eq(model.into_iter().map(|(name, value)| (name.into(), value))));
    }

    #[test]
    fn every_form_of_a_document_reads_back(value in documents()) {
        let text = value.to_json();
        prop_assert_eq!(&parse(&text), &value);
        prop_assert_eq!(&parse(&pretty(&value)), &value);
        prop_assert_eq!(value.json_len(), text.len());
        let sorted = parse(&canonical(&value));
        prop_assert!(sorted.eq_value(&value));
        prop_assert_eq!(canonical(&sorted), sorted.to_json());
        prop_assert_eq!(sorted.digest(), value.digest());
        let other: serde_json::Value = serde_json::from_str(&text).unwrap();
        // It rewrites `1E5` to `1e+5`, so texts of numbers are not compared here.
        prop_assert!(parse(&other.to_string()).eq_value(&value));
    }

    #[test]
    fn canonical_order_is_that_of_utf_16(
        names in vec("[a\u{ff}\u{d7ff}\u{e000}-\u{ffff}\u{10000}-\u{10ffff}]{0,3}", 2..12),
    ) {
        let object: Object = names.iter().map(|name| (name.as_str(), Value::Null)).collect();
        let sorted = parse(&canonical(&object.into()));
        let names = sorted.as_object().unwrap().keys();
        prop_assert!(names.is_sorted_by_key(|name| name.encode_utf16().collect::<Vec<_>>()));
    }

    /// Method: damage a valid text a little; both parsers must then agree on whether it is still JSON.
    #[test]
    fn damaged_documents_are_refused_exactly_when_serde_json_refuses_them(
        value in documents(),
        damage in vec((any::<prop::sample::Index>(), 0_u8..3, any::<prop::sample::Index>()), 0..4),
    ) {
        const BYTES: &[u8] = b"{}[]:,\"\\/ \n\t\x01u09dDeE.-+cntf\x80\xc3\xed\xff";
        let mut bytes = value.to_json().into_bytes();
        for (place, kind, byte) in damage {
            let place = place.index(bytes.len() + 1);
            let byte = BYTES[byte.index(BYTES.len())];
            match kind {
                0 => bytes.insert(place, byte),
                1 => drop(bytes.splice(place..bytes.len().min(place + 1), [byte])),
                _ => drop(bytes.splice(place..bytes.len().min(place + 1), [])),
            }
        }
        let theirs = serde_json::from_slice::<serde_json::Value>(&bytes);
        match Value::parse(&bytes, &Limits::default()) {
            Ok(ours) => {
                let theirs = theirs.map(|value| parse(&value.to_string()));
                prop_assert!(theirs.is_ok_and(|theirs| theirs.eq_value(&ours)), "{}", ours);
            }
            Err(JsonError { fault: JsonFault::DuplicateName, .. }) => {}
            Err(error) => {
                prop_assert!(theirs.is_err(), "{}", error);
                prop_assert!(error.offset <= bytes.len());
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(value) = Value::parse(&bytes, &Limits::default()) {
            prop_assert_eq!(parse(&value.to_json()), value);
        }
    }
}

proptest! {
    #[test]
    fn a_document_answers_pointers_as_its_value_does(value in documents(), escaped in any::<bool>()) {
        let mut text = value.to_json();
        if escaped {
            // Names that need their escapes undone.
            text = text.replace('A', "\\u0041");
        }
        let document = Document::parse(text.as_bytes(), &Limits::default()).unwrap();
        prop_assert_eq!(&document.root().to_value(), &value);
        let mut pointers = vec![Pointer::default()];
        while let Some(pointer) = pointers.pop() {
            let (part, expected) = (document.root().pointer(&pointer), value.pointer(&pointer));
            prop_assert_eq!(part.map(Part::to_value), expected.cloned());
            let (part, Some(expected)) = (part.unwrap(), expected) else { unreachable!() };
            prop_assert_eq!(part.as_str(), expected.as_str().map(Cow::from));
            prop_assert_eq!(part.as_i64(), expected.as_i64());
            prop_assert_eq!(part.number_text().map(str::to_owned), expected.as_number().map(Number::to_string));
            let names: Vec<String> = match expected {
                Value::Array(elements) => (0..elements.len()).map(|at| at.to_string()).collect(),
                Value::Object(members) => members.keys().map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            prop_assert!(part.pointer(&["no such name"].into_iter().collect()).is_none());
            for name in names {
                let mut below = pointer.clone();
                below.push(name);
                pointers.push(below);
            }
        }
    }
}
