//! Background duties: each plans with what `domain` knows and acts through `store`.
//!
//! | file | owns |
//! |---|---|
//! | [`compaction`] | history merged into segments, by the owners of partitions |
//! | [`compare`] | which states a new reducer would change |
//! | [`refold`] | a new lineage out of the stored events of the one before |
//! | [`scrub`] | reading what nobody asked for, and writing anew what is damaged |

pub mod compaction;
pub mod compare;
pub mod refold;
pub mod scrub;
