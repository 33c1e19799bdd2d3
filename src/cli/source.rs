//! Reading the configuration: the file, the environment, `--set` arguments and secrets. All commands that
//! need a configuration get it here.
//!
//! *What may leak*: nothing. A secret that cannot be read is named, never its text.

use super::failure::{Done, Exit, Failure};
use crate::config::{self, Config, SecretRef, Sources};
use std::ffi::OsString;
use std::path::Path;

/// Reads and checks a configuration. `sets` are `--set` arguments, `path=value`. Secrets are fetched from the
/// environment and from files; paths of files are relative to the working directory.
///
/// # Errors
/// Exit 6 with everything that is wrong, and where.
pub fn load_config(path: &Path, sets: &[String]) -> Done<Config> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Config, format!("cannot read the configuration `{name}`: {error}"))
            .hint("name a YAML file with `--config FILE`; config/compat.yaml is an example")
    })?;
    load_text(&name, &text, sets)
}

/// The same for a text that is no file, such as the sample that is built in.
///
/// # Errors
/// As [`load_config`].
pub fn load_text(name: &str, text: &str, sets: &[String]) -> Done<Config> {
    let file = Some((name.to_owned(), text.to_owned()));
    let sources = Sources { file, env: environment(std::env::vars_os())?, sets: sets.to_vec() };
    config::load(&sources, &fetch).map_err(|problems| Failure::new(Exit::Config, problems.to_string()))
}

/// The variables of ours. Others need not be UTF-8.
fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Done<Vec<(String, String)>> {
    let mut ours = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(config::PREFIX)) else { continue };
        let Ok(value) = value.into_string() else {
            return Err(Failure::new(Exit::Config, format!("the value of `{name}` is not UTF-8")));
        };
        ours.push((name.to_owned(), value));
    }
    Ok(ours)
}

fn fetch(secret: &SecretRef) -> Result<String, String> {
    match secret {
        SecretRef::File(path) => std::fs::read_to_string(path).map_err(|error| error.to_string()),
        SecretRef::Environment(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => "it is not set".to_owned(),
            std::env::VarError::NotUnicode(_) => "it is not UTF-8".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_and_ends_with_exit_6() {
        let failure = load_config(Path::new("no/such/file.yaml"), &[]).expect_err("there is none");
        assert_eq!(failure.exit, Exit::Config);
        assert!(
            failure.message.starts_with("cannot read the configuration `no/such/file.yaml`: "),
            "{failure:?}"
        );
        assert!(failure.hint.is_some());
    }

    #[test]
    fn only_variables_of_ours_are_read() {
        let variables = [("SNAPFOLD__KAFKA__GROUP", "g"), ("SNAPFOLD_SERVER", "x"), ("PATH", "y")];
        let ours = environment(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(ours, Ok(vec![("SNAPFOLD__KAFKA__GROUP".to_owned(), "g".to_owned())]));
    }

    #[test]
    fn secrets_come_from_files_and_the_environment_and_a_missing_one_is_only_named() {
        let file = SecretRef::File(concat!(env!("CARGO_MANIFEST_DIR"), "/config/compat.yaml").into());
        assert!(fetch(&file).expect("the file is there").contains("streams:"));
        assert!(fetch(&SecretRef::Environment("PATH".into())).is_ok());
        assert_eq!(fetch(&SecretRef::Environment("SNAPFOLD_NO_SUCH".into())), Err("it is not set".into()));
        assert!(fetch(&SecretRef::File("no/such/secret".into())).is_err());
    }
}
