//! Stored history for `reducer diff` and `reducer bench`: the stores alone, without brokers; and events as a
//! server tells them.

use super::failure::{Done, Exit, Failure};
use super::run::fault;
use super::schemas::SchemaSource;
use super::settings::{compression, session};
use super::stores::Stores;
use crate::config::{Config, Stream};
use crate::domain::event::{Decoded, Event};
use crate::domain::ids::{Digest, Offset, Timestamp, Version};
use crate::domain::moment;
use crate::domain::record::{Bytes, RawRecord};
use crate::domain::value::Value;
use crate::reconstruct::{Reconstructor, RestOnly};
use crate::store::lineages::{self, Role};
use crate::store::packs::Packs;
use crate::upkeep::compare::{self, Ends};
use std::sync::Arc;

/// The stores of a configuration.
pub(super) struct Offline {
    stores: Stores,
    schemas: SchemaSource,
}

/// What is stored of one stream in its active lineage; the reader's fold is that of the configuration.
pub(super) struct Stored {
    pub(super) reader: Reconstructor,
    pub(super) ends: Ends,
}

impl Offline {
    pub(super) async fn open(config: &Config) -> Done<Self> {
        let stores = Stores::open(config).await?;
        let schemas = SchemaSource::open(config, &stores)?;
        Ok(Self { stores, schemas })
    }

    pub(super) async fn stream(&self, stream: &Stream) -> Done<Stored> {
        let history = lineages::history(&*self.stores.blobs, &stream.topic).await.map_err(fault)?;
        let Some(active) = history.iter().rfind(|known| known.role == Role::Active) else {
            let what = format!("nothing of topic `{}` is stored", stream.topic);
            return Err(
                Failure::new(Exit::NotFound, what).hint("check `index` and `blobs` of the configuration")
            );
        };
        let packs = Packs::new(
            Arc::clone(&self.stores.index),
            Arc::clone(&self.stores.blobs),
            compression(stream),
            session(&self.stores.clock),
        );
        let Some(partitions) = active.partitions else {
            let what = format!("lineage {} was started before partitions were noted", active.lineage);
            let hint = "start a worker once with the configuration of then, which notes them";
            return Err(Failure::new(Exit::Config, what).hint(hint));
        };
        let topic_id = active.topic_id;
        let reader = Reconstructor {
            index: Arc::clone(&self.stores.index),
            packs: Arc::new(packs),
            log: Arc::new(RestOnly { topic_id, partitions }),
            decoder: self.schemas.decoder(stream),
            rules: stream.rules(),
            topic_id,
            health: Arc::default(),
        };
        let ends = compare::ends(&reader, &stream.topic, active.lineage, partitions).await;
        Ok(Stored { ends: ends.map_err(fault)?, reader })
    }
}

/// An event as a server tells it.
pub(super) struct Told {
    pub(super) decoded: Decoded,
    pub(super) version: Version,
    pub(super) skipped: bool,
}

/// Reads an event of `GET …/events`.
pub(super) fn told_event(id: &str, item: &Value) -> Done<Told> {
    let foreign = || Failure::new(Exit::Failure, "the server told an event that is none");
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let whole = |value: Option<&Value>| value.and_then(Value::as_i64);
    let time = |name: &str| text(name).and_then(moment::parse).unwrap_or(Timestamp(0));
    let version = whole(item.get("version")).and_then(|n| u64::try_from(n).ok()).ok_or_else(foreign)?;
    let version = Version(version);
    let offset = whole(item.get("position").and_then(|at| at.get("offset"))).ok_or_else(foreign)?;
    let bytes = |text: &str| -> Bytes { text.as_bytes().into() };
    let headers = item.get("headers").and_then(Value::as_object).into_iter().flat_map(|of| of.iter());
    let record = RawRecord {
        offset: Offset(offset),
        record_time: time("recordTime"),
        key: text("key").map(bytes),
        headers: headers.map(|(name, value)| (name.into(), value.as_str().map(bytes))).collect(),
        ..RawRecord::default()
    };
    let data = item.get("data").cloned().unwrap_or_default();
    let event = Event {
        id: id.into(),
        version: Some(version),
        event_type: text("type").unwrap_or_default().into(),
        event_id: text("id").map(Into::into),
        time: time("timestamp"),
        // The record is not here, so a bound on growth starts from the data.
        extra_bytes: data.json_len(),
        data,
        is_echo: false,
    };
    let skipped = item.get("skipped").and_then(Value::as_bool).unwrap_or_default();
    Ok(Told { decoded: Decoded { record, digest: Digest::default(), content: Ok(event) }, version, skipped })
}
