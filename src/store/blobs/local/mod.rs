//! Objects as files below one folder: `v1/full/202501/3f/….sfp` is that path.
//!
//! | file | owns |
//! |---|---|
//! | [`list`] | names in byte order, from folders that have none |
//! | [`cached`] | small reads that need not wait |
//!
//! *Order*: bytes go to a file in `.writing`, fsync, then a hard link gives it its name, which fails if the
//! name is taken (a rename would replace), then fsync of the folders. So a name is there with all its bytes
//! or not at all, whenever the process or the machine dies, and the first writer of a name wins.
//! *If it fails*: before the link nothing happened; from the link on the outcome is unknown until it is
//! repeated.
//! *If cancelled*: as if it failed. *What may leak*: files in `.writing`; opening the folder removes those
//! that no living process holds. Folders that became empty stay.
//!
//! COST: a range read that must wait for the disk is one hop to a thread for blocking work and open, pread,
//! close: the hop costs more than the three calls, so files are not kept open (a kept file would also hide a
//! deletion by somebody else).

mod cached;
mod list;

use super::{Blob, Blobs, check_name};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::Timestamp;
use crate::domain::outcome::{PortError, PortResult};
use futures_util::future::BoxFuture;
use std::fs::{File, create_dir, create_dir_all, hard_link, read_dir, remove_file};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;

/// Where objects are written before they have their name. No object's name starts with a dot.
const WRITING: &str = ".writing";
/// Says what the folder is, and that it is there: an empty mount point has none.
const MARKER: &str = ".snapfold-blobs";
const FORMAT: &str = "snapfold blobs 1\n";

/// Objects in a folder; clones share it.
#[derive(Clone)]
pub struct LocalBlobs {
    root: Arc<Path>,
    written: Arc<AtomicU64>,
}

impl LocalBlobs {
    /// Opens the objects below a folder, creating it where there is none.
    ///
    /// # Errors
    /// If the folder cannot be written, its file system has no hard links, or a newer version of snapfold
    /// wrote it.
    pub fn open(path: &Path) -> Result<Self> {
        let told = |detail: String| {
            let kind = ErrorKind::Invalid;
            Error::new(kind, "dependency-down", format!("open objects `{}`: {detail}", path.display()))
        };
        let io = |error: io::Error| {
            told(format!(
                "{error}: the folder must be writable for the user that runs snapfold, with space left"
            ))
        };
        create_dir_all(path.join(WRITING)).map_err(io)?;
        let root = std::path::absolute(path).map_err(io)?;
        let blobs = Self { root: root.into(), written: Arc::default() };
        blobs.sweep().map_err(io)?;
        let marker = blobs.root.join(MARKER);
        match std::fs::read_to_string(&marker) {
            Ok(format) if format == FORMAT => return Ok(blobs),
            Ok(format) => {
                return Err(told(format!(
                    "it holds `{}`, this version reads `{}`: use the snapfold that wrote it",
                    format.trim_end().escape_default(),
                    FORMAT.trim_end()
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let (writing, mut file) = blobs.begin().map_err(io)?;
        file.write_all(FORMAT.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        match hard_link(&writing.0, &marker) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(told(format!(
                    "its file system has no hard links ({error}): use a folder on another one"
                )));
            }
        }
        sync_folder(&blobs.root).map_err(io)?;
        Ok(blobs)
    }

    /// Removes what died while it was written. A living writer holds a lock on its file.
    fn sweep(&self) -> io::Result<()> {
        for entry in read_dir(self.root.join(WRITING))? {
            let path = entry?.path();
            if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// A new locked file in `.writing`.
    fn begin(&self) -> io::Result<(Writing, File)> {
        loop {
            let number = self.written.fetch_add(1, Ordering::Relaxed);
            let path = self.root.join(WRITING).join(format!("{}-{number}", std::process::id()));
            match File::create_new(&path) {
                Ok(file) => {
                    let writing = Writing(path);
                    file.lock()?;
                    return Ok((writing, file));
                }
                // Another container with equal process ids.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn path(&self, name: &str) -> PortResult<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    /// "Missing" only if the folder itself is there: an unmounted volume has lost nothing.
    fn read_error(&self, error: &io::Error) -> PortError {
        use io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound | Io::NotADirectory | Io::IsADirectory if self.is_there() => PortError::Missing,
            _ => self.failed(error),
        }
    }

    fn is_there(&self) -> bool {
        self.root.join(MARKER).is_file()
    }

    /// An error before anything happened.
    fn failed(&self, error: &io::Error) -> PortError {
        let root = self.root.display();
        if error.kind() == io::ErrorKind::NotFound && !self.is_there() {
            return PortError::NotDone(format!(
                "the objects' folder `{root}` is gone: is its volume mounted?"
            ));
        }
        match explained(error) {
            Explained::Wait(what) => PortError::NotDone(format!("objects in `{root}`: {error}: {what}")),
            Explained::Stop(what) => PortError::Permanent(format!("objects in `{root}`: {error}: {what}")),
        }
    }

    /// The folders of an object, durable.
    fn create_folders(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().expect("an object is below the root");
        if folder.is_dir() {
            return Ok(());
        }
        if !self.is_there() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.create_folders(folder)?;
        match create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        sync_folder(folder.parent().expect("a folder of objects is below the root"))
    }

    /// Gives a written file its name.
    fn name(&self, writing: &Writing, path: &Path) -> PortResult<()> {
        self.create_folders(path).map_err(|error| self.failed(&error))?;
        let linked = match hard_link(&writing.0, path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(PortError::Exists),
            Err(error) => return Err(self.failed(&error)),
        };
        // INVARIANT: also an object that was there already is durable when that is told: it may be an
        // earlier try of the same writer that died here.
        let folder = path.parent().expect("an object is below the root");
        sync_folder(folder).map_err(|error| {
            PortError::Unknown(format!("objects in `{}`: fsync of a folder: {error}", self.root.display()))
        })?;
        linked
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> PortResult<()> {
        let path = self.path(name)?;
        let this = self.clone();
        let exists = path.clone();
        let begun = blocking(move || if exists.exists() { Ok(None) } else { this.begin().map(Some) }).await?;
        let Some((writing, file)) = begun.map_err(|error| self.failed(&error))? else {
            return Err(self.already(path).await);
        };
        let mut file = tokio::fs::File::from_std(file);
        let written = async {
            file.write_all(bytes).await?;
            file.flush().await?;
            file.sync_all().await
        };
        written.await.map_err(|error| self.failed(&error))?;
        let this = self.clone();
        // The file stays open, and so locked, until it has its name.
        let file = file.into_std().await;
        blocking(move || {
            let named = this.name(&writing, &path);
            drop(file);
            named
        })
        .await?
    }

    /// Makes sure that an object that is there is durable before that is told.
    async fn already(&self, path: PathBuf) -> PortError {
        let folder = path.parent().expect("an object is below the root").to_owned();
        match blocking(move || sync_folder(&folder)).await {
            Ok(Ok(())) => PortError::Exists,
            Ok(Err(error)) => self.failed(&error),
            Err(error) => error,
        }
    }

    /// Runs a read of one object off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        name: &str,
        read: impl FnOnce(File, u64) -> io::Result<T> + Send + 'static,
    ) -> PortResult<T> {
        let path = self.path(name)?;
        let opened = blocking(move || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            read(file, metadata.len())
        });
        opened.await?.map_err(|error| self.read_error(&error))
    }
}

/// A file in `.writing`, removed when it has its name or is given up.
struct Writing(PathBuf);

impl Drop for Writing {
    fn drop(&mut self) {
        // What stays is swept when the folder is opened next.
        let _ = remove_file(&self.0);
    }
}

enum Explained {
    Wait(&'static str),
    Stop(&'static str),
}

/// What to do about an error of the file system.
fn explained(error: &io::Error) -> Explained {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::StorageFull => {
            Explained::Wait("free space on the volume or enlarge it; nothing is lost meanwhile")
        }
        Io::QuotaExceeded => {
            Explained::Wait("raise the quota of the user or the folder; nothing is lost meanwhile")
        }
        Io::PermissionDenied => {
            Explained::Stop("give the user that runs snapfold the right to read and write it")
        }
        Io::ReadOnlyFilesystem => {
            Explained::Stop("mount the volume for writing (a sick disk is mounted read-only)")
        }
        Io::FileTooLarge => {
            Explained::Stop("the file system or a limit of the process allows no file of that size")
        }
        Io::InvalidFilename => {
            Explained::Stop("the file system takes no such name: use one that takes 255 bytes")
        }
        _ if error.raw_os_error() == Some(TOO_MANY_FILES) => {
            Explained::Wait("raise the limit of open files (`ulimit -n`) of the process")
        }
        _ => Explained::Wait("check the disk, the volume and the system's log"),
    }
}

/// EMFILE on every Unix.
const TOO_MANY_FILES: i32 = 24;

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> PortResult<T> {
    let done = spawn_blocking(work).await;
    done.map_err(|error| PortError::Unknown(format!("the process is stopping, or a bug: {error}")))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn read_range(mut file: File, start: u64, len: u64) -> io::Result<Blob> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Blobs for LocalBlobs {
    fn put_new<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(self.put(name, bytes))
    }

    fn get_range<'a>(&'a self, name: &'a str, start: u64, len: u64) -> BoxFuture<'a, PortResult<Blob>> {
        Box::pin(async move {
            if let Some(bytes) = cached::range(&self.path(name)?, start, len) {
                return Ok(bytes);
            }
            // What is claimed is bounded by what is there before anything is allocated.
            let read = move |file, whole: u64| {
                let start = start.min(whole);
                read_range(file, start, len.min(whole - start))
            };
            self.read(name, read).await
        })
    }

    fn get_tail<'a>(&'a self, name: &'a str, len: u64) -> BoxFuture<'a, PortResult<(Blob, u64)>> {
        Box::pin(self.read(name, move |file, whole| {
            let len = len.min(whole);
            Ok((read_range(file, whole - len, len)?, whole))
        }))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, PortResult<Vec<String>>> {
        Box::pin(async move {
            let root = Arc::clone(&self.root);
            let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
            let listed = blocking(move || list::names(&root, &prefix, &after, limit)).await?;
            match listed {
                Ok(names) if !names.is_empty() || self.is_there() => Ok(names),
                Ok(_) => Err(self.read_error(&io::ErrorKind::NotFound.into())),
                Err(error) => Err(self.failed(&error)),
            }
        })
    }

    fn modified<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<Timestamp>> {
        Box::pin(async move {
            let path = self.path(name)?;
            let asked = blocking(move || std::fs::metadata(path).and_then(|told| told.modified())).await?;
            let time = asked.map_err(|error| self.read_error(&error))?;
            let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Ok(Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move {
            let path = self.path(name)?;
            let folder = path.parent().expect("an object is below the root").to_owned();
            let deleted = blocking(move || remove_file(path).and_then(|()| sync_folder(&folder))).await?;
            match deleted.map_err(|error| self.read_error(&error)) {
                Ok(()) | Err(PortError::Missing) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }
}

#[cfg(test)]
mod tests;
