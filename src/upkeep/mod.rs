//! Background duties, and what keeps stored history whole: each plans with what `domain` knows and acts
//! through `store`.
//!
//! | file | owns |
//! |---|---|
//! | [`archive`] | moving old packs to an archive |
//! | `backup` | copies of all objects, with a manifest, and back (feature `runtime`) |
//! | [`compaction`] | history merged into segments, by the owners of partitions |
//! | [`compare`] | which states a new reducer would change |
//! | [`dropping`] | a lineage that nobody folds any more, and all that is stored of it |
//! | [`gc`] | deleting packs that nothing names |
//! | `lease` | one worker at a time for a duty, by the store's clock |
//! | [`merging`] | the walk over all aggregates that merges what will not be merged again |
//! | `manifest` | what a backup holds, as a text with a checksum (feature `runtime`) |
//! | `offline` | whether objects alone tell a history that is sound (feature `runtime`) |
//! | [`purge`] | packs written anew without the records of erased aggregates |
//! | [`refold`] | a new lineage out of the stored events of the one before |
//! | [`retention`] | deleting snapshots, as `retention` says or as somebody asks |
//! | [`schedules`] | snapshots at due times, by the owners of partitions |
//! | [`scrub`] | reading what nobody asked for, and writing anew what is damaged |
//! | `settled` | which records no owner will come to rely on any more |
//! | [`thinning`] | looking at every aggregate now and then, to delete what is not kept |

pub mod archive;
#[cfg(feature = "runtime")]
pub mod backup;
pub mod compaction;
pub mod compare;
pub mod dropping;
pub mod gc;
mod lease;
#[cfg(feature = "runtime")]
pub mod manifest;
pub mod merging;
#[cfg(feature = "runtime")]
pub mod offline;
pub mod purge;
pub mod refold;
pub mod retention;
pub mod schedules;
pub mod scrub;
mod settled;
pub mod thinning;
