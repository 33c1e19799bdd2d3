//! What is wrong with a configuration, all of it at once, each with its place, the line it stands in
//! and the fix.

use crate::domain::source::{Problem, Span};
use std::collections::BTreeMap;
use std::fmt;

/// Where a value comes from, if not from its default.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The file.
    File,
    /// This environment variable.
    Environment(String),
    /// The `--set` argument for this path. Its value may be a secret, so it is not kept.
    Set(String),
}

/// Everything that is wrong, and the text it stands in.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    file: String,
    text: String,
    found: Vec<(Origin, Problem)>,
}

/// Paths that environment or arguments have set, with where each comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(BTreeMap<String, Origin>);

/// Longest line that is shown.
const EXCERPT_BYTES_MAX: usize = 300;

/// True for names of secrets, and for lines that hold such a name. Rather too often than too seldom.
pub(super) fn names_a_secret(text: &str) -> bool {
    const SECRET: [&str; 8] =
        ["password", "passwd", "secret", "token", "credential", "jaas", "ssl.key.pem", "private"];
    let text = text.to_ascii_lowercase();
    let is_login = text.contains("://") && text.contains('@');
    is_login || SECRET.iter().any(|word| text.contains(word))
}

impl Origins {
    /// Notes who set `path`; what was set inside it before is gone.
    pub(super) fn note(&mut self, path: &str, origin: Origin) {
        let is_inside =
            |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.0.retain(|known, _| !is_inside(known));
        self.0.insert(path.to_owned(), origin);
    }

    /// Where the value at `path` comes from: it, or what it is part of, was set last by this.
    pub(super) fn of(&self, path: &str) -> Origin {
        let mut at = path;
        loop {
            if let Some(origin) = self.0.get(at) {
                return origin.clone();
            }
            match at.rfind(['.', '[']) {
                Some(cut) => at = &at[..cut],
                None => return Origin::File,
            }
        }
    }
}

impl Problems {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned(), found: Vec::new() }
    }

    pub(super) fn add(&mut self, origin: Origin, problem: Problem) {
        if !self.found.iter().any(|(_, known)| *known == problem) {
            self.found.push((origin, problem));
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// True if nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Each problem: its place as people write it, and what is wrong.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Problem)> {
        self.found.iter().map(|(origin, problem)| (self.place(origin, problem.span), problem))
    }

    pub(super) fn sort(&mut self) {
        self.found.sort_by(|(a, one), (b, two)| (a, one.span).cmp(&(b, two.span)));
    }

    pub(super) fn place(&self, origin: &Origin, span: Span) -> String {
        match origin {
            // What a layer made without giving it a value stands nowhere.
            Origin::File if span.line == 0 => self.file.clone(),
            Origin::File => format!("{}:{span}", self.file),
            Origin::Environment(name) => name.clone(),
            Origin::Set(path) => format!("--set {path}"),
        }
    }

    /// The line of the file with a mark under the place; none where the line is too long to help or may
    /// hold a secret.
    fn excerpt(&self, span: Span) -> Option<String> {
        let line = self.text.lines().nth(usize::try_from(span.line).ok()?.checked_sub(1)?)?;
        if line.len() > EXCERPT_BYTES_MAX || names_a_secret(line) {
            return None;
        }
        let number = span.line.to_string();
        let column = usize::try_from(span.column).ok()?.max(1) - 1;
        // Tabs stay tabs, so that the mark stands under its place in every terminal.
        let indent: String = line.chars().take(column).map(|c| if c == '\t' { c } else { ' ' }).collect();
        Some(format!("  {number} | {line}\n  {:1$} | {indent}^", "", number.len()))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (origin, problem) in &self.found {
            writeln!(f, "{}: {}", self.place(origin, problem.span), problem.message)?;
            if *origin == Origin::File
                && let Some(excerpt) = self.excerpt(problem.span)
            {
                writeln!(f, "{excerpt}")?;
            }
            writeln!(f, "  hint: {}", problem.hint)?;
        }
        let count = self.found.len();
        write!(f, "{count} {}", if count == 1 { "problem" } else { "problems" })
    }
}

impl std::error::Error for Problems {}
