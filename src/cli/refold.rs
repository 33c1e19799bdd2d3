//! `refold`: a new lineage out of stored events, beside the workers of the old one.
//!
//! *Order*: the new lineage gets its number, then its rows and low watermarks, then it is activated; from
//!   then on workers with the old reducer refuse to start, and those with the new one start where the old
//!   ones stood.
//! *If it fails*: run it again; what is written is found.

use super::args_refold::RefoldArgs;
use super::failure::{Done, Exit, Failure};
use super::lineages::{Drop, is_alone};
use super::run::{RETRY_MS, fault, first_answer, runtime, start_logging};
use super::schemas::SchemaSource;
use super::screen::Screen;
use super::settings::{compression, consumer_settings, session};
use super::source::load_config;
use super::stack::{BROKERS, FLUSH_DEADLINE_MS};
use super::stores::Stores;
use crate::clock::Clock;
use crate::compute::Threads;
use crate::config::{Config, Stream};
use crate::domain::ids::{Lineage, PartitionNo};
use crate::domain::number::Number;
use crate::domain::value::{Object, Value};
use crate::kafka::Onlooker;
use crate::reconstruct::Reconstructor;
use crate::store::flush::{FlushLimits, Written};
use crate::store::lineages::{self, Activated, Activation, Wish, definitions};
use crate::store::packs::Packs;
use crate::upkeep::refold::{Cuts, Progress, Refold};
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(args: &RefoldArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let config = load_config(&args.source.config, &args.source.sets)?;
    let streams = chosen(&config, args.kind.as_deref())?;
    runtime(&config)?.block_on(async {
        let stores = Stores::open(&config).await?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let onlooker = Onlooker::start(&consumer_settings(&config, address)).map_err(fault)?;
        let schemas = SchemaSource::open(&config, &stores)?;
        let all = All { stores, onlooker, schemas, is_alone: is_alone(&config), args };
        for stream in streams {
            all.stream(stream, screen).await?;
        }
        Ok(())
    })
}

/// The streams of a type, or all.
pub(super) fn chosen<'c>(config: &'c Config, kind: Option<&str>) -> Done<Vec<&'c Stream>> {
    let is_it = |stream: &&Stream| kind.is_none_or(|kind| kind == &*stream.kind);
    let streams: Vec<&Stream> = config.streams.iter().filter(is_it).collect();
    if streams.is_empty() {
        let known: Vec<&str> = config.streams.iter().map(|stream| &*stream.kind).collect();
        let hint = format!("it has {}", known.join(", "));
        return Err(Failure::usage("the configuration has no stream of this type", hint));
    }
    Ok(streams)
}

/// What all streams need.
struct All<'a> {
    stores: Stores,
    onlooker: Onlooker,
    schemas: SchemaSource,
    /// No worker can run beside this process.
    is_alone: bool,
    args: &'a RefoldArgs,
}

/// What is to be done for one stream.
struct Plan {
    active: Activation,
    wish: Wish,
    /// An earlier try has given the new lineage its number.
    resumes: bool,
}

impl All<'_> {
    async fn stream(&self, stream: &Stream, screen: &mut Screen<'_>) -> Done {
        let doing = format!("ask for the id of topic `{}`", stream.topic);
        let topic_id =
            first_answer(&doing, BROKERS, || self.onlooker.topic_id(&stream.topic).boxed()).await?;
        let history = lineages::history(&*self.stores.blobs, &stream.topic).await.map_err(fault)?;
        let Some(plan) = self.plan(stream, topic_id, &history)? else {
            screen.say(&format!("`{}`: the active lineage has this reducer: nothing to do", stream.kind));
            return Ok(());
        };
        let from = plan.active.lineage;
        if self.args.dry_run {
            let partitions = plan.wish.partitions;
            let what = format!(
                "`{}`: the events of {partitions} partitions in lineage {from} would be folded again, and the new lineage \
                 activated",
                stream.kind
            );
            return screen.line(&what);
        }
        let blobs = &*self.stores.blobs;
        definitions::keep(blobs, plan.wish.fingerprint, &stream.definition).await.map_err(fault)?;
        let into = lineages::prepare(blobs, &stream.topic, plan.wish).await.map_err(fault)?;
        let progress = Arc::new(Progress::default());
        let started = self.stores.clock.monotonic_ms();
        self.fold(stream, &plan, into, &progress).await?;
        let took = self.stores.clock.monotonic_ms().saturating_sub(started);
        if !self.args.prepare {
            match lineages::cut_over(blobs, &stream.topic, plan.wish, (from, into)).await.map_err(fault)? {
                Activated::Ready(_) => {}
                Activated::Changed { what } => return Err(Failure::new(Exit::Conflict, what)),
            }
        }
        self.tell(stream, (from, into), &progress, took, screen)?;
        match self.args.drop_old {
            true => Drop::new(&self.stores, stream, (from, self.is_alone)).run(screen).await,
            false => Ok(()),
        }
    }

    /// None where there is nothing to do.
    fn plan(&self, stream: &Stream, topic_id: u128, history: &[Activation]) -> Done<Option<Plan>> {
        let Some(active) = lineages::active(history, topic_id) else {
            let what = format!("topic `{}` (id `{topic_id:032x}`) has no lineage", stream.topic);
            return Err(
                Failure::new(Exit::Conflict, what).hint("nothing is folded yet: start with `snapfold run`")
            );
        };
        let (fingerprint, mapping) = (stream.fingerprint(), stream.mapping_digest());
        if active.fingerprint == fingerprint {
            return Ok(None);
        }
        if active.mapping.is_some_and(|known| known != mapping) {
            let what = format!(
                "`map` or `format` of `{}` are not those of lineage {}: stored events would be others, and some were \
                 left out as repetitions",
                stream.kind, active.lineage
            );
            let hint = "a new mapping folds the topic: `snapfold run --new-lineage`";
            return Err(Failure::new(Exit::Config, what).hint(hint));
        }
        if active.mapping.is_none() && !self.args.same_mapping {
            let what = format!("lineage {} was started before mappings were noted", active.lineage);
            let hint = "if only the reducer, limits or `onPoison` differ, say so with `--same-mapping`";
            return Err(Failure::new(Exit::Config, what).hint(hint));
        }
        let Some(partitions) = active.partitions else {
            let what = format!("lineage {} was started before partitions were noted", active.lineage);
            let hint = "start a worker once with the configuration of then, which notes them";
            return Err(Failure::new(Exit::Config, what).hint(hint));
        };
        let wish = Wish { topic_id, fingerprint, mapping, partitions };
        let resumes = lineages::number_of(history, &wish).is_some();
        Ok(Some(Plan { active: active.clone(), wish, resumes }))
    }

    /// All partitions, divided among as many tasks as there are cores.
    async fn fold(&self, stream: &Stream, plan: &Plan, into: Lineage, progress: &Arc<Progress>) -> Done {
        let refold = self.refold(stream, plan, into, progress)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut groups = vec![Vec::new(); cores];
        let numbers = (0..plan.wish.partitions).map(|number| i32::try_from(number).unwrap_or(i32::MAX));
        let numbers: Vec<PartitionNo> = numbers.map(PartitionNo).collect();
        for (at, number) in numbers.iter().enumerate() {
            groups[at % cores].push(*number);
        }
        let mut tasks = JoinSet::new();
        for group in groups.into_iter().filter(|group| !group.is_empty()) {
            let refold = refold.clone();
            tasks.spawn(async move { refold.partitions(&group).await });
        }
        let bar = bar(&stream.kind);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                done = tasks.join_next() => match done {
                    None => break,
                    Some(Ok(Ok(_))) => {}
                    Some(Ok(Err(error))) => {
                        bar.finish_and_clear();
                        return Err(fault(error).hint("what is written stays: run it again to go on"));
                    }
                    Some(Err(error)) => return Err(Failure::new(Exit::Failure, error.to_string())),
                },
                _ = look.tick() => bar.set_message(so_far(progress)),
            }
        }
        bar.set_message("what the topic has forgotten meanwhile");
        let caught_up = refold.catch_up(&numbers).await;
        bar.finish_and_clear();
        caught_up.map_err(|error| fault(error).hint("what is written stays: run it again to go on"))
    }

    fn refold(&self, stream: &Stream, plan: &Plan, into: Lineage, progress: &Arc<Progress>) -> Done<Refold> {
        let packs = Packs::new(
            Arc::clone(&self.stores.index),
            Arc::clone(&self.stores.blobs),
            compression(stream),
            session(&self.stores.clock),
        );
        let packs = Arc::new(packs);
        let threads = Threads::start().map_err(|error| {
            Failure::new(Exit::Failure, format!("start threads: {error}")).hint("check the limits of threads")
        })?;
        let limits = FlushLimits { deadline_ms: FLUSH_DEADLINE_MS, retry_ms: RETRY_MS };
        let store = self.stores.snapshots(&packs, threads, limits, &Arc::new(Written::default()));
        let reader = Reconstructor {
            index: Arc::clone(&self.stores.index),
            packs,
            log: self.onlooker.log(&stream.topic),
            decoder: self.schemas.decoder(stream),
            rules: stream.rules(),
            topic_id: plan.wish.topic_id,
            health: Arc::default(),
        };
        Ok(Refold {
            reader,
            store: Arc::new(store),
            topic: Arc::clone(&stream.topic),
            from: plan.active.lineage,
            into,
            cuts: Cuts {
                events_max: stream.events_max,
                bytes_max: stream.bytes_max,
                strategy: stream.strategy,
            },
            resumes: plan.resumes,
            progress: Arc::clone(progress),
        })
    }

    fn tell(
        &self,
        stream: &Stream,
        (from, into): (Lineage, Lineage),
        progress: &Progress,
        took_ms: u64,
        screen: &mut Screen<'_>,
    ) -> Done {
        let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
        let next = if self.args.prepare {
            "run `refold` again without `--prepare` to activate it"
        } else {
            "it is active: restart the workers with this configuration"
        };
        match self.args.output {
            super::args::Format::Table => {
                let rate = count(&progress.events) * 1_000 / took_ms.max(1);
                screen.line(&format!(
                    "`{}`: lineage {from} refolded into lineage {into}: {} in {:.1} s ({rate} events/s); {next}",
                    stream.kind,
                    so_far(progress),
                    took_ms as f64 / 1e3
                ))
            }
            format => {
                let mut told = Object::new();
                told.insert("aggregateType", Value::String((*stream.kind).into()));
                let figures = [
                    ("from", u64::from(from.0)),
                    ("into", u64::from(into.0)),
                    ("aggregates", count(&progress.aggregates)),
                    ("kept", count(&progress.kept)),
                    ("events", count(&progress.events)),
                    ("revived", count(&progress.revived)),
                    ("deadLetters", count(&progress.letters)),
                    ("notes", count(&progress.notes)),
                    ("roundsToCatchUp", count(&progress.rounds)),
                    ("tookMs", took_ms),
                ];
                for (name, figure) in figures {
                    told.insert(name, Value::Number(Number::from(figure)));
                }
                told.insert("active", Value::Bool(!self.args.prepare));
                super::print::value(screen, format, &Value::Object(told))
            }
        }
    }
}

fn so_far(progress: &Progress) -> String {
    let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
    let mut told = format!("{} aggregates, {} events", count(&progress.aggregates), count(&progress.events));
    for (of, what) in [
        (&progress.kept, "found done"),
        (&progress.revived, "former dead letters folded"),
        (&progress.letters, "dead letters"),
        (&progress.notes, "labels and pins"),
        (&progress.rounds, "rounds for what the topic forgot meanwhile"),
    ] {
        if count(of) > 0 {
            told.push_str(&format!(", {} {what}", count(of)));
        }
    }
    told
}

/// A spinner with figures, where somebody looks.
fn bar(kind: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_prefix(format!("refold `{kind}`"));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar
}
