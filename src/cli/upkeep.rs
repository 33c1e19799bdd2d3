//! The background duties of a process, as its configuration wants them.

use crate::config::{Config, Stream};
use crate::domain::ids::Lineage;
use crate::reconstruct::Reconstructor;
use crate::store::SnapshotStore;
use crate::upkeep::scrub::{Pace, Scrub, ScrubSettings, Scrubbed};
use crate::worker::Handle;
use std::future::Future;
use std::sync::Arc;

/// The scrub of one stream, to be polled for ever, and what it has seen.
pub(super) fn scrub(
    config: &Config,
    stream: &Stream,
    reader: &Reconstructor,
    store: Arc<SnapshotStore>,
    (lineage, own): (Lineage, Handle),
    pace: &Arc<Pace>,
) -> (impl Future<Output = ()> + Send + use<>, Arc<Scrubbed>) {
    let seen = Arc::new(Scrubbed::at(store.clock.now().0));
    let settings = ScrubSettings {
        interval_ms: config.scrub.interval_ms,
        bytes_per_second: config.scrub.bytes_per_second,
    };
    let scrub = Scrub {
        reader: reader.clone(),
        own: Arc::new(own),
        clock: Arc::clone(&store.clock),
        store,
        topic: Arc::clone(&stream.topic),
        lineage,
        settings,
        pace: Arc::clone(pace),
        seen: Arc::clone(&seen),
    };
    let scrubbing = async move {
        if settings.interval_ms > 0 {
            scrub.run().await;
        }
    };
    (scrubbing, seen)
}
