//! Bytes to domain and back: JSON, YAML, event records, snapshot bodies, packs, compression. Pure: no I/O, no
//! tasks.
//!
//! | module | owns |
//! |---|---|
//! | [`avro`] | schemas to plans, bytes to values by a plan |
//! | [`body`] | the uncompressed bytes of a record: events (D) and state (F) |
//! | [`compress`] | one encoder and one bomb-safe decoder for every codec |
//! | [`dictionary`] | zstd dictionaries, and training them without leaking |
//! | [`envelope`] | records of the other formats to events: Avro, CloudEvents, Debezium |
//! | [`event_json`] | records with a JSON value to events |
//! | `reading` | what a mapping finds in a record, whatever its format |
//! | [`pack`] | one immutable object with many records and a footer that describes them |
//! | [`row`] | rows of the index: one canonical form, versioned and checksummed |
//! | [`yaml`] | YAML text to a tree that knows where everything stands |

pub mod avro;
pub mod body;
pub mod compress;
pub mod dictionary;
pub mod envelope;
pub mod event_json;
pub mod pack;
mod reading;
pub mod row;
pub(crate) mod wire;
pub mod yaml;
