//! Snapshots at rest. `SnapshotStore` alone knows the order of writes; `index` and `blobs` are its two ports.
//!
//! | file | owns |
//! |---|---|
//! | [`index`] | the `Index` port: rows |
//! | [`blobs`] | the `Blobs` port: immutable objects |
//! | [`outcome`] | what a port can say about a write |

pub mod blobs;
pub mod index;
pub mod outcome;
