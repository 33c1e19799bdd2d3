//! Background duties, each a plan in `domain` and an act in `store`.
//!
//! | file | owns |
//! |---|---|
//! | [`schedules`] | snapshots at due times, by the owners of partitions |

pub mod schedules;
