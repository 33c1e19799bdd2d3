//! Which archive belongs to a live store: both hold an id, each under a name of its own.
//!
//! Without it an archive that is not mounted would look empty, and what is empty reads as "missing", which a
//! fold believes; and an archive that is the live store by another path would be found to hold a copy of
//! every pack, whose last one would then be deleted.
//!
//! *Order*: the archive's object, then a look whether the live store has that too, then the live store's; all
//!   before the first pack moves. *If it fails*: no pack moves. *What may leak*: an id in the archive that no
//!   live store names.

use super::Blobs;
use crate::clock::Clock;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::LedgerId;
use crate::domain::outcome::PortError;
use crate::store::unavailable;

/// Names of a live store: which archives its packs were moved to.
const LIVE: &str = "v1/archived-to/";
/// Names of an archive: which live stores' packs it has.
const ARCHIVE: &str = "v1/archive-of/";
/// More archives than anybody ever had.
const IDS_MAX: usize = 100;

fn refused(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "dependency-down", detail)
}

async fn ids(live: &dyn Blobs) -> Result<Vec<String>> {
    let names = live.list(LIVE, None, IDS_MAX).await;
    let names = names.map_err(|error| unavailable("ask which archive packs were moved to", &error))?;
    Ok(names.iter().filter_map(|name| name.strip_prefix(LIVE)).map(str::to_owned).collect())
}

async fn has(blobs: &dyn Blobs, name: &str) -> Result<bool> {
    match blobs.get_tail(name, 0).await {
        Ok(_) => Ok(true),
        Err(PortError::Missing) => Ok(false),
        Err(error) => Err(unavailable(&format!("look for `{name}`"), &error)),
    }
}

/// Refuses a live store whose packs were moved to another archive than this one, or to any if there is none.
///
/// # Errors
/// `Invalid` for that, with what to do; `Unavailable` where a store does not answer.
pub async fn check(live: &dyn Blobs, archive: Option<&dyn Blobs>) -> Result<()> {
    is_told_by(&ids(live).await?, archive).await
}

async fn is_told_by(ids: &[String], archive: Option<&dyn Blobs>) -> Result<()> {
    for id in ids {
        let Some(archive) = archive else {
            return Err(refused(
                "packs of this blob store were moved to an archive: name it as `blobs.archive`, in the \
                 configuration of every process",
            ));
        };
        if !has(archive, &format!("{ARCHIVE}{id}")).await? {
            return Err(refused(format!(
                "`blobs.archive` is not the archive that packs were moved to (it has no `{ARCHIVE}{id}`): mount \
                 that one, or name it"
            )));
        }
    }
    Ok(())
}

/// Ties an archive to a live store, unless it is tied already.
///
/// # Errors
/// As for [`check`]; `Invalid` too where both are the same store.
pub async fn tie(live: &dyn Blobs, archive: &dyn Blobs, clock: &dyn Clock) -> Result<()> {
    let mut ids = ids(live).await?;
    is_told_by(&ids, Some(archive)).await?;
    let is_new = ids.is_empty();
    if is_new {
        let id = LedgerId::mint(clock.now(), clock.random()).to_string();
        let put = archive.put_new(&format!("{ARCHIVE}{id}"), id.as_bytes()).await;
        put.map_err(|error| unavailable("tie the archive to the blob store", &error))?;
        ids.push(id);
    }
    for id in &ids {
        if has(live, &format!("{ARCHIVE}{id}")).await? {
            return Err(refused(
                "`blobs.archive` is the blob store itself by another name: name another bucket, prefix or folder",
            ));
        }
        if is_new {
            let put = live.put_new(&format!("{LIVE}{id}"), id.as_bytes()).await;
            put.map_err(|error| unavailable("tie the blob store to the archive", &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::MemoryBlobs;
    use super::*;
    use crate::clock::Still;
    use futures_util::FutureExt;

    fn now<T>(done: impl Future<Output = T>) -> T {
        done.now_or_never().expect("memory answers at once")
    }

    #[test]
    fn an_archive_is_tied_once_and_no_other_takes_its_place() {
        let (live, archive, other) = (MemoryBlobs::new(), MemoryBlobs::new(), MemoryBlobs::new());
        let clock = Still;
        assert_eq!(now(check(&live, None)), Ok(()), "nothing was moved");
        assert_eq!(now(tie(&live, &archive, &clock)), Ok(()));
        assert_eq!(now(tie(&live, &archive, &clock)), Ok(()));
        assert_eq!(now(live.list(LIVE, None, 9)).map(|names| names.len()), Ok(1), "it has one id");
        assert_eq!(now(check(&live, Some(&archive))), Ok(()));
        for told in
            [now(check(&live, Some(&other))), now(check(&live, None)), now(tie(&live, &other, &clock))]
        {
            let error = told.expect_err("that is not where packs are");
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(error.detail.contains("`blobs.archive`"), "{error}");
        }
    }

    #[test]
    fn a_store_is_not_its_own_archive() {
        let live = MemoryBlobs::new();
        let error = now(tie(&live, &live, &Still)).expect_err("it would lose every pack");
        assert!(error.detail.contains("by another name"), "{error}");
        assert_eq!(now(live.list(LIVE, None, 9)), Ok(vec![]), "nobody is told that packs were moved");
    }
}
