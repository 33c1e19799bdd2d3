//! The layers over the file: `SNAPFOLD__KAFKA__BROKERS` from the environment, then `--set kafka.brokers=…`.
//! Both are written into the file's tree before it is read, so every value is checked in one place whatever
//! it came from.

use super::keys::{Key, ROOT, Shape};
use super::problems::{Origin, Origins, Problems};
use crate::codec::yaml;
use crate::domain::source::{Node, NodeKind, Problem, Span};

/// What the names of environment variables start with.
pub const PREFIX: &str = "SNAPFOLD__";

/// One step of a path: a member, or an element of a list.
enum Step {
    Member(String),
    Element(usize),
}

/// A path that leads somewhere.
struct Path {
    steps: Vec<Step>,
    /// What stands there is taken as it is: `#a` and `[b` are good passwords.
    is_text: bool,
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
        let Some((path, value)) = argument.split_once('=') else {
            let hint = "write `--set path=value`, as in `--set kafka.brokers=localhost:9092`";
            let problem = Problem::new(Span::default(), "no `=` in the argument", hint);
            problems.add(Origin::Set(argument.clone()), problem);
            continue;
        };
        let origin = Origin::Set(path.to_owned());
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
) -> Result<Path, String> {
    let (mut steps, mut keys, mut rest, mut is_text) = (Vec::new(), ROOT, parts, false);
    while let Some((part, tail)) = rest.split_first() {
        let found: Option<&Key> = keys.iter().find(|key| same(key.name, part));
        let Some(key) = found else { return Err((*part).to_owned()) };
        steps.push(Step::Member(key.name.to_owned()));
        rest = tail;
        is_text = matches!(key.shape, Shape::Text | Shape::Secret);
        match key.shape {
            Shape::Section(inner) => keys = inner,
            Shape::Sections(inner) => {
                let Some((index, tail)) = rest.split_first() else { break };
                steps.push(Step::Element(index.parse().map_err(|_| (*index).to_owned())?));
                (keys, rest) = (inner, tail);
            }
            Shape::Map if !rest.is_empty() => {
                steps.push(Step::Member(map_name(rest)));
                return Ok(Path { steps, is_text: true });
            }
            _ if rest.is_empty() => {}
            _ => return Err(rest[0].to_owned()),
        }
    }
    Ok(Path { steps, is_text })
}

fn write(
    root: &mut Node,
    path: Result<Path, String>,
    text: &str,
    origin: Origin,
    origins: &mut Origins,
    problems: &mut Problems,
) {
    let mut wrong = |message: String, hint: &str| {
        problems.add(origin.clone(), Problem::new(Span::default(), message, hint));
    };
    let path = match path {
        Ok(path) => path,
        Err(part) => return wrong(format!("`{part}` is not a key"), "docs/CONFIG.md lists all keys"),
    };
    let mut at = root;
    let mut name = String::new();
    for step in path.steps {
        at = match step {
            Step::Member(member) => {
                name = if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
                member_mut(at, &member)
            }
            Step::Element(index) => {
                let Some(element) = element_mut(at, index) else {
                    let hint = "entries count from 0, and a new one can only follow the last";
                    return wrong(format!("`{name}` has no entry {index}"), hint);
                };
                name = format!("{name}[{index}]");
                element
            }
        };
    }
    *at = read(text, path.is_text);
    origins.note(&name, origin);
}

/// The value of a layer. What is no YAML is a text, and so is what stands where a text belongs, except where
/// a secret is.
fn read(text: &str, is_text: bool) -> Node {
    let is_reference = |node: &Node| matches!(node.members(), Some([(key, _)]) if matches!(key.text(), Some("fromFile" | "fromEnv")));
    match yaml::parse(text) {
        Ok(node) if !is_text || is_reference(&node) => Node { span: Span::default(), ..node },
        _ => {
            let kind = NodeKind::String { text: text.into(), plain: false, origin: None };
            Node { span: Span::default(), kind }
        }
    }
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

/// The element of a list, made if it is the next one; none beyond that.
fn element_mut(node: &mut Node, index: usize) -> Option<&mut Node> {
    if node.elements().is_none() {
        node.kind = NodeKind::Sequence(Vec::new());
    }
    let NodeKind::Sequence(elements) = &mut node.kind else { unreachable!("it was just made a sequence") };
    if elements.len() == index {
        elements.push(Node { span: Span::default(), kind: NodeKind::Null });
    }
    elements.get_mut(index)
}
