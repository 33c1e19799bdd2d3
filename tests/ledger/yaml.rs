//! The YAML of reducers: parsed by `saphyr-parser`, read as JSON with the exact text of numbers.

use super::{json, unsupported};
use saphyr_parser::{Event as Yaml, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// One YAML document without tags, anchors or merge keys; plain scalars as JSON's types, numbers with their
/// text.
pub(crate) fn read(text: &str) -> Value {
    let mut open: Vec<(Value, Option<String>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.unwrap_or_else(|e| unsupported(&format!("this YAML: {e}")));
        let done = match event {
            Yaml::Scalar(text, ScalarStyle::Plain, 0, None) => match json::read(text.as_bytes(), 0) {
                Some(value) if !value.is_string() => value,
                _ if text.is_empty() || text == "~" => Value::Null,
                _ => Value::String(text.into_owned()),
            },
            Yaml::Scalar(text, _, 0, None) => Value::String(text.into_owned()),
            Yaml::SequenceStart(0, None) => {
                open.push((Value::Array(Vec::new()), None));
                continue;
            }
            Yaml::MappingStart(0, None) => {
                open.push((Value::Object(Map::new()), None));
                continue;
            }
            Yaml::SequenceEnd | Yaml::MappingEnd => open.pop().map_or(Value::Null, |(value, _)| value),
            Yaml::StreamStart | Yaml::DocumentStart(_) | Yaml::Nothing => continue,
            other => unsupported(&format!("this YAML: {other:?}")),
        };
        match open.last_mut() {
            None => return done,
            Some((Value::Array(items), _)) => items.push(done),
            Some((Value::Object(members), name)) => match name.take() {
                Some(name) => drop(members.insert(name, done)),
                None => *name = Some(done.as_str().map_or_else(|| json::text(&done), str::to_owned)),
            },
            Some(_) => unsupported("this YAML"),
        }
    }
    unsupported("an empty reducer")
}
