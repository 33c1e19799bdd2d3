//! Background duties: each plans with what `domain` knows and acts through `store`.
//!
//! | file | owns |
//! |---|---|
//! | [`compare`] | which states a new reducer would change |
//! | [`refold`] | a new lineage out of the stored events of the one before |

pub mod compare;
pub mod refold;
