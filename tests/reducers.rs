//! The golden cases of `tests/golden/reducers/`, written from the contract alone: states are compared by
//! their exact text (member order, `1.10`), and exactly the events that a case names are poison.

use snapfold::codec::yaml;
use snapfold::domain::reducer;
use snapfold::domain::rules::check;
use snapfold::domain::source::{Node, NodeKind, Span};
use std::fmt::Write;
use std::path::Path;

/// Reads a case as a config test and folds it; the error says how it differs.
fn run(case: &Node) -> Result<(), String> {
    let show = |problems: Vec<_>| format!("{problems:?}");
    let reducer = reducer::parse(case.get("reducer").ok_or("no reducer")?).map_err(show)?;
    let (given, then) = (case.get("given").ok_or("no given")?, case.get("then").ok_or("no then")?);
    let keys = ["given", "then"].map(text_node);
    let members = keys.into_iter().zip([given.clone(), then.clone()]).collect();
    let test = Node { span: case.span, kind: NodeKind::Mapping(members) };
    let tests = Node { span: case.span, kind: NodeKind::Sequence(vec![test]) };
    let tests = check::parse(&tests).map_err(show)?;
    let (state, poison) = tests[0].fold(&*reducer);
    let got = state.map_or_else(|| "deleted".to_owned(), |state| state.to_json());
    let want = then.text().ok_or("`then` is not a text")?;
    if got != want {
        return Err(format!("expected {want}, got {got}; poison: {poison:?}"));
    }
    let expected = case
        .get("poison")
        .map_or_else(Vec::new, |node| node.to_value().as_array().cloned().unwrap_or_default());
    let expected: Vec<_> = expected.iter().map(|number| number.as_i64().unwrap_or(0)).collect();
    if poison.iter().map(|(number, _)| i64::try_from(*number).unwrap_or(0)).ne(expected.iter().copied()) {
        return Err(format!("poison expected at {expected:?}, got {poison:?}"));
    }
    Ok(())
}

fn text_node(text: &str) -> Node {
    let kind = NodeKind::String { text: text.into(), plain: true, origin: None };
    Node { span: Span::new(1, 1), kind }
}

#[test]
fn every_golden_case_folds_to_its_exact_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/reducers");
    let (mut cases, mut failures) = (0, String::new());
    let files = std::fs::read_dir(&folder).expect("the golden cases are part of the repository");
    for path in files.map(|file| file.expect("the folder can be listed").path()) {
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a golden file is UTF-8");
        let document =
            yaml::parse(&text).unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
        for case in document.get("cases").and_then(Node::elements).expect("a golden file has `cases`") {
            cases += 1;
            if let Err(why) = run(case) {
                let name = case.get("name").and_then(Node::text).unwrap_or("?");
                writeln!(failures, "{}:{} {name}: {why}", path.display(), case.span.line).expect("a String");
            }
        }
    }
    assert!(cases > 300, "only {cases} golden cases were found");
    assert!(failures.is_empty(), "{failures}");
}
