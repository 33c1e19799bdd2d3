//! Bytes to domain and back: JSON, YAML, event records, snapshot bodies, packs, compression. Pure: no I/O, no
//! tasks.
//!
//! | module | owns |
//! |---|---|
//! | [`body`] | the uncompressed bytes of a record: events (D) and state (F) |
//! | [`chain`] | event digest, genesis and link of an aggregate's hash chain |
//! | [`compress`] | one encoder and one bomb-safe decoder for every codec |
//! | [`dictionary`] | zstd dictionaries, and training them without leaking |
//! | [`pack`] | one immutable object with many records and a footer that describes them |

pub mod body;
pub mod chain;
pub mod compress;
pub mod dictionary;
pub mod pack;
mod wire;
