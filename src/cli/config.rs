//! `config check|show|schema`.

use super::args::{ConfigCommand, ConfigSource};
use super::failure::{Done, Exit, Failure};
use super::reducer;
use super::screen::Screen;
use super::source::load_config;
use crate::config;

pub(super) fn run(command: &ConfigCommand, screen: &mut Screen<'_>) -> Done {
    match command {
        ConfigCommand::Check(source) => check(source, screen),
        ConfigCommand::Show(source) => {
            let config = load_config(&source.config, &source.sets)?;
            Ok(write!(screen.out, "{}", config::show(&config))?)
        }
        ConfigCommand::Schema => Ok(write!(screen.out, "{}", config::json_schema())?),
    }
}

fn check(source: &ConfigSource, screen: &mut Screen<'_>) -> Done {
    let config = load_config(&source.config, &source.sets)?;
    for warning in config.warnings() {
        screen.say(&format!("warning: {warning}"));
    }
    let name = source.config.display().to_string();
    let tests = reducer::run_tests(&name, &config);
    let failed: Vec<_> = tests.iter().filter(|test| !test.is_passed()).collect();
    for test in &failed {
        screen.say(&test.to_string());
    }
    if !failed.is_empty() {
        let message = format!("{} of {} of the reducers failed", failed.len(), reducer::tests(tests.len()));
        return Err(Failure::new(Exit::Config, message).hint("correct the rules or what `then` expects"));
    }
    let types: Vec<&str> = config.streams.iter().map(|stream| &*stream.kind).collect();
    let passed = reducer::tests(tests.len());
    screen.line(&format!("{name}: ok: streams {}; {passed} passed", types.join(", ")))
}
