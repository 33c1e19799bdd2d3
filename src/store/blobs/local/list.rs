//! Names of objects in byte order, from a tree of folders.
//!
//! SUBTLE: a folder sorts as its name with the `/` that follows it in its objects' names: `a-b` before
//! `a/c`, `a0` after it. COST: a page reads each folder it touches whole; only a page's own folders are
//! touched.

use std::fs::read_dir;
use std::io;
use std::path::Path;

/// What a listing looks for.
struct Search<'a> {
    prefix: &'a str,
    /// Names must be greater; empty for all.
    after: &'a str,
    limit: usize,
    found: Vec<String>,
}

/// Up to `limit` names below `root` that start with `prefix` and are greater than `after`, in byte order.
pub(super) fn names(root: &Path, prefix: &str, after: &str, limit: usize) -> io::Result<Vec<String>> {
    let mut search = Search { prefix, after, limit, found: Vec::new() };
    search.folder(root, "")?;
    Ok(search.found)
}

impl Search<'_> {
    /// `inside` is the folder's name with its `/`.
    fn folder(&mut self, path: &Path, inside: &str) -> io::Result<()> {
        let entries = match read_dir(path) {
            Ok(entries) => entries,
            // Nobody removes folders, but they may be in the making.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Ours, not objects.
            if name.starts_with('.') {
                continue;
            }
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            names.push(format!("{inside}{name}{slash}"));
        }
        names.sort_unstable();
        for name in names {
            if self.found.len() == self.limit {
                break;
            }
            if name.ends_with('/') {
                if self.may_hold(&name) {
                    let folder = path.join(&name[inside.len()..]);
                    self.folder(&folder, &name)?;
                }
            } else if name.starts_with(self.prefix) && *name > *self.after {
                self.found.push(name);
            }
        }
        Ok(())
    }

    /// Whether a folder can hold names that are looked for.
    fn may_hold(&self, folder: &str) -> bool {
        let is_on_the_way = folder.starts_with(self.prefix) || self.prefix.starts_with(folder);
        let is_later = folder > self.after || self.after.starts_with(folder);
        is_on_the_way && is_later
    }
}
