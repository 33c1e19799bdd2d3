//! A JSON patch as lines for people: `+ path value`, `- path value`, `~ path old -> new`. The patch says only
//! what is new, so it is applied step by step to the document it starts from.
//!
//! Containers that come or go as a whole are one line for each leaf: a line then says one thing, and both
//! ends of a long document are as readable as its middle.

use super::failure::{Done, Exit, Failure};
use super::screen::{Ink, Screen, printable};
use crate::domain::patch::{Budget, JsonPatch, Operation};
use crate::domain::value::{Limits, Pointer, Value};

/// The lines of a patch that is applied to `document`.
pub(super) fn lines(patch: &JsonPatch, document: &Value, screen: &Screen<'_>) -> Done<Vec<String>> {
    let mut document = document.clone();
    let mut lines = Lines { screen, lines: Vec::new() };
    // Whoever sent the patch has bounded it already.
    let budget = Budget { max_bytes: usize::MAX, max_depth: Limits::DEPTH_MAX };
    for operation in &patch.operations {
        lines.operation(operation, &document);
        let step = JsonPatch { operations: vec![operation.clone()] };
        step.apply(&mut document, &budget).map_err(|error| {
            let message = format!("the patch does not fit the state it starts from: {error}");
            Failure::new(Exit::Failure, message).hint("`-o json` prints the patch as it came")
        })?;
    }
    Ok(lines.lines)
}

struct Lines<'a, 'b> {
    screen: &'a Screen<'b>,
    lines: Vec<String>,
}

impl Lines<'_, '_> {
    fn operation(&mut self, operation: &Operation, document: &Value) {
        match operation {
            Operation::Add { path, value } => {
                let path = end_of_array(path, document);
                // Adding a member that is there replaces it.
                let in_object = parent(&path, document).is_some_and(|parent| parent.as_object().is_some());
                match document.pointer(&path).filter(|_| in_object || path.is_root()) {
                    Some(old) => self.replaced(&path.to_string(), old, value),
                    None => self.leaves('+', Ink::Added, &path.to_string(), value),
                }
            }
            Operation::Remove { path } => {
                let old = document.pointer(path).unwrap_or(&Value::Null);
                self.leaves('-', Ink::Removed, &path.to_string(), old);
            }
            Operation::Replace { path, value } => {
                let old = document.pointer(path).unwrap_or(&Value::Null);
                self.replaced(&path.to_string(), old, value);
            }
            Operation::Move { from, path } => self.two('~', "moved to", from, path),
            Operation::Copy { from, path } => self.two('+', "copied to", from, path),
            Operation::Test { .. } => {}
        }
    }

    fn replaced(&mut self, path: &str, old: &Value, new: &Value) {
        let is_leaf = |value: &Value| match value {
            Value::Array(elements) => elements.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => true,
        };
        if is_leaf(old) && is_leaf(new) {
            let values = format!("{} -> {}", shown(old), shown(new));
            return self.line('~', Ink::Changed, path, &values);
        }
        // What a deletion leaves, and what a first event finds, is null: no line of its own.
        if !old.is_null() {
            self.leaves('-', Ink::Removed, path, old);
        }
        if !new.is_null() {
            self.leaves('+', Ink::Added, path, new);
        }
    }

    /// One line for each leaf. Recursion is bounded by the depth the value was parsed with.
    fn leaves(&mut self, sign: char, ink: Ink, path: &str, value: &Value) {
        let token = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::Object(members) if !members.is_empty() => {
                members.iter().for_each(|(name, member)| self.leaves(sign, ink, &token(name), member));
            }
            Value::Array(elements) if !elements.is_empty() => {
                let each = elements.iter().enumerate();
                each.for_each(|(nth, element)| self.leaves(sign, ink, &format!("{path}/{nth}"), element));
            }
            leaf => self.line(sign, ink, path, &shown(leaf)),
        }
    }

    fn two(&mut self, sign: char, verb: &str, from: &Pointer, path: &Pointer) {
        self.line(sign, Ink::Changed, &from.to_string(), &format!("{verb} {}", printable(&path.to_string())));
    }

    fn line(&mut self, sign: char, ink: Ink, path: &str, rest: &str) {
        let path = if path.is_empty() { "(state)".to_owned() } else { printable(path) };
        self.lines.push(self.screen.ink(ink, &format!("{sign} {path}  {rest}")));
    }
}

fn shown(value: &Value) -> String {
    printable(&value.to_json())
}

fn parent<'a>(path: &Pointer, document: &'a Value) -> Option<&'a Value> {
    let mut parent = path.clone();
    parent.pop()?;
    document.pointer(&parent)
}

/// `-` at the end of a path is the index that the element will have.
fn end_of_array(path: &Pointer, document: &Value) -> Pointer {
    let array = parent(path, document).and_then(Value::as_array);
    let mut path = path.clone();
    if let Some(array) = array.filter(|_| path.tokens().last().is_some_and(|token| &**token == "-")) {
        path.pop();
        path.push(array.len().to_string());
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::patch::diff;

    fn json(text: &str) -> Value {
        Value::parse(text.as_bytes(), &Limits::default()).expect("JSON")
    }

    fn shown_lines(patch: &JsonPatch, document: &str, is_coloured: bool) -> Vec<String> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let screen = Screen { out: &mut out, err: &mut err, is_coloured };
        lines(patch, &json(document), &screen).expect("the patch fits")
    }

    fn between(a: &str, b: &str) -> Vec<String> {
        shown_lines(&diff(&json(a), &json(b)), a, false)
    }

    #[test]
    fn each_line_says_what_was_and_what_is() {
        let a = r#"{"status":"new","total":1.0,"hold":true,"items":{"a/b":{"qty":1}},"list":[1,2]}"#;
        let b = r#"{"status":"placed","total":1.00,"items":{"a/b":{"qty":1},"c":{"qty":[],"x":{"y":2}}},"list":[1,2,3]}"#;
        let mut found = between(a, b);
        found.sort();
        assert_eq!(
            found,
            [
                "+ /items/c/qty  []",
                "+ /items/c/x/y  2",
                "+ /list/2  3",
                "- /hold  true",
                "~ /status  \"new\" -> \"placed\"",
                "~ /total  1.0 -> 1.00",
            ]
        );
    }

    #[test]
    fn creation_and_deletion_are_the_leaves_that_come_and_go() {
        assert_eq!(between("null", r#"{"a":1,"b":[{}]}"#), ["+ /a  1", "+ /b/0  {}"]);
        assert_eq!(between(r#"{"a":1}"#, "null"), ["- /a  1"]);
        assert_eq!(between("1", "null"), ["~ (state)  1 -> null"]);
        assert_eq!(between(r#"{"a":[1]}"#, r#"{"a":"x"}"#), ["- /a/0  1", "+ /a  \"x\""]);
        assert!(between("{}", "{}").is_empty());
    }

    #[test]
    fn foreign_patches_are_shown_step_by_step() {
        let patch = json(
            r#"[{"op":"add","path":"/l/-","value":3},{"op":"remove","path":"/l/0"},{"op":"replace","path":"/l/0","value":9},
                {"op":"add","path":"/a","value":2},{"op":"move","from":"/a","path":"/b"},{"op":"test","path":"/b","value":2},
                {"op":"copy","from":"/b","path":"/c"}]"#,
        );
        let patch = JsonPatch::parse(&patch).expect("a patch");
        assert_eq!(
            shown_lines(&patch, r#"{"l":[1,2],"a":1}"#, false),
            [
                "+ /l/2  3",
                "- /l/0  1",
                "~ /l/0  2 -> 9",
                "~ /a  1 -> 2",
                "~ /a  moved to /b",
                "+ /b  copied to /c"
            ]
        );
    }

    #[test]
    fn colours_go_around_whole_lines() {
        let patch = diff(&json(r#"{"a":1}"#), &json(r#"{"a":2}"#));
        assert_eq!(shown_lines(&patch, r#"{"a":1}"#, true), ["\x1b[33m~ /a  1 -> 2\x1b[0m"]);
    }
}
