//! The JSON Schema (draft 2020-12) of the configuration and its reference, both from the table of keys.

use super::keys::{Key, ROOT, Shape};
use crate::codec::yaml;
use crate::domain::value::{Object, Value};
use std::fmt::Write;

/// The schema as indented JSON, as it is kept in `schemas/config.schema.json`.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = Object::new();
    schema.insert("$schema", "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title", "snapfold configuration".into());
    let Value::Object(body) = section(ROOT) else { unreachable!("a section is an object") };
    for (name, value) in body.iter() {
        schema.insert(name, value.clone());
    }
    let mut text = Vec::new();
    Value::Object(schema).write_pretty(&mut text);
    text.push(b'\n');
    String::from_utf8(text).expect("JSON is UTF-8")
}

fn object(members: &[(&str, Value)]) -> Value {
    let mut object = Object::new();
    for (name, value) in members {
        object.insert(*name, value.clone());
    }
    Value::Object(object)
}

fn section(keys: &[Key]) -> Value {
    let mut properties = Object::new();
    for key in keys.iter().filter(|key| !matches!(key.shape, Shape::Later)) {
        properties.insert(key.name, property(key));
    }
    object(&[
        ("type", "object".into()),
        ("properties", Value::Object(properties)),
        ("additionalProperties", Value::Bool(false)),
    ])
}

fn property(key: &Key) -> Value {
    let Value::Object(mut schema) = shape(key.shape) else { unreachable!("every shape is an object") };
    schema.insert("description", key.doc.into());
    if let Some(default) = key.default {
        let default = yaml::parse(default).expect("the defaults of the table are YAML");
        schema.insert("default", default.to_value());
    }
    Value::Object(schema)
}

fn number(value: u64) -> Value {
    let text = value.to_string();
    Value::Number(crate::domain::number::Number::parse(&text).expect("digits are a number"))
}

fn words(words: &[&str]) -> Value {
    Value::Array(words.iter().map(|word| Value::from(*word)).collect())
}

fn pattern(pattern: &str) -> Value {
    object(&[("type", "string".into()), ("pattern", pattern.into())])
}

fn any_of(schemas: Vec<Value>) -> Value {
    object(&[("anyOf", Value::Array(schemas))])
}

fn whole(low: u64, high: u64) -> Value {
    object(&[("type", "integer".into()), ("minimum", number(low)), ("maximum", number(high))])
}

const DURATION: &str = "^[0-9]+(ms|s|m|h|d)$";
const SIZE: &str = "^[0-9]+(KiB|MiB|GiB)$";

fn shape(shape: Shape) -> Value {
    let text = || object(&[("type", "string".into())]);
    let list = |items: Value| object(&[("type", "array".into()), ("items", items)]);
    match shape {
        Shape::Text => text(),
        Shape::Bool => object(&[("type", "boolean".into())]),
        Shape::Whole(low, high) => whole(low, high),
        Shape::AutoWhole(low, high) => any_of(vec![object(&[("const", "auto".into())]), whole(low, high)]),
        Shape::Decimal => object(&[("type", "number".into()), ("minimum", number(0))]),
        Shape::Duration | Shape::DurationOrNone => pattern(DURATION),
        Shape::Size => pattern(SIZE),
        Shape::Choice(choices) => object(&[("enum", words(choices))]),
        Shape::ChoiceOrDuration(choices) => {
            any_of(vec![object(&[("enum", words(choices))]), pattern(DURATION)])
        }
        Shape::Texts | Shape::Places => any_of(vec![text(), list(text())]),
        Shape::Map => object(&[("type", "object".into()), ("additionalProperties", secret())]),
        Shape::Secret => secret(),
        Shape::Reducer => any_of(vec![
            object(&[("enum", words(&["merge", "replace", "json-patch", "debezium"]))]),
            object(&[("type", "object".into())]),
        ]),
        Shape::Tests => list(object(&[("type", "object".into()), ("required", words(&["given", "then"]))])),
        Shape::Section(keys) => section(keys),
        Shape::Sections(keys) => list(section(keys)),
        Shape::Later => Value::Bool(false),
    }
}

/// A text, a number or a truth value, or where a secret is.
fn secret() -> Value {
    let reference = |name: &str| {
        object(&[
            ("type", "object".into()),
            ("properties", object(&[(name, object(&[("type", "string".into())]))])),
            ("required", words(&[name])),
            ("additionalProperties", Value::Bool(false)),
        ])
    };
    any_of(vec![
        object(&[("type", words(&["string", "number", "boolean"]))]),
        reference("fromFile"),
        reference("fromEnv"),
    ])
}

/// The reference of all keys as Markdown, as it is kept in `docs/CONFIG.md`.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from("| key | value | default | meaning |\n|---|---|---|---|\n");
    rows(ROOT, "", &mut out);
    out
}

fn rows(keys: &[Key], path: &str, out: &mut String) {
    for key in keys.iter().filter(|key| !matches!(key.shape, Shape::Later)) {
        let name = format!("{path}{}", key.name);
        let default = key.default.map_or(String::new(), |default| format!("`{default}`"));
        writeln!(out, "| `{name}` | {} | {default} | {} |", noun(key.shape), key.doc)
            .expect("a String takes all");
        match key.shape {
            Shape::Section(inner) => rows(inner, &format!("{name}."), out),
            Shape::Sections(inner) => rows(inner, &format!("{name}[]."), out),
            _ => {}
        }
    }
}

fn noun(shape: Shape) -> String {
    let or = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match shape {
        Shape::Text => "text".into(),
        Shape::Bool => "`true`, `false`".into(),
        Shape::Whole(low, high) => format!("{low} to {high}"),
        Shape::AutoWhole(low, high) => format!("`auto`, {low} to {high}"),
        Shape::Decimal => "number".into(),
        Shape::Duration | Shape::DurationOrNone => "duration".into(),
        Shape::Size => "size".into(),
        Shape::Choice(words) => or(words),
        Shape::ChoiceOrDuration(words) => format!("{}, duration", or(words)),
        Shape::Texts => "list of texts".into(),
        Shape::Map => "names and texts".into(),
        Shape::Secret => "secret text".into(),
        Shape::Places => "place or list of places".into(),
        Shape::Reducer => "preset or rules".into(),
        Shape::Tests => "list of tests".into(),
        Shape::Section(_) => "mapping".into(),
        Shape::Sections(_) => "list of mappings".into(),
        Shape::Later => "".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_in_the_repository_is_the_one_that_the_table_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/config.schema.json");
        if std::env::var_os("SNAPFOLD_BLESS").is_some() {
            std::fs::write(path, json_schema()).expect("the schema can be written");
        }
        let kept =
            std::fs::read_to_string(path).expect("schemas/config.schema.json is part of the repository");
        assert!(kept == json_schema(), "write it anew: SNAPFOLD_BLESS=1 cargo test --lib config::schema");
    }

    #[test]
    fn the_reference_in_the_repository_is_the_one_that_the_table_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIG.md");
        let kept = std::fs::read_to_string(path).expect("docs/CONFIG.md is part of the repository");
        let (head, rest) = kept.split_once("<!-- keys -->\n").expect("a mark before the table");
        let (table, tail) = rest.split_once("<!-- end of keys -->").expect("a mark after the table");
        if std::env::var_os("SNAPFOLD_BLESS").is_some() {
            let text = format!("{head}<!-- keys -->\n{}<!-- end of keys -->{tail}", reference());
            std::fs::write(path, text).expect("the reference can be written");
            return;
        }
        assert!(table == reference(), "write it anew: SNAPFOLD_BLESS=1 cargo test --lib config::schema");
    }
}
