//! The operations of a rule: what each is called, how it is read, applied and printed.
//!
//! | file | owns |
//! |---|---|
//! | [`arrays`] | `append`, `prepend`, `remove`, `keepLast` |
//! | [`members`] | `set`, `unset`, `merge`, `mergeAt`, `upsert` |
//! | [`numbers`] | `add`, `min`, `max` |
//! | [`parse`] | reading them from the config |

mod arrays;
mod members;
mod numbers;
mod parse;

use super::journal::{Journal, Route};
use super::path::Path;
use super::template::{Run, Template};
use crate::domain::expr::Expr;
use crate::domain::poison::Poison;
use std::fmt::{Formatter, Result as Formatted};

/// A path and the value for it.
pub(super) type Pair = (Path, Template);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    /// One of the operations that do one thing for each of `{ path: value, … }`.
    Each(Verb, Vec<Pair>),
    Unset(Vec<Path>),
    Merge(Template),
    Upsert(Box<Upsert>),
    Delete,
}

/// What to do with a path and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Set,
    MergeAt,
    Add,
    Append,
    Prepend,
    Remove,
    Min,
    Max,
    KeepLast,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Upsert {
    at: Path,
    new: Template,
    set: Vec<Pair>,
    add: Vec<Pair>,
}

/// Whether the rest of the event's operations run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Deleted,
}

impl Verb {
    const ALL: [(&'static str, Self); 9] = [
        ("set", Self::Set),
        ("mergeAt", Self::MergeAt),
        ("add", Self::Add),
        ("append", Self::Append),
        ("prepend", Self::Prepend),
        ("remove", Self::Remove),
        ("min", Self::Min),
        ("max", Self::Max),
        ("keepLast", Self::KeepLast),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, verb)| *verb)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, verb)| *verb == self).map_or("", |(name, _)| name)
    }

    /// Applies the verb to one path below `prefix`.
    fn apply<'a>(
        self,
        (path, template): &'a Pair,
        prefix: Route,
        journal: &mut Journal<'_, 'a>,
        run: &mut Run<'a>,
    ) -> Result<(), Poison> {
        let apply = || {
            let value = run.value(template)?;
            if value.is_null() && matches!(self, Self::Add | Self::Min | Self::Max) {
                return Ok(());
            }
            let route = path.resolve(prefix, journal, run)?;
            match self {
                Self::Set => members::set(&route, value, journal, run),
                Self::MergeAt => members::merge(&route, value, journal, run),
                Self::Add => numbers::add(&route, &value, journal),
                Self::Min | Self::Max => numbers::keep(self == Self::Max, &route, value, journal, run),
                Self::Append => arrays::add(&route, value, true, journal, run),
                Self::Prepend => arrays::add(&route, value, false, journal, run),
                Self::Remove => arrays::remove(&route, &value, journal),
                Self::KeepLast => arrays::keep_last(&route, &value, journal),
            }
        };
        apply().map_err(|poison| poison.context(&format!("`{}` at `{path}`", self.name())))
    }
}

impl Op {
    pub(super) fn apply<'a>(
        &'a self,
        journal: &mut Journal<'_, 'a>,
        run: &mut Run<'a>,
    ) -> Result<Next, Poison> {
        match self {
            Self::Each(verb, pairs) => {
                pairs.iter().try_for_each(|pair| verb.apply(pair, 0..0, journal, run))?
            }
            Self::Unset(paths) => {
                for path in paths {
                    let route = path.resolve(0..0, journal, run)?;
                    let removed = journal.remove(&route);
                    removed.map_err(|poison| poison.context(&format!("`unset` of `{path}`")))?;
                }
            }
            Self::Merge(template) => {
                let value = run.value(template);
                let merged = value.and_then(|value| members::merge(&(0..0), value, journal, run));
                merged.map_err(|poison| poison.context("`merge`"))?;
            }
            Self::Upsert(upsert) => members::upsert(upsert, journal, run)?,
            Self::Delete => return Ok(Next::Deleted),
        }
        Ok(Next::GoOn)
    }

    /// Writes the canonical text.
    pub(super) fn print(&self, exprs: &[Expr], f: &mut Formatter<'_>) -> Formatted {
        match self {
            Self::Each(verb, pairs) => {
                f.write_str(verb.name())?;
                print_pairs(pairs, exprs, f)
            }
            Self::Unset(paths) => {
                f.write_str("unset")?;
                paths.iter().try_for_each(|path| {
                    f.write_str(" ")?;
                    path.print(exprs, f)
                })
            }
            Self::Merge(template) => {
                f.write_str("merge ")?;
                template.print(exprs, f)
            }
            Self::Upsert(upsert) => {
                f.write_str("upsert ")?;
                upsert.at.print(exprs, f)?;
                f.write_str(" new ")?;
                upsert.new.print(exprs, f)?;
                f.write_str(" set")?;
                print_pairs(&upsert.set, exprs, f)?;
                f.write_str(" add")?;
                print_pairs(&upsert.add, exprs, f)
            }
            Self::Delete => f.write_str("delete"),
        }
    }
}

fn print_pairs(pairs: &[Pair], exprs: &[Expr], f: &mut Formatter<'_>) -> Formatted {
    pairs.iter().try_for_each(|(path, template)| {
        f.write_str(" ")?;
        path.print(exprs, f)?;
        f.write_str(" ")?;
        template.print(exprs, f)
    })
}
