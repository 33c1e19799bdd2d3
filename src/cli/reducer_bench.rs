//! `reducer bench`: what an event costs to decode and to fold, over stored history.

use super::args::Format;
use super::args_refold::ReducerBenchArgs;
use super::failure::{Done, Exit, Failure};
use super::print;
use super::reducer_history::{Offline, Stored};
use super::refold::chosen;
use super::run::{fault, runtime};
use super::screen::Screen;
use super::source::load_config;
use crate::config::Stream;
use crate::domain::aggregate::Aggregate;
use crate::domain::event::Decoded;
use crate::domain::ids::AggregateKey;
use crate::domain::number::Number;
use crate::domain::record::StoredEvent;
use crate::domain::value::{Object, Value};
use crate::telemetry::stopwatch::Stopwatch;
use crate::upkeep::compare;

/// Aggregates that are drawn; events of these are folded again until there are enough.
const SAMPLE: usize = 2_000;
/// Events that are held at once.
const EVENTS_HELD: usize = 200_000;

/// What was measured of one stream.
struct Measured {
    events: u64,
    bytes: u64,
    decode_ms: f64,
    fold_ms: f64,
}

pub(super) fn run(args: &ReducerBenchArgs, screen: &mut Screen<'_>) -> Done {
    let config = load_config(&args.source.config, &args.source.sets)?;
    runtime(&config)?.block_on(async {
        let opened = Offline::open(&config).await?;
        for stream in chosen(&config, args.kind.as_deref())? {
            let stored = opened.stream(stream).await?;
            let histories = histories(&stored).await?;
            if histories.iter().all(|(_, events)| events.is_empty()) {
                let what = format!("no events of `{}` are stored", stream.kind);
                return Err(
                    Failure::new(Exit::NotFound, what).hint("strategy `full` leaves them to the topic")
                );
            }
            let measured = measure(&stored, &histories, args.events);
            tell(stream, &measured, args.output, screen)?;
        }
        Ok(())
    })
}

/// Events of some aggregates, as they are stored.
async fn histories(stored: &Stored) -> Done<Vec<(AggregateKey, Vec<StoredEvent>)>> {
    let Stored { reader, ends } = stored;
    let (mut histories, mut held) = (Vec::new(), 0);
    for (key, partition) in compare::drawn(reader, ends, Some(SAMPLE)).await.map_err(fault)? {
        let (log, end) = &ends[&partition];
        let view = reader.view_of(log, &key).await.map_err(fault)?;
        let entries = view.checkpoints.into_iter().map(|of| of.entry).collect();
        let mut history = reader.history(log, &key, entries, *end);
        let mut events = Vec::new();
        // One that cannot be read has its place in `reducer diff`.
        while let Ok(Some(stretch)) = history.next().await {
            reader.prepare(&stretch.events).await.map_err(fault)?;
            events.extend(stretch.events);
        }
        held += events.len();
        histories.push((key, events));
        if held >= EVENTS_HELD {
            break;
        }
    }
    Ok(histories)
}

fn measure(stored: &Stored, histories: &[(AggregateKey, Vec<StoredEvent>)], events: u64) -> Measured {
    let reader = &stored.reader;
    let mut measured = Measured { events: 0, bytes: 0, decode_ms: 0.0, fold_ms: 0.0 };
    while measured.events < events {
        for (key, stored) in histories {
            let records: Vec<_> = stored.iter().map(|event| event.record.clone()).collect();
            measured.events += records.len() as u64;
            measured.bytes += records.iter().map(|record| record.bytes() as u64).sum::<u64>();
            let watch = Stopwatch::start();
            let decoded: Vec<Decoded> =
                records.into_iter().map(|record| reader.decoder.decode(record)).collect();
            measured.decode_ms += watch.ms();
            let mut aggregate = Aggregate::genesis(&key.kind, &key.id);
            let watch = Stopwatch::start();
            for event in &decoded {
                // What the reducer refuses costs as well.
                let _ = reader.rules.fold(&mut aggregate, event);
            }
            measured.fold_ms += watch.ms();
        }
    }
    measured
}

fn tell(stream: &Stream, measured: &Measured, format: Format, screen: &mut Screen<'_>) -> Done {
    let Measured { events, bytes, decode_ms, fold_ms } = measured;
    let each = |ms: f64| (ms * 1e6 / *events as f64) as u64;
    let rate = (*events as f64 * 1e3 / (decode_ms + fold_ms)) as u64;
    if format == Format::Table {
        return screen.line(&format!(
            "`{}`: {} ns an event: {} to decode, {} to fold; {rate} events/s on one core ({events} events of {} bytes)",
            stream.kind,
            each(decode_ms + fold_ms),
            each(*decode_ms),
            each(*fold_ms),
            bytes / (*events).max(1)
        ));
    }
    let mut told = Object::new();
    told.insert("aggregateType", Value::from(&*stream.kind));
    let figures = [
        ("events", *events),
        ("eventBytes", bytes / (*events).max(1)),
        ("decodeNs", each(*decode_ms)),
        ("foldNs", each(*fold_ms)),
        ("eventsPerSecond", rate),
    ];
    for (name, figure) in figures {
        told.insert(name, Value::Number(Number::from(figure)));
    }
    print::value(screen, format, &Value::Object(told))
}
