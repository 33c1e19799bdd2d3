//! Log lines on stderr: text for people at a terminal, JSON for everything else.
//!
//! `SNAPFOLD_LOG` holds the level, or a filter such as `info,snapfold::http=debug`; left out, it is
//! [`FILTER`]. `SNAPFOLD_LOG_FORMAT` is `text` or `json`. `NO_COLOR` is respected. *What may leak*: nothing
//! is added to what the callers write, and those write neither payloads nor secrets.

use std::io::IsTerminal;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged by default. librdkafka warns of what it mends by itself (a broker that hangs up, a metadata
/// request that comes late); what it cannot mend reaches the log as an outcome of ours.
const FILTER: &str = "warn,librdkafka=error";

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line for people.
    Text,
    /// One object per line.
    Json,
}

/// How log lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// What they look like.
    pub format: Format,
    /// Which ones are written, as `EnvFilter` reads it.
    pub filter: String,
    /// Whether text has colours.
    pub has_colours: bool,
}

impl LogSettings {
    /// What the environment says, through `variable`.
    ///
    /// # Errors
    /// A sentence about a variable that cannot be understood.
    pub fn from(variable: impl Fn(&str) -> Option<String>, is_terminal: bool) -> Result<Self, String> {
        let format = match variable("SNAPFOLD_LOG_FORMAT").as_deref() {
            Some("text") => Format::Text,
            Some("json") => Format::Json,
            None | Some("") if is_terminal => Format::Text,
            None | Some("") => Format::Json,
            Some(other) => return Err(format!("SNAPFOLD_LOG_FORMAT is `{other}`: write `text` or `json`")),
        };
        let filter = variable("SNAPFOLD_LOG").filter(|filter| !filter.is_empty());
        let has_colours = is_terminal && variable("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self { format, filter: filter.unwrap_or_else(|| FILTER.to_owned()), has_colours })
    }

    /// Where lines go to, as something that can be installed.
    ///
    /// # Errors
    /// A sentence about the filter.
    fn subscriber<W>(&self, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, String>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let filter = EnvFilter::try_new(&self.filter).map_err(|error| {
            format!("SNAPFOLD_LOG is `{}`: {error}; write a level or `target=level,…`", self.filter)
        })?;
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
        Ok(match self.format {
            Format::Text => Box::new(lines.with_ansi(self.has_colours).finish()),
            Format::Json => Box::new(lines.json().flatten_event(true).with_current_span(false).finish()),
        })
    }
}

/// Starts logging as the environment says.
///
/// # Errors
/// A sentence about a variable that cannot be understood, or that logging runs already.
pub fn start() -> Result<(), String> {
    let settings = LogSettings::from(|name| std::env::var(name).ok(), std::io::stderr().is_terminal())?;
    let subscriber = settings.subscriber(std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|error| format!("start logging: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn of(variables: &[(&str, &str)], is_terminal: bool) -> Result<LogSettings, String> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        LogSettings::from(|name| find(name).map(|(_, value)| (*value).to_owned()), is_terminal)
    }

    fn written(settings: &LogSettings) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = settings.subscriber(move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(partition = 4, "partition running");
            tracing::debug!("not shown");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_terminal_gets_text_everything_else_json_unless_it_is_said_otherwise() {
        let format = |variables, is_terminal| of(variables, is_terminal).map(|it| it.format);
        assert_eq!(format(&[], true), Ok(Format::Text));
        assert_eq!(format(&[], false), Ok(Format::Json));
        assert_eq!(format(&[("SNAPFOLD_LOG_FORMAT", "json")], true), Ok(Format::Json));
        assert!(format(&[("SNAPFOLD_LOG_FORMAT", "xml")], true).unwrap_err().contains("`text` or `json`"));
        assert!(!of(&[("NO_COLOR", "1")], true).unwrap().has_colours);
    }

    #[test]
    fn lines_are_one_object_each_or_plain_text_and_the_level_holds() {
        let json = written(&of(&[("SNAPFOLD_LOG", "info")], false).unwrap());
        let line: serde_json::Value = serde_json::from_str(&json).expect("one line of JSON");
        assert_eq!((&line["message"], &line["partition"]), (&"partition running".into(), &4.into()));
        let text = written(&of(&[("NO_COLOR", "1"), ("SNAPFOLD_LOG", "info")], true).unwrap());
        assert!(text.ends_with("partition running partition=4\n") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn by_default_only_warnings_of_ours_are_written() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = of(&[], true).unwrap().subscriber(move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("quiet");
            tracing::warn!(target: "librdkafka", "quiet");
            tracing::warn!("loud");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
    }

    #[test]
    fn a_filter_that_is_none_is_an_error() {
        let settings = of(&[("SNAPFOLD_LOG", "snapfold=loudly")], false).unwrap();
        assert!(settings.subscriber(std::io::sink).is_err());
    }
}
