//! Bytes to domain and back: JSON, YAML, event records, snapshot bodies, packs, compression. Pure: no I/O, no
//! tasks.
//!
//! | module | owns |
//! |---|---|
//! | [`body`] | the uncompressed bytes of a record: events (D) and state (F) |
//! | [`compress`] | one encoder and one bomb-safe decoder for every codec |
//! | [`dictionary`] | zstd dictionaries, and training them without leaking |
//! | [`event_json`] | records with a JSON value to events |
//! | [`pack`] | one immutable object with many records and a footer that describes them |
//! | [`row`] | rows of the index: one canonical form, versioned and checksummed |
//! | [`yaml`] | YAML text to a tree that knows where everything stands |

pub mod body;
pub mod compress;
pub mod dictionary;
pub mod event_json;
pub mod pack;
pub mod row;
pub(crate) mod wire;
pub mod yaml;
