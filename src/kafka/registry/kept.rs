//! The copy of a schema as it is stored: JSON with the texts as the registry gave them and a digest over
//! them, so that a copy that was damaged is no schema.

use crate::codec::avro::Plan;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A schema and those that it refers to, each after those that it refers to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptSchema {
    pub(super) schema: String,
    pub(super) references: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    r#type: String,
    schema: String,
    references: Vec<String>,
    digest: String,
}

const FORMAT: u32 = 1;

impl KeptSchema {
    /// What bytes are read by.
    ///
    /// # Errors
    /// Why it is no schema to read by.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        Plan::parse(&self.schema, &self.references).map_err(|error| error.to_string())
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for text in std::iter::once(&self.schema).chain(&self.references) {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        data_encoding::HEXLOWER.encode(&hash.finalize())
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let form = Form {
            format: FORMAT,
            r#type: "AVRO".to_owned(),
            schema: self.schema.clone(),
            references: self.references.clone(),
            digest: self.digest(),
        };
        serde_json::to_vec(&form).expect("texts and a number are JSON")
    }

    /// # Errors
    /// Why it is no copy of a schema.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let form: Form = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if form.format != FORMAT || form.r#type != "AVRO" {
            return Err(format!(
                "format {} of a {} schema is not read by this version",
                form.format, form.r#type
            ));
        }
        let kept = Self { schema: form.schema, references: form.references };
        if kept.digest() == form.digest { Ok(kept) } else { Err("its digest is another one".to_owned()) }
    }
}
