//! The layers over the file: `SNAPFOLD__KAFKA__BROKERS` from the environment, then `--set kafka.brokers=…`. Both are
//! written into the file's tree before it is read, so every value is checked in one place whatever it came from.

use super::keys::{Key, ROOT, Shape};
use super::problems::{Origin, Origins, Problems};
use crate::codec::yaml;
use crate::domain::source::{Node, NodeKind, Problem, Span};

/// What the names of environment variables start with.
const PREFIX: &str = "SNAPFOLD__";
/// Streams that one argument may name before the file has them.
const ELEMENTS_MAX: usize = 1_000;

/// One step of a path: a member, or an element of a list.
enum Step {
    Member(String),
    Element(usize),
}

/// Writes all layers into `root`, the environment first.
pub(super) fn apply(
    root: &mut Node,
    env: &[(String, String)],
    sets: &[String],
    origins: &mut Origins,
    problems: &mut Problems,
) {
    let mut env: Vec<_> = env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    env.sort();
    for (name, value) in env {
        let parts: Vec<&str> = name[PREFIX.len()..].split("__").collect();
        let path = resolve(
            &parts,
            |key, part| key.eq_ignore_ascii_case(&part.replace('_', "")),
            |rest| rest.join("__").to_ascii_lowercase().replace('_', "."),
        );
        write(root, path, value, Origin::Environment(name.clone()), origins, problems);
    }
    for argument in sets {
        let origin = Origin::Set(argument.clone());
        let Some((path, value)) = argument.split_once('=') else {
            let hint = "write `--set path=value`, as in `--set kafka.brokers=localhost:9092`";
            problems.add(origin, Problem::new(Span::default(), "no `=` in the argument", hint));
            continue;
        };
        let dotted = path.replace('[', ".").replace(']', "");
        let parts: Vec<&str> = dotted.split('.').collect();
        let path = resolve(&parts, |key, part| key == part, |rest| rest.join("."));
        write(root, path, value, origin, origins, problems);
    }
}

/// Follows `parts` through the table of keys; the error is the part that leads nowhere.
fn resolve(
    parts: &[&str],
    same: impl Fn(&str, &str) -> bool,
    map_name: impl Fn(&[&str]) -> String,
) -> Result<Vec<Step>, String> {
    let (mut steps, mut keys, mut rest) = (Vec::new(), ROOT, parts);
    while let Some((part, tail)) = rest.split_first() {
        let found: Option<&Key> = keys.iter().find(|key| same(key.name, part));
        let Some(key) = found else { return Err((*part).to_owned()) };
        steps.push(Step::Member(key.name.to_owned()));
        rest = tail;
        match key.shape {
            Shape::Section(inner) => keys = inner,
            Shape::Sections(inner) => {
                let Some((index, tail)) = rest.split_first() else { return Ok(steps) };
                let index = index.parse::<usize>().ok().filter(|index| *index < ELEMENTS_MAX);
                steps.push(Step::Element(index.ok_or_else(|| rest[0].to_owned())?));
                (keys, rest) = (inner, tail);
            }
            Shape::Map if !rest.is_empty() => {
                steps.push(Step::Member(map_name(rest)));
                return Ok(steps);
            }
            _ if rest.is_empty() => return Ok(steps),
            _ => return Err(rest[0].to_owned()),
        }
    }
    Ok(steps)
}

fn write(
    root: &mut Node,
    path: Result<Vec<Step>, String>,
    text: &str,
    origin: Origin,
    origins: &mut Origins,
    problems: &mut Problems,
) {
    let steps = match path {
        Ok(steps) => steps,
        Err(part) => {
            let hint = "`snapfold config schema` lists all keys";
            return problems
                .add(origin, Problem::new(Span::default(), format!("`{part}` is not a key"), hint));
        }
    };
    let value = match yaml::parse(text) {
        Ok(value) => value,
        // A text that is no YAML is a text: passwords are full of such characters.
        Err(_) => {
            let kind = NodeKind::String { text: text.into(), plain: false, origin: None };
            Node { span: Span::default(), kind }
        }
    };
    let mut at = root;
    let mut name = String::new();
    for step in steps {
        at = match step {
            Step::Member(member) => {
                name = if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
                member_mut(at, &member)
            }
            Step::Element(index) => {
                name = format!("{name}[{index}]");
                element_mut(at, index)
            }
        };
    }
    *at = value;
    origins.note(&name, origin);
}

/// The member of a mapping, made if it is missing; what is no mapping becomes one.
fn member_mut<'a>(node: &'a mut Node, name: &str) -> &'a mut Node {
    if node.members().is_none() {
        node.kind = NodeKind::Mapping(Vec::new());
    }
    let NodeKind::Mapping(members) = &mut node.kind else { unreachable!("it was just made a mapping") };
    let at = members.iter().position(|(key, _)| key.text() == Some(name)).unwrap_or_else(|| {
        let kind = NodeKind::String { text: name.into(), plain: true, origin: None };
        members.push((
            Node { span: Span::default(), kind },
            Node { span: Span::default(), kind: NodeKind::Null },
        ));
        members.len() - 1
    });
    &mut members[at].1
}

fn element_mut(node: &mut Node, index: usize) -> &mut Node {
    if node.elements().is_none() {
        node.kind = NodeKind::Sequence(Vec::new());
    }
    let NodeKind::Sequence(elements) = &mut node.kind else { unreachable!("it was just made a sequence") };
    while elements.len() <= index {
        elements.push(Node { span: Span::default(), kind: NodeKind::Null });
    }
    &mut elements[index]
}
