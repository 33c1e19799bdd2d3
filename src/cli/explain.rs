//! `explain`: what a code means and what to do about it.

use super::args::ExplainArgs;
use super::failure::{Done, Exit, Failure};
use super::screen::Screen;
use crate::http::codes;

pub(super) fn run(args: &ExplainArgs, screen: &mut Screen<'_>) -> Done {
    match codes::page(&args.code) {
        Some(page) => screen.line(page.trim_end()),
        None => {
            let message = format!("`{}` is no code of snapfold", args.code);
            Err(Failure::new(Exit::NotFound, message).hint("codes are listed in docs/ERRORS.md"))
        }
    }
}
