//! Whether an index was lost, or is being rebuilt: it has no low watermark of a log whose checkpoints are in
//! the blob store. (A rebuild writes low watermarks last.)

use crate::codec::pack::{Class, named_pack};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::row::PartitionKey;
use crate::store::index::Index;
use crate::store::packs::Packs;
use crate::store::unavailable;
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeSet;

/// A worker that starts where the log has lost its beginning, and dies before it has written its first low
/// watermark, leaves a checkpoint or two.
const CHECKPOINTS_MIN: usize = 3;
/// Checkpoints that are looked at: they are of other streams where none is of this one.
const LOOKS_MAX: usize = 2_000;
const LOOKS_AT_ONCE: usize = 32;

/// True if the index has no low watermark of any of these logs of a type, and packs hold checkpoints of them.
///
/// # Errors
/// `Unavailable` if a store does not answer.
pub async fn is_lost(
    index: &dyn Index,
    packs: &Packs,
    kind: &str,
    logs: BTreeSet<PartitionKey>,
) -> Result<bool> {
    for log in &logs {
        let known = index.watermarks(log).await;
        if !known.map_err(|error| unavailable("read low watermarks", &error))?.is_empty() {
            return Ok(false);
        }
    }
    let prefix = format!("v1/{}/", Class::Checkpoint.name());
    let names = packs.blobs.list(&prefix, None, LOOKS_MAX).await;
    let names = names.map_err(|error| unavailable("list checkpoints", &error))?;
    let looks = names.iter().filter_map(|name| named_pack(name));
    let looks: Vec<_> = looks.map(|(_, pack)| packs.footer(pack)).collect();
    let mut looks = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
    let mut found = 0;
    while let Some(footer) = looks.next().await {
        let footer = match footer {
            Ok(footer) => footer,
            Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
            // What cannot be read tells nothing.
            Err(_) => continue,
        };
        let is_ours = |mark: &crate::codec::pack::Mark| &*mark.kind == kind && logs.contains(&mark.row.key);
        found += usize::from(footer.marks().is_ok_and(|marks| marks.iter().any(is_ours)));
        if found >= CHECKPOINTS_MIN {
            return Ok(true);
        }
    }
    Ok(false)
}
