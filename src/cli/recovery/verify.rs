//! `verify --offline`: whether the blob store alone tells a history that is sound.

use super::rebuild::look;
use super::{beside, told};
use crate::cli::failure::Done;
use crate::cli::run::{fault, runtime, start_logging};
use crate::cli::schemas::SchemaSource;
use crate::cli::screen::Screen;
use crate::cli::source::load_config;
use crate::cli::stores;
use crate::clock::{Clock, SystemClock};
use crate::store::rebuild::Progress;
use crate::upkeep::offline::{self, Folding};
use std::path::Path;
use std::sync::Arc;

pub(in crate::cli) fn verify(config: &Path, sets: &[String], screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let config = load_config(config, sets)?;
    runtime(&config)?.block_on(async {
        let (blobs, clock) = (stores::blobs(&config).await?, Arc::new(SystemClock::start()));
        let schemas = SchemaSource::of(&config, &blobs, &clock)?;
        let streams: Vec<Folding> = config
            .streams
            .iter()
            .map(|stream| Folding {
                topic: Arc::clone(&stream.topic),
                rules: stream.rules(),
                decoder: schemas.decoder(stream),
                fingerprint: stream.fingerprint(),
            })
            .collect();
        let progress = Arc::new(Progress::default());
        let work =
            offline::verify(blobs, Arc::clone(&clock) as Arc<dyn Clock>, &streams, Arc::clone(&progress));
        let verified = beside(work, || look(&progress)).await.map_err(fault)?;
        let [full, history, checkpoint] = verified.packs.packs;
        screen.line(&format!("packs: {full} full, {history} history, {checkpoint} checkpoint"))?;
        screen.line(&format!(
            "records: {}, live checkpoints: {}",
            verified.packs.rows, verified.packs.checkpoints
        ))?;
        let (aggregates, events, states) = (verified.aggregates, verified.events, verified.states);
        screen
            .line(&format!("folded: {aggregates} aggregates, {events} events, {states} states compared"))?;
        if verified.not_folded > 0 {
            let what =
                "aggregates of lineages with another reducer or mapping: their bytes are sound or told";
            screen.line(&format!("not folded: {} {what}", verified.not_folded))?;
        }
        told(&verified.problems, "restore the objects named above from a backup", screen)
    })
}
