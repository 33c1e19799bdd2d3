//! Avro in the wire format of Confluent-compatible schema registries: which schema bytes were written with,
//! schemas as plans, and bytes to values by a plan.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | ids of schemas, the wire format, the port to whoever has the schemas |
//! | `schema.rs` | the JSON of a schema to a [`Plan`], once |
//! | `decode.rs` | bytes to a [`Value`](crate::domain::value::Value) by a plan: limits, faults |
//! | `text.rs` | texts of decimals, dates, times and bytes |
//!
//! Bytes are read with the schema they were written with and nothing else: a state is JSON, so no second
//! schema could add anything that a mapping and a reducer do not say better (docs/adr/0012).

mod decode;
#[cfg(test)]
mod oracle;
mod schema;
#[cfg(test)]
mod strategy;
#[cfg(test)]
mod tests;
mod text;

pub use decode::{AvroError, AvroFault, Measured};
pub use schema::{Plan, SchemaError};

use super::reading::header;
use crate::domain::event::Preparing;
use crate::domain::poison::Poison;
use crate::domain::record::RawRecord;
use std::fmt;
use std::sync::Arc;

/// Header with the id of the value's schema, for producers that keep it out of the value.
pub const VALUE_SCHEMA: &str = "__value_schema_id";
/// The same for the key.
pub const KEY_SCHEMA: &str = "__key_schema_id";

/// How a registry knows a schema. It never gives an id to another schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    /// A number.
    Number(u32),
    /// A UUID, its 16 bytes.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(id) => write!(f, "{id}"),
            Self::Guid(bytes) => f.write_str(&text::uuid(bytes)),
        }
    }
}

/// Whoever has the schemas of a stream. `get` answers from memory and never waits.
pub trait Schemas: Send + Sync + fmt::Debug {
    /// The plan of a schema, if it was fetched.
    fn get(&self, id: SchemaId) -> Option<Arc<Plan>>;
    /// Fetches these schemas: `get` has them once this is done. An id that nobody knows is a failure like any
    /// other, because it may become known.
    fn fetch(&self, ids: Vec<SchemaId>) -> Preparing<'_>;
}

/// Bytes and the schema they were written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'r> {
    /// Their schema.
    pub id: SchemaId,
    /// One datum.
    pub body: &'r [u8],
}

/// The value of a record in the registry's wire format; none where it is in another one.
///
/// # Errors
/// Poison where the header that should name the schema names none.
pub fn framed_value(record: &RawRecord) -> Result<Option<Framed<'_>>, Poison> {
    match &record.value {
        None => Ok(None),
        Some(value) => framed(header(record, VALUE_SCHEMA), value),
    }
}

/// The key of a record, likewise.
///
/// # Errors
/// As for the value.
pub fn framed_key(record: &RawRecord) -> Result<Option<Framed<'_>>, Poison> {
    match &record.key {
        None => Ok(None),
        Some(key) => framed(header(record, KEY_SCHEMA), key),
    }
}

/// Either the header says which schema, or a zero and a number stand before the body.
fn framed<'r>(header: Option<&'r [u8]>, bytes: &'r [u8]) -> Result<Option<Framed<'r>>, Poison> {
    let number = |id: &[u8; 4]| SchemaId::Number(u32::from_be_bytes(*id));
    let Some(header) = header else {
        return Ok(match bytes.split_first_chunk::<5>() {
            Some(([0, id @ ..], body)) => Some(Framed { id: number(id), body }),
            _ => None,
        });
    };
    let id = match header.split_first() {
        Some((0, rest)) => rest.try_into().ok().map(number),
        Some((1, rest)) => rest.try_into().ok().map(SchemaId::Guid),
        _ => None,
    };
    match id {
        Some(id) => Ok(Some(Framed { id, body: bytes })),
        None => Err(Poison::new("bad-avro", "the header for the id of the schema holds none")),
    }
}
