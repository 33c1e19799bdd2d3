//! Who gives decoders their schemas: the registry of a process, its copies among the blobs, and the streams
//! that wait for them.

use super::failure::{Done, Exit, Failure};
use super::stores::Stores;
use crate::clock::{Clock, SystemClock};
use crate::codec::avro::Schemas;
use crate::config::{Config, Format, Stream};
use crate::domain::event::Decode;
use crate::domain::outcome::{PortError, PortResult};
use crate::kafka::registry::{Login, Registry, RegistrySettings, SchemaCopies};
use crate::kafka::{Gate, Group, Log, Parked, PreparedGroup, PreparedLog};
use crate::store::blobs::Blobs;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// What a process has of schemas.
#[derive(Clone, Default)]
pub(super) struct SchemaSource {
    registry: Option<Arc<Registry>>,
    parked: Arc<Parked>,
}

impl SchemaSource {
    /// The registry that the configuration names, if any.
    ///
    /// # Errors
    /// If no client can be made for it.
    pub(super) fn open(config: &Config, stores: &Stores) -> Done<Self> {
        Self::of(config, &stores.blobs, &stores.clock)
    }

    /// The same over a blob store alone.
    ///
    /// # Errors
    /// If no client can be made for it.
    pub(super) fn of(config: &Config, blobs: &Arc<dyn Blobs>, clock: &Arc<SystemClock>) -> Done<Self> {
        let Some(registry) = &config.registry else { return Ok(Self::default()) };
        let login = registry.login.as_ref();
        let settings = RegistrySettings {
            url: registry.url.clone(),
            login: login.map(|(username, password)| Login {
                username: username.clone(),
                password: password.reveal().to_owned(),
            }),
        };
        let copies = BlobCopies::new(Arc::clone(blobs), &registry.url);
        let registry = Registry::new(&settings, Arc::new(copies), Arc::clone(clock) as Arc<dyn Clock>)
            .map_err(|error| {
                Failure::new(Exit::Config, error.to_string()).hint("see `registry` in docs/CONFIG.md")
            })?;
        Ok(Self { registry: Some(registry), parked: Arc::default() })
    }

    /// What turns the stream's records into events.
    pub(super) fn decoder(&self, stream: &Stream) -> Arc<dyn Decode> {
        stream.decoder(self.registry.clone().map(|registry| registry as Arc<dyn Schemas>))
    }

    /// The stream's ports, handing on only what can be decoded.
    pub(super) fn prepared(
        &self,
        stream: &Stream,
        decoder: &Arc<dyn Decode>,
        clock: Arc<dyn Clock>,
        ports: (Arc<dyn Group>, Arc<dyn Log>),
    ) -> (Arc<dyn Group>, Arc<dyn Log>) {
        if self.registry.is_none() || stream.format == Format::Json {
            return ports;
        }
        let gate = Gate {
            kind: Arc::clone(&stream.kind),
            decoder: Arc::clone(decoder),
            clock,
            parked: Arc::clone(&self.parked),
        };
        let (group, log) = ports;
        (Arc::new(PreparedGroup { group, gate: gate.clone() }), Arc::new(PreparedLog { log, gate }))
    }

    /// How many partitions of a stream wait.
    pub(super) fn waiting(&self, kind: &str) -> usize {
        self.parked.list().iter().filter(|(of, ..)| &**of == kind).count()
    }

    /// Why the process is not ready.
    pub(super) fn reasons(&self) -> Vec<String> {
        let each = self.parked.list().into_iter().map(|(kind, partition, offset, why)| {
            format!("`{kind}` partition {partition} waits before {offset}: {why}")
        });
        each.collect()
    }
}

/// Longest copy that is read back.
const COPY_BYTES_MAX: u64 = 64 << 20;

/// Copies of one registry's schemas: `schemas/REGISTRY/ID.json`, where REGISTRY is the SHA-256 of its URL.
struct BlobCopies {
    blobs: Arc<dyn Blobs>,
    folder: String,
}

impl BlobCopies {
    fn new(blobs: Arc<dyn Blobs>, url: &str) -> Self {
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(url.as_bytes()));
        Self { blobs, folder: format!("schemas/{digest}") }
    }
}

impl SchemaCopies for BlobCopies {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, PortResult<Option<Vec<u8>>>> {
        Box::pin(async move {
            match self.blobs.get_range(&format!("{}/{id}.json", self.folder), 0, COPY_BYTES_MAX).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(PortError::Missing) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn put<'a>(&'a self, id: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, PortResult<()>> {
        Box::pin(async move { self.blobs.put_new(&format!("{}/{id}.json", self.folder), bytes).await })
    }
}
