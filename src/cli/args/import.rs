//! What can be typed after `import`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `import`.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// The JSON documents of a git repository: one aggregate each, one version a commit
    Git(ImportGitArgs),
    /// The rows of a CSV file
    Csv(ImportCsvArgs),
    /// The lines of an NDJSON file
    Ndjson(ImportNdjsonArgs),
}

/// What all imports have.
#[derive(Args, Clone, Debug)]
pub struct ImportSource {
    /// Print a configuration that folds these events, for `dev --config`, instead of events
    #[arg(long)]
    pub print_config: bool,
}

/// `import git`.
#[derive(Args, Clone, Debug)]
pub struct ImportGitArgs {
    /// A folder of the repository
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    pub directory: PathBuf,
    /// Which documents
    #[arg(long = "glob", value_name = "GLOB", default_value = "**/*.json")]
    pub globs: Vec<String>,
    /// Up to which commit; HEAD without
    #[arg(long, value_name = "REVISION")]
    pub rev: Option<String>,
    /// For `dev`.
    #[command(flatten)]
    pub source: ImportSource,
}

/// Where in a row or line the parts of an event are.
#[derive(Args, Clone, Debug)]
pub struct ImportRows {
    /// Column, or JSON pointer, of the aggregate's id
    #[arg(long, value_name = "PLACE", default_value = "id")]
    pub id: String,
    /// Column, or JSON pointer, of the event's type
    #[arg(long, value_name = "PLACE")]
    pub event_type_at: Option<String>,
    /// The type of events that have none
    #[arg(long, value_name = "NAME", default_value = "Changed")]
    pub event_type: String,
    /// Column, or JSON pointer, of the event's time: RFC 3339, a date, or epoch milliseconds
    #[arg(long, value_name = "PLACE")]
    pub time: Option<String>,
}

/// `import csv`.
#[derive(Args, Clone, Debug)]
pub struct ImportCsvArgs {
    /// The file, `-` for stdin; its first line names the columns
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Columns.
    #[command(flatten)]
    pub rows: ImportRows,
    /// What is between two cells
    #[arg(long, default_value_t = ',')]
    pub delimiter: char,
    /// Leave numbers texts
    #[arg(long)]
    pub texts: bool,
    /// For `dev`.
    #[command(flatten)]
    pub source: ImportSource,
}

/// `import ndjson`.
#[derive(Args, Clone, Debug)]
pub struct ImportNdjsonArgs {
    /// The file, `-` for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// JSON pointers.
    #[command(flatten)]
    pub rows: ImportRows,
    /// JSON pointer of the data; the whole line without
    #[arg(long, value_name = "POINTER")]
    pub data: Option<String>,
    /// For `dev`.
    #[command(flatten)]
    pub source: ImportSource,
}
