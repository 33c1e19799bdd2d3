//! `import git`: each JSON document of a repository is an aggregate, each commit that touched it an event.
//! The state after an event is the document as that commit left it.
//!
//! History is followed along first parents, so each document has one line of versions: what a merge brought
//! is one event. A rename is a deletion and a creation.

use super::{LIMITS, Record, Records};
use crate::cli::args::ImportGitArgs;
use crate::cli::failure::{Done, Exit, Failure};
use crate::domain::ids::Timestamp;
use crate::domain::value::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A configuration that folds what this imports.
pub(super) const CONFIG: &str = include_str!("../../../config/git.yaml");

/// Before a commit, between its parts: neither is in any name, and git takes both out of subjects.
const COMMIT: char = '\u{1e}';
const PART: char = '\u{1f}';

/// A commit, as the events of its documents tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Commit {
    id: String,
    time_ms: i64,
    author: String,
    subject: String,
}

pub(super) fn import(args: &ImportGitArgs, records: &mut Records<'_, '_>) -> Done {
    let mut command = Command::new("git");
    command.arg("-C").arg(&args.directory).args([
        "log",
        "-z",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "-m",
        "--first-parent",
        "--reverse",
        "--format=%x1e%H%x1f%ct%x1f%an <%ae>%x1f%s",
    ]);
    command.arg(args.rev.as_deref().unwrap_or("HEAD")).arg("--");
    command.args(args.globs.iter().map(|glob| format!(":(glob){glob}")));
    let mut log = Running::start(command)?;
    let mut blobs = Blobs::start(args)?;
    let mut commit = Commit::default();
    let mut words = BufReader::new(log.out()?).split(0);
    while let Some(word) = words.next() {
        let word = String::from_utf8_lossy(&word?).into_owned();
        // A commit's changes follow on it after a line's end.
        let word = word.trim_start_matches('\n');
        if let Some(parts) = word.strip_prefix(COMMIT) {
            commit = commit_of(parts).ok_or_else(|| unreadable(parts))?;
        } else if let Some(change) = word.strip_prefix(':') {
            let path = words.next().transpose()?.ok_or_else(|| unreadable(word))?;
            let path = String::from_utf8_lossy(&path).into_owned();
            one(change, &path, &commit, &mut blobs, records)?;
        }
    }
    log.end()
}

/// One change of one document: `OLDMODE NEWMODE OLDBLOB NEWBLOB LETTER`.
fn one(change: &str, path: &str, commit: &Commit, blobs: &mut Blobs, records: &mut Records<'_, '_>) -> Done {
    let parts: Vec<&str> = change.split(' ').collect();
    let [_, mode, _, blob, letter] = parts[..] else { return Err(unreadable(change)) };
    let what = format!("{path} in {}", commit.id);
    let (kind, value) = match letter.chars().next() {
        Some('D') => ("Deleted", None),
        // A symbolic link's blob is a path, a submodule has none.
        Some(_) if !mode.starts_with("100") => {
            records.leave_out(&what, "it is no regular file");
            return Ok(());
        }
        letter => {
            let kind = if letter == Some('A') { "Created" } else { "Changed" };
            match blobs.document(blob)? {
                Ok(document) => (kind, Some(document)),
                Err(why) => {
                    records.leave_out(&what, &why);
                    return Ok(());
                }
            }
        }
    };
    let headers = vec![
        ("type", kind.to_owned()),
        ("commit", commit.id.clone()),
        ("author", commit.author.clone()),
        ("subject", commit.subject.clone()),
    ];
    records.write(Record { key: path.to_owned(), headers, time: Some(Timestamp(commit.time_ms)), value })
}

fn commit_of(parts: &str) -> Option<Commit> {
    let mut parts = parts.splitn(4, PART).map(str::to_owned);
    let id = parts.next()?;
    let seconds: i64 = parts.next()?.parse().ok()?;
    Some(Commit { id, time_ms: seconds.checked_mul(1_000)?, author: parts.next()?, subject: parts.next()? })
}

fn unreadable(what: &str) -> Failure {
    let what = what.chars().take(80).collect::<String>();
    Failure::new(Exit::Failure, format!("git said something unexpected: `{}`", what.escape_debug()))
}

/// A `git` that runs.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Done<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command.spawn().map(Self).map_err(|error| no_git(&error))
    }

    fn out(&mut self) -> Done<ChildStdout> {
        self.0.stdout.take().ok_or_else(|| Failure::new(Exit::Failure, "the output of git is taken"))
    }

    fn end(mut self) -> Done {
        if self.0.wait()?.success() {
            return Ok(());
        }
        let hint = "name a folder inside a repository, and a revision that it has";
        Err(Failure::new(Exit::Failure, "git failed, see above").hint(hint))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then both fail and nothing is left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn no_git(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot run `git`: {error}")).hint("install git, or put it into PATH")
}

/// Contents, asked for one after the other from one `git cat-file --batch`.
struct Blobs {
    // Dropped before the process: what waits for more to read then ends.
    asking: ChildStdin,
    answers: BufReader<ChildStdout>,
    _running: Running,
}

impl Blobs {
    fn start(args: &ImportGitArgs) -> Done<Self> {
        let mut command = Command::new("git");
        command.arg("-C").arg(&args.directory).args(["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| no_git(&error))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let running = Running(child);
        let (asking, answers) =
            pipes.ok_or_else(|| Failure::new(Exit::Failure, "the pipes of git are taken"))?;
        Ok(Self { asking, answers: BufReader::new(answers), _running: running })
    }

    /// The document of a blob, or why it is none.
    fn document(&mut self, blob: &str) -> Done<Result<Value, String>> {
        writeln!(self.asking, "{blob}")?;
        self.asking.flush()?;
        let mut head = String::new();
        self.answers.read_line(&mut head)?;
        let size = head.trim_end().rsplit(' ').next().and_then(|size| size.parse::<u64>().ok());
        let size = size.ok_or_else(|| unreadable(&head))?;
        let mut bytes = Vec::new();
        // The content, and the line's end after it.
        self.answers.by_ref().take(size + 1).read_to_end(&mut bytes)?;
        bytes.pop();
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        Ok(Value::parse(text, &LIMITS).map_err(|error| format!("it is no JSON: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_has_its_parts_and_a_subject_may_hold_anything() {
        let commit = commit_of("abc\u{1f}1700000000\u{1f}A <a@b>\u{1f}fix: a | b").expect("a commit");
        assert_eq!((commit.time_ms, &*commit.author), (1_700_000_000_000, "A <a@b>"));
        assert_eq!(commit.subject, "fix: a | b");
        assert_eq!(commit_of("abc\u{1f}later\u{1f}A\u{1f}x"), None);
        assert_eq!(commit_of("abc"), None);
    }
}
