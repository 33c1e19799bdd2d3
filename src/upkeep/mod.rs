//! Background duties, each a plan in `domain` and an act in `store`.
//!
//! | file | owns |
//! |---|---|
//! | [`compaction`] | history merged into segments, by the owners of partitions |

pub mod compaction;
