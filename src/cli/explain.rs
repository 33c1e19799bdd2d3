//! `explain`: what a code means and what to do about it.
//!
//! `codes` has the page of each code; it moves to `http::codes`, which serves the same table.

use super::args::ExplainArgs;
use super::failure::{Done, Exit, Failure};
use super::screen::Screen;

pub(super) fn run(args: &ExplainArgs, screen: &mut Screen<'_>) -> Done {
    match codes::page(&args.code) {
        Some(page) => Ok(write!(screen.out, "{page}")?),
        None => {
            let message = format!("`{}` is no code of snapfold", args.code);
            Err(Failure::new(Exit::NotFound, message).hint("codes are listed in docs/ERRORS.md"))
        }
    }
}

/// Codes that the command line makes itself.
mod codes {
    /// The page of a code.
    pub(super) fn page(code: &str) -> Option<&'static str> {
        const PAGES: &[(&str, &str)] = &[(
            "history-gone",
            "## history-gone\n\nWhat the version was folded from has been removed, and the topic no longer has it; \
             `earliestVersion` is the first one that can be had.\n",
        )];
        PAGES.iter().find(|(known, _)| *known == code).map(|(_, page)| *page)
    }
}
