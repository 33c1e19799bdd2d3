//! Background duties, each a plan in `domain` and an act in `store`.
//!
//! | file | owns |
//! |---|---|
//! | [`compaction`] | history merged into segments, by the owners of partitions |
//! | [`compare`] | which states a new reducer would change |
//! | [`gc`] | deleting packs that nothing names |
//! | [`merging`] | the walk over all aggregates that merges what will not be merged again |
//! | [`refold`] | a new lineage out of the stored events of the one before |
//! | [`retention`] | deleting snapshots, as `retention` says or as somebody asks |
//! | [`scrub`] | reading what nobody asked for, and writing anew what is damaged |
//! | [`thinning`] | looking at every aggregate now and then, to delete what is not kept |

pub mod compaction;
pub mod compare;
pub mod gc;
pub mod merging;
pub mod refold;
pub mod retention;
pub mod scrub;
pub mod thinning;
