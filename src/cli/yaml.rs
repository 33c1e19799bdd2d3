//! JSON values as YAML for people: block style, numbers with their exact text. A text stands without quotes
//! only where no YAML parser, 1.1 or 1.2, could take it for anything else.

use crate::domain::value::Value;
use crate::domain::value::write::write_string;

/// The value as a YAML document, with a line end.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Array(elements) if !elements.is_empty() => block(value, 0, &mut out),
        Value::Object(members) if !members.is_empty() => block(value, 0, &mut out),
        _ => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
    out
}

/// A container that is not empty, every line indented. Recursion is bounded by the depth the value
/// was parsed with.
fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = |out: &mut String| out.extend(std::iter::repeat_n(' ', indent));
    match value {
        Value::Array(elements) => {
            for element in elements {
                pad(out);
                out.push('-');
                inner(element, indent, out);
            }
        }
        Value::Object(members) => {
            for (name, member) in members.iter() {
                pad(out);
                out.push_str(&quoted(name));
                out.push(':');
                inner(member, indent, out);
            }
        }
        _ => out.push_str(&scalar(value)),
    }
}

fn inner(value: &Value, indent: usize, out: &mut String) {
    let is_empty = match value {
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => true,
    };
    if is_empty {
        out.push(' ');
        out.push_str(&scalar(value));
        out.push('\n');
    } else {
        out.push('\n');
        block(value, indent + 2, out);
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        _ => value.to_json(),
    }
}

fn quoted(text: &str) -> String {
    // YAML 1.1 reads these as null, truth values and numbers.
    const TAKEN: [&str; 10] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan"];
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    if is_word && !TAKEN.iter().any(|taken| text.eq_ignore_ascii_case(taken)) {
        return text.to_owned();
    }
    let mut out = Vec::new();
    write_string(text, &mut out);
    String::from_utf8(out).expect("JSON of a text is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::yaml;
    use crate::domain::value::Limits;

    #[test]
    fn yaml_reads_back_as_the_same_value_digits_and_order_too() {
        let json = r##"{"b":1.10,"a":[],"no":"no","e":{},"n":null,"t":true,"big":123456789012345678901234567890,
            "list":[1,[2,[]],{"x":{"y":"a b"}},"2026-11-24","~","","# c","- d","e: f"],"":"\u0007\"\\"}"##;
        let value = Value::parse(json.as_bytes(), &Limits::default()).expect("JSON");
        let text = text(&value);
        assert_eq!(yaml::parse(&text).expect("YAML").to_value(), value, "{text}");
        assert!(text.starts_with("b: 1.10\na: []\n\"no\": \"no\"\n"), "{text}");
    }

    #[test]
    fn a_scalar_is_a_document() {
        assert_eq!(
            (text(&Value::Null), text(&Value::from("a")), text(&Value::from("1"))),
            ("null\n".into(), "a\n".into(), "\"1\"\n".into())
        );
    }
}
