//! How `tests/tidy.rs` finds what it looks for: Rust text without comments and literals, its paths and names.
//! A rough reading of Rust, exact enough for formatted code; the examples say what it finds and leaves alone.

use std::collections::BTreeSet;

use super::{
    ADAPTERS, Finding, IMPURE, IMPURE_STD, LAYERS, NAMING, PURE, Repo, SYNONYMS, UNFINISHED, UNORDERED,
};

fn has(list: &str, word: &str) -> bool {
    !word.is_empty() && list.split(' ').any(|item| item == word)
}

pub(crate) fn at(finding: Option<Finding>) -> Vec<Finding> {
    finding.into_iter().collect()
}

pub(crate) fn lines(text: &str, wrong: impl Fn(&str) -> bool) -> Vec<Finding> {
    (1..).zip(text.lines()).filter(|(_, line)| wrong(line)).map(|(n, line)| (n, line.trim().into())).collect()
}

pub(crate) fn placed(path: &str, findings: Vec<Finding>) -> Vec<String> {
    findings.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")).collect()
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs") && ["src/", "tests/", "benches/"].iter().any(|folder| path.starts_with(folder))
}

/// What `find` says about each Rust file under the folder `under`.
pub(crate) fn each(repo: &Repo, under: &str, find: impl Fn(&str, &str) -> Vec<Finding>) -> Vec<String> {
    let files = repo.iter().filter(|(path, _)| is_rust(path) && path.starts_with(under));
    files.flat_map(|(path, text)| placed(path, find(path, text))).collect()
}

pub(crate) fn imports(path: &str, text: &str) -> Vec<Finding> {
    let Some((_, inner)) = path.split_once('/') else { return vec![] };
    let inner = inner.trim_end_matches(".rs").trim_end_matches("/mod");
    let folder = inner.split('/').next().unwrap_or_default();
    if ["lib", "main"].contains(&inner) {
        return vec![]; // The roots only declare and re-export.
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == folder) else {
        return vec![(1, format!("`{folder}` is not in the layer table"))];
    };
    let code = code(text);
    let is_layer = |head: &&str| LAYERS.iter().any(|(name, _)| name == head);
    let climb = "super::".repeat(inner.split('/').count());
    let climbing = heads(&code, &climb).into_iter().filter(is_layer);
    let wrong = heads(&code, "crate::")
        .into_iter()
        .chain(climbing)
        .filter(|head| *head != folder && !has(allowed, head));
    wrong.map(|head| (line_of(&code, head), format!("`{folder}` imports `{head}`"))).collect()
}

pub(crate) fn purity(path: &str, text: &str) -> Vec<Finding> {
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    let is_adapter = ADAPTERS.iter().any(|adapter| path.starts_with(adapter));
    if is_test || is_adapter || !PURE.iter().any(|folder| path.starts_with(folder)) {
        return vec![];
    }
    let code = code(text);
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let unordered = if path.starts_with("src/domain/") { UNORDERED } else { "" };
    let words = words(code).filter(|word| has(IMPURE, word) || has(unordered, word));
    let std = heads(code, "std::").into_iter().filter(|head| has(IMPURE_STD, head));
    words.chain(std).map(|word| (line_of(code, word), format!("`{word}` is not pure"))).collect()
}

pub(crate) fn unfinished(line: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    UNFINISHED.iter().any(|word| {
        line.match_indices(word).any(|(start, _)| {
            let (before, after) = (&line[..start], &line[start + word.len()..]);
            let is_call = word.ends_with('(');
            !is_part(before.chars().next_back())
                && (is_call || !is_part(after.chars().next()))
                && !after.starts_with(" in ")
        })
    })
}

/// Names that a file gives: its own, and identifiers after a word of `NAMING` or before a single colon.
pub(crate) fn synonyms(path: &str, text: &str) -> Vec<Finding> {
    let code = code(text);
    let is_synonym = |name: &str| parts(name).iter().any(|part| has(SYNONYMS, part));
    let told = |line, name| (line, format!("`{name}`: which word of the glossary is it?"));
    let mut found = at(is_synonym(path).then(|| told(1, path)));
    let mut previous = "";
    for word in words(&code) {
        let after = &code[start_of(&code, word) + word.len()..];
        let is_given = has(NAMING, previous) || after.starts_with(':') && !after.starts_with("::");
        if is_given && is_synonym(word) {
            found.push(told(line_of(&code, word), word));
        }
        previous = word;
    }
    found
}

/// `SnapshotManager/flush_ms` is `snapshot`, `manager`, `flush`, `ms`.
fn parts(name: &str) -> Vec<String> {
    let spaced =
        name.chars().flat_map(|c| [c.is_uppercase().then_some(' '), Some(c)]).flatten().collect::<String>();
    spaced.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect()
}

pub(crate) fn waives(line: &str) -> bool {
    line.contains("#[allow(")
        || line.contains("#![allow(")
        || line.contains("cfg_attr(") && line.contains("allow(")
}

/// Follows `mod name;` and `#[path]` from the roots that cargo knows.
pub(crate) fn dead_files(repo: &Repo) -> Vec<String> {
    let is_root = |path: &str| {
        let place: Vec<&str> = path.split('/').collect();
        match place[..] {
            ["src", "lib.rs" | "main.rs"] => true,
            ["src", "bin", _] | ["tests" | "benches", _] | ["tests" | "benches", _, "main.rs"] => true,
            _ => repo.get("Cargo.toml").is_some_and(|text| text.contains(&format!("path = \"{path}\""))),
        }
    };
    let rust = || repo.keys().filter(|path| is_rust(path));
    let mut open: Vec<String> = rust().filter(|path| is_root(path)).cloned().collect();
    let mut alive = BTreeSet::new();
    while let Some(path) = open.pop() {
        let (Some(text), Some((folder, file))) = (repo.get(&path), path.rsplit_once('/')) else { continue };
        let owns_folder = file == "mod.rs" || is_root(&path);
        let inside = if owns_folder { folder } else { path.trim_end_matches(".rs") };
        for line in code(text).lines().filter_map(|line| line.trim().strip_suffix(';')) {
            let Some(name) = line.strip_prefix("mod ").or(line.split_once(" mod ").map(|(_, name)| name))
            else {
                continue;
            };
            open.extend([format!("{inside}/{name}.rs"), format!("{inside}/{name}/mod.rs")]);
        }
        let elsewhere = text.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
        open.extend(elsewhere.filter_map(|target| resolve(&path, target)));
        alive.insert(path);
    }
    rust().filter(|path| !alive.contains(*path)).map(|path| format!("{path}: no `mod` leads here")).collect()
}

/// Links of Markdown prose (not of its code) to a place in the repository where there is nothing.
pub(crate) fn broken_links(repo: &Repo) -> Vec<String> {
    let mut broken = vec![];
    for (path, text) in repo.iter().filter(|(path, _)| path.ends_with(".md")) {
        let prose: String =
            text.split("```").step_by(2).flat_map(|part| part.split('`').step_by(2)).collect();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            let file = link.split('#').next().unwrap_or_default();
            let is_elsewhere = file.is_empty() || file.contains(':');
            if !is_elsewhere && !resolve(path, file).is_some_and(|place| exists(repo, &place)) {
                broken.push(format!("{path}: `{link}` leads nowhere"));
            }
        }
    }
    broken
}

/// Where `link` leads from the file `path`; nowhere, if it leaves the repository.
fn resolve(path: &str, link: &str) -> Option<String> {
    let mut place: Vec<&str> = path.split('/').collect();
    place.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(place.pop()?),
            part => place.push(part),
        }
    }
    Some(place.join("/"))
}

fn exists(repo: &Repo, place: &str) -> bool {
    let inside = format!("{place}/");
    place.is_empty() || repo.keys().any(|path| path == place || path.starts_with(&inside))
}

/// The first name of each path that continues `prefix`; of each branch, where it continues with `{a, b}`.
fn heads<'code>(code: &'code str, prefix: &str) -> Vec<&'code str> {
    let mut found = vec![];
    for (start, _) in code.match_indices(prefix) {
        if code[..start].ends_with(is_word) {
            continue;
        }
        let rest = &code[start + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(first_word(rest));
            continue;
        };
        let (mut depth, mut item) = (0, 0);
        for (at, c) in group.char_indices() {
            if depth == 0 && matches!(c, ',' | '}') {
                found.extend(Some(&group[item..at]).filter(|item| !item.trim().is_empty()).map(first_word));
                item = at + 1;
            }
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    found
}

fn first_word(text: &str) -> &str {
    text.trim_start().split(|c| !is_word(c)).next().unwrap_or_default()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Each identifier, keyword and number.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// Where `part` starts, which is a slice of `text`.
fn start_of(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

fn line_of(text: &str, part: &str) -> usize {
    1 + text[..start_of(text, part)].matches('\n').count()
}

/// The text with comments and literals blanked, so that only code is left; every line keeps its number.
pub(crate) fn code(text: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let blank = if code.ends_with(is_word) && c == 'r' { 0 } else { comment_or_literal(rest) };
        let (taken, left) = rest.split_at(blank.max(c.len_utf8()));
        code.extend(taken.chars().map(|c| if blank == 0 || c == '\n' { c } else { ' ' }));
        rest = left;
    }
    code
}

/// Length of the comment or literal that starts here, or 0. A lifetime is no literal.
fn comment_or_literal(rest: &str) -> usize {
    let until = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
    let hashes = rest.len().saturating_sub(1) - rest[1.min(rest.len())..].trim_start_matches('#').len();
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        until("*/")
    } else if rest.starts_with('r') && rest[1 + hashes..].starts_with('"') {
        let body = 2 + hashes;
        let end = format!("\"{}", "#".repeat(hashes));
        rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
    } else if rest.starts_with('"') {
        quoted(rest, '"')
    } else if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') && rest.starts_with('\'') {
        quoted(rest, '\'')
    } else {
        0
    }
}

/// Length of a literal that ends at the first `quote` that no backslash protects.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    rest.len()
}
