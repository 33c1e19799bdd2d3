//! Snapshots at rest. `SnapshotStore` alone knows the order of writes; `index` and `blobs` are its two ports.
//!
//! | file | owns |
//! |---|---|
//! | [`index`] | the `Index` port: rows |
//! | [`blobs`] | the `Blobs` port: immutable objects |

pub mod blobs;
pub mod index;
