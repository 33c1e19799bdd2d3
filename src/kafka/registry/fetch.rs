//! One schema from a registry, with all that it refers to. Only the fetching functions of
//! `schema_registry_converter` are used: its decoders lock a cache for every event, and mix up schemas that
//! are named by UUID.

use super::RegistrySettings;
use super::kept::KeptSchema;
use crate::codec::avro::SchemaId;
use crate::domain::outcome::{PortError, PortResult};
use futures_util::future::{BoxFuture, FutureExt};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_referenced_schema, get_schema_by_guid, get_schema_by_id,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RegisteredReference, RegisteredSchema, SchemaType};
use std::time::Duration;

/// Longer than any answer should take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Schemas that one may refer to.
const REFERENCES_MAX: usize = 1_000;

/// The registry.
pub(super) struct Source {
    settings: SrSettings,
    url: String,
}

/// Schemas that were referred to, each after those that it refers to itself.
#[derive(Default)]
struct Found {
    seen: Vec<(String, u32)>,
    texts: Vec<String>,
}

impl Source {
    pub(super) fn new(settings: &RegistrySettings) -> PortResult<Self> {
        let mut builder = SrSettings::new_builder(settings.url.clone());
        builder.set_timeout(TIMEOUT);
        if let Some(login) = &settings.login {
            builder.set_basic_authorization(&login.username, Some(&login.password));
        }
        let settings_of_client = builder.build();
        let client = settings_of_client.map_err(|error| {
            PortError::Permanent(format!("start a client of the registry: {}", error.error))
        })?;
        Ok(Self { settings: client, url: settings.url.clone() })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The schema of an id.
    ///
    /// # Errors
    /// Why it cannot be had, in words for whoever has to see to it.
    pub(super) async fn fetch(&self, id: SchemaId) -> Result<KeptSchema, String> {
        match tokio::time::timeout(3 * TIMEOUT, self.whole(id)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("the registry at {} does not answer", self.url)),
        }
    }

    async fn whole(&self, id: SchemaId) -> Result<KeptSchema, String> {
        let registered = match id {
            SchemaId::Number(number) => get_schema_by_id(number, &self.settings).await,
            SchemaId::Guid(_) => get_schema_by_guid(&id.to_string(), &self.settings).await,
        };
        let registered = self.avro(registered)?;
        let mut found = Found::default();
        for reference in &registered.references {
            self.refer(reference, &mut found).await?;
        }
        Ok(KeptSchema { schema: registered.schema, references: found.texts })
    }

    fn refer<'a>(
        &'a self,
        reference: &'a RegisteredReference,
        found: &'a mut Found,
    ) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let key = (reference.subject.clone(), reference.version);
            if found.seen.contains(&key) {
                return Ok(());
            }
            if found.seen.len() == REFERENCES_MAX {
                return Err(format!("it refers to more than {REFERENCES_MAX} schemas"));
            }
            found.seen.push(key);
            let schema = self.avro(get_referenced_schema(&self.settings, reference).await)?;
            for inner in &schema.references {
                self.refer(inner, found).await?;
            }
            found.texts.push(schema.schema);
            Ok(())
        }
        .boxed()
    }

    fn avro(&self, answer: Result<RegisteredSchema, SRCError>) -> Result<RegisteredSchema, String> {
        let schema = answer.map_err(|error| self.told(&error))?;
        let kind = match &schema.schema_type {
            SchemaType::Avro => return Ok(schema),
            SchemaType::Protobuf => "PROTOBUF",
            SchemaType::Json => "JSON",
            _ => "another",
        };
        Err(format!("it is a {kind} schema, and only AVRO is read; use a topic whose values are Avro"))
    }

    fn told(&self, error: &SRCError) -> String {
        let cause = error.cause.as_deref().map(|cause| format!(" ({cause})")).unwrap_or_default();
        let url = &self.url;
        match error.error.as_str() {
            text if text.contains("status 404") => {
                format!(
                    "the registry at {url} does not know it{cause}; register it, or correct `registry.url`"
                )
            }
            text if text.contains("status 401") || text.contains("status 403") => {
                format!(
                    "the registry at {url} refuses us{cause}; see `registry.username` and `registry.password`"
                )
            }
            text if text.contains("could not parse") => {
                format!("what answers at {url} is no schema registry{cause}; correct `registry.url`")
            }
            text => format!("the registry at {url} fails: {text}{cause}"),
        }
    }
}
