//! The configuration in force as YAML, every default filled in, with where each value comes from. Secrets are
//! not in it: a reference shows what it names, a text that may be secret shows as `***`.

use super::keys::{Key, ROOT, Shape};
use super::problems::Origin;
use super::{Blobs, Config, Index, show_bytes};
use crate::codec::yaml;
use crate::domain::source::{Node, NodeKind};
use crate::domain::value::Value;
use std::fmt::Write;

/// The text that `config show` prints.
#[must_use]
pub fn show(config: &Config) -> String {
    let mut out = String::new();
    section(config, Some(&config.read.root), ROOT, "", 0, &mut out);
    let limit = show_bytes(config.memory_bytes_max);
    writeln!(out, "# memory.limit {limit} = {}", config.budget.sum())
        .expect("a String takes all that is written");
    out
}

fn section(config: &Config, node: Option<&Node>, keys: &[Key], path: &str, indent: usize, out: &mut String) {
    for key in keys {
        let given = node.and_then(|node| node.get(key.name)).filter(|node| node.kind != NodeKind::Null);
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        match key.shape {
            Shape::Later => {}
            Shape::Section(inner)
                if given.is_some() || has_defaults(inner) && !is_other(config, &path, key.name) =>
            {
                line(out, indent, key.name, "", "");
                section(config, given, inner, &path, indent + 1, out);
            }
            Shape::Section(_) => {}
            Shape::Sections(inner) => {
                line(out, indent, key.name, "", "");
                for (nth, element) in given.and_then(Node::elements).unwrap_or(&[]).iter().enumerate() {
                    let mut text = String::new();
                    section(config, Some(element), inner, &format!("{path}[{nth}]"), indent + 2, &mut text);
                    // The first key of an element carries its dash.
                    let at = 2 * (indent + 1);
                    out.push_str(&text[..at]);
                    out.push_str("- ");
                    out.push_str(&text[at + 2..]);
                }
            }
            _ => value(config, given, key, &path, indent, out),
        }
    }
}

/// Of `index` and `blobs` only what is used is shown; the rest of their keys would say what is not so.
fn is_other(config: &Config, path: &str, name: &str) -> bool {
    let used = match path.split_once('.') {
        Some(("blobs", inner)) if inner.starts_with("archive.") => return true,
        Some(("index", _)) if matches!(config.index, Index::Embedded { .. }) => "embedded",
        Some(("index", _)) => "scylla",
        Some(("blobs", _)) if matches!(config.blobs, Blobs::Directory { .. }) => "directory",
        Some(("blobs", _)) => "s3",
        _ => return false,
    };
    name != used
}

fn has_defaults(keys: &[Key]) -> bool {
    keys.iter().any(|key| match key.shape {
        Shape::Section(inner) => has_defaults(inner),
        _ => key.default.is_some(),
    })
}

fn value(config: &Config, given: Option<&Node>, key: &Key, path: &str, indent: usize, out: &mut String) {
    let (node, from) = match (given, key.default) {
        (Some(node), _) => {
            if let (Shape::Map, NodeKind::Mapping(members)) = (key.shape, &node.kind) {
                return map(config, members, key, path, indent, out);
            }
            if matches!(key.shape, Shape::Secret) {
                return line(out, indent, key.name, &masked(node), &origin(config, path, node));
            }
            (node.clone(), origin(config, path, node))
        }
        (None, Some(default)) if fitted(config, path).is_some_and(|fitted| fitted != default) => {
            let fitted = fitted(config, path).unwrap_or_default();
            return line(out, indent, key.name, &fitted, "fits memory.limit");
        }
        (None, Some(default)) => (yaml::parse(default).expect("a default is YAML"), "default".to_owned()),
        (None, None) => return,
    };
    line(out, indent, key.name, &plain(&node), &from);
}

/// Sizes that are made to fit `memory.limit` where nobody gave them.
fn fitted(config: &Config, path: &str) -> Option<String> {
    match path {
        "cache.maxBytes" => config.cache.map(|cache| show_bytes(cache.bytes_max)),
        "flush.maxBytes" => Some(show_bytes(config.flush_bytes_max)),
        "checkpoint.flushBytes" => Some(show_bytes(config.checkpoint.flush_bytes)),
        _ => None,
    }
}

/// A text that may be secret is not shown, where it comes from is.
fn map(config: &Config, members: &[(Node, Node)], key: &Key, path: &str, indent: usize, out: &mut String) {
    line(out, indent, key.name, if members.is_empty() { "{}" } else { "" }, "");
    for (name, value) in members {
        let name = name.text().unwrap_or_default();
        let text = masked(value);
        let shown = if is_plain(name) { name.to_owned() } else { Value::from(name).to_json() };
        line(out, indent + 1, &shown, &text, &origin(config, &format!("{path}.{name}"), value));
    }
}

/// A text that may be secret is not shown, a reference to one is.
fn masked(value: &Node) -> String {
    if value.members().is_some() { value.to_value().to_json() } else { "\"***\"".to_owned() }
}

fn origin(config: &Config, path: &str, node: &Node) -> String {
    match config.read.origins.of(path) {
        Origin::File => format!("file:{}", node.span.line),
        Origin::Environment(name) => name,
        Origin::Set(_) => "--set".to_owned(),
    }
}

/// JSON is YAML; a text that YAML reads as itself stands without quotes.
fn plain(node: &Node) -> String {
    match node.text() {
        Some(text) if is_plain(text) => text.to_owned(),
        _ => node.to_value().to_json(),
    }
}

fn is_plain(text: &str) -> bool {
    let same = yaml::parse(text).is_ok_and(|node| node.text() == Some(text));
    same && !text.contains([':', '#', ',', '[', ']', '{', '}', '\n'])
}

fn line(out: &mut String, indent: usize, name: &str, text: &str, from: &str) {
    let mut row = format!("{:1$}{name}:", "", 2 * indent);
    if !text.is_empty() {
        row.push(' ');
        row.push_str(text);
    }
    let comment = if from.is_empty() { String::new() } else { format!("  # {from}") };
    writeln!(out, "{row}{comment}").expect("a String takes all that is written");
}
