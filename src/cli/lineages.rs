//! `lineages`: which there are, how the old ones folded, and dropping one.
//!
//! *Order*: what stands against a drop is looked for, then the fact is kept; workers of that lineage get time
//!   to hear of it; then its rows go. *If it fails*: run it again.

use super::args::{Format, LineagesCommand, LineagesDefineArgs, LineagesDropArgs, LineagesLsArgs};
use super::client::Client;
use super::failure::{Done, Exit, Failure};
use super::old_lineages::told;
use super::print::{self, cell};
use super::refold::chosen;
use super::run::{fault, runtime, start_logging};
use super::screen::{Align, Screen, columns, printable};
use super::source::load_config;
use super::stores::{Stores, opened};
use crate::clock::Clock;
use crate::codec::pack::{Class, pack_name};
use crate::config::{self, Config, Index, Stream};
use crate::domain::ids::Lineage;
use crate::domain::number::Number;
use crate::domain::value::{Object, Value};
use crate::store::lineages::{self, Known, Standing, definitions};
use crate::store::packs::{CompressionPlan, Packs};
use crate::upkeep::dropping::{Dropping, Obstacles, Stored};
use std::sync::Arc;
use std::time::Duration;

/// Within which workers hear that their lineage was dropped, and some.
const HEARD: Duration = Duration::from_secs(10);

pub(super) fn run(command: &LineagesCommand, screen: &mut Screen<'_>) -> Done {
    match command {
        LineagesCommand::Ls(args) => ls(args, screen),
        LineagesCommand::Define(args) => define(args, screen),
        LineagesCommand::Drop(args) => drop_one(args, screen),
    }
}

fn ls(args: &LineagesLsArgs, screen: &mut Screen<'_>) -> Done {
    let client = Client::new(&args.asking.server)?;
    let body = client.get_at("/v1/lineages")?;
    let of_kind =
        |item: &&Value| args.kind.as_ref().is_none_or(|kind| cell(item, &["aggregateType"]) == *kind);
    let items = body.value.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let items: Vec<&Value> = items.iter().filter(of_kind).collect();
    match args.asking.output {
        Format::Table => {}
        Format::Ndjson => return items.iter().try_for_each(|item| screen.line(&item.to_json())),
        format if args.kind.is_none() => return print::body(screen, format, &body).map(drop),
        format => return print::value(screen, format, &Value::Array(items.into_iter().cloned().collect())),
    }
    let head = ["TYPE", "LINEAGE", "STATE", "READABLE", "ACTIVATED", "FINGERPRINT"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(items.iter().map(|item| {
        let names = ["aggregateType", "lineage", "state", "readable", "activatedAt", "fingerprint"];
        names.map(|name| printable(&cell(item, &[name]))).to_vec()
    }));
    use Align::{Left, Right};
    columns(&[Left, Right, Left, Left, Left, Left], &rows).iter().try_for_each(|line| screen.line(line))
}

fn define(args: &LineagesDefineArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let config = load_config(&args.source.config, &args.source.sets)?;
    let streams = chosen(&config, args.kind.as_deref())?;
    runtime(&config)?.block_on(async {
        let (blobs, _) = opened(&config).await?;
        for stream in streams {
            let history = lineages::history(&*blobs, &stream.topic).await.map_err(fault)?;
            let fingerprint = stream.fingerprint();
            let ours: Vec<String> = lineages::known(&history)
                .iter()
                .filter(|known| known.fingerprint == fingerprint)
                .map(told)
                .collect();
            if ours.is_empty() {
                let what = format!("no lineage of `{}` was folded with this configuration", stream.kind);
                let hint = "`snapfold lineages ls` lists fingerprints; take the configuration of then";
                return Err(Failure::new(Exit::NotFound, what).hint(hint));
            }
            let there = definitions::read(&*blobs, fingerprint).await.map_err(fault)?;
            if there.and_then(|text| config::defined(&text, fingerprint)).is_none() {
                definitions::forget(&*blobs, fingerprint).await.map_err(fault)?;
            }
            definitions::keep(&*blobs, fingerprint, &stream.definition).await.map_err(fault)?;
            screen.line(&format!("`{}`: lineage {} can be read", stream.kind, ours.join(", ")))?;
        }
        Ok(())
    })
}

fn drop_one(args: &LineagesDropArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let config = load_config(&args.source.config, &args.source.sets)?;
    let streams = chosen(&config, args.kind.as_deref())?;
    let [stream] = streams[..] else {
        return Err(Failure::usage("the configuration has several streams", "say which with `--type TYPE`"));
    };
    runtime(&config)?.block_on(async {
        let stores = Stores::open(&config).await?;
        let mut drop = Drop::new(&stores, stream, (Lineage(args.lineage), is_alone(&config)));
        drop.is_asked = args.yes;
        drop.abandons = args.abandon;
        drop.output = args.output;
        drop.run(screen).await
    })
}

/// Whether no worker can run beside this process.
pub(super) fn is_alone(config: &Config) -> bool {
    matches!(config.index, Index::Embedded { .. })
}

/// A lineage that is to go.
pub(super) struct Drop<'a> {
    stores: &'a Stores,
    stream: &'a Stream,
    lineage: Lineage,
    is_alone: bool,
    is_asked: bool,
    abandons: bool,
    output: Format,
}

impl<'a> Drop<'a> {
    pub(super) fn new(stores: &'a Stores, stream: &'a Stream, (lineage, is_alone): (Lineage, bool)) -> Self {
        let (is_asked, abandons) = (true, false);
        Self { stores, stream, lineage, is_alone, is_asked, abandons, output: Format::Table }
    }

    async fn known(&self) -> Done<(Known, Option<Lineage>)> {
        let history = lineages::history(&*self.stores.blobs, &self.stream.topic).await.map_err(fault)?;
        let all = lineages::known(&history);
        let active = all.iter().find(|known| known.standing == Standing::Active).map(|known| known.lineage);
        let Some(known) = all.iter().find(|known| known.lineage == self.lineage) else {
            let there: Vec<String> = all.iter().map(told).collect();
            let what = format!("`{}` has no lineage {}", self.stream.kind, self.lineage);
            return Err(Failure::new(Exit::NotFound, what).hint(format!("it has {}", there.join(", "))));
        };
        Ok((known.clone(), active))
    }

    pub(super) async fn run(&self, screen: &mut Screen<'_>) -> Done {
        let (known, active) = self.known().await?;
        let (kind, lineage) = (&self.stream.kind, self.lineage);
        match known.standing {
            Standing::Active => {
                let what = format!("lineage {lineage} of `{kind}` is the active one: it cannot be dropped");
                return Err(Failure::new(Exit::Conflict, what).hint("drop one that another took over from"));
            }
            Standing::Prepared if !self.abandons => {
                let what = format!("lineage {lineage} of `{kind}` is prepared: a refold may be writing it");
                let hint = "finish it with `snapfold refold`, or say that nobody will with `--abandon`";
                return Err(Failure::new(Exit::Conflict, what).hint(hint));
            }
            Standing::Prepared | Standing::Old | Standing::Dropped(_) => {}
        }
        let (index, blobs) = (Arc::clone(&self.stores.index), Arc::clone(&self.stores.blobs));
        let packs = Packs::new(Arc::clone(&index), blobs, CompressionPlan::default(), [0; 16]);
        let dropping = Dropping {
            index,
            packs: Arc::new(packs),
            clock: Arc::clone(&self.stores.clock) as Arc<dyn Clock>,
            kind: Arc::clone(kind),
            topic: Arc::clone(&self.stream.topic),
            lineage,
            partitions: known.partitions.unwrap_or(1),
            active,
        };
        let (stored, against) = dropping.look().await.map_err(fault)?;
        let is_noted = matches!(known.standing, Standing::Dropped(_));
        if !is_noted && against.count > 0 {
            return Err(self.refused(&against));
        }
        if !self.is_asked {
            return self.tell(stored, false, screen);
        }
        let at = dropping.note(self.abandons).await.map_err(fault)?;
        if !is_noted && !self.is_alone {
            tokio::time::sleep(HEARD).await;
        }
        dropping.sweep(at).await.map_err(|error| fault(error).hint("run it again to go on"))?;
        self.tell(stored, true, screen)
    }

    fn refused(&self, against: &Obstacles) -> Failure {
        let mut why: Vec<String> = Vec::new();
        why.extend(
            against
                .owners
                .iter()
                .take(3)
                .map(|owner| format!("`{}` folds partition {} of it", owner.address, owner.key.partition)),
        );
        why.extend(against.unreadable.iter().take(3).map(|pack| {
            let name = pack_name(Class::Checkpoint, *pack);
            format!("`{name}` cannot be read, and may tell of somebody who is held (where nobody is, move it away)")
        }));
        why.extend(against.held.iter().take(3).map(|key| format!("`{key}` is held")));
        why.extend(against.pinned.iter().take(3).map(|(key, version)| {
            format!("version {version} of `{key}` is pinned, and not in the active lineage")
        }));
        let told = why.len() as u64;
        if against.count > told {
            why.push(format!("{} more", against.count - told));
        }
        let what = format!(
            "lineage {} of `{}` cannot be dropped: {}",
            self.lineage,
            self.stream.kind,
            why.join("; ")
        );
        let hint = "restart workers with the active configuration (a minute later nobody counts as folding it), \
                    release holds, unpin snapshots; then `snapfold lineages drop`";
        Failure::new(Exit::Conflict, what).hint(hint)
    }

    fn tell(&self, stored: Stored, is_done: bool, screen: &mut Screen<'_>) -> Done {
        let Stored { aggregates, rows, checkpoints, packs, bytes } = stored;
        if self.output == Format::Table {
            let (kind, lineage) = (&self.stream.kind, self.lineage);
            let what = format!(
                "{rows} snapshots of {aggregates} aggregates and {checkpoints} checkpoints, {bytes} bytes in {packs} packs"
            );
            return screen.line(&match is_done {
                true => format!(
                    "`{kind}`: lineage {lineage} is dropped: {what}; the packs go with the next passes of \
                     garbage collection (`snapfold gc`)"
                ),
                false => format!("`{kind}`: lineage {lineage} would go: {what}; `--yes` drops it"),
            });
        }
        let mut told = Object::new();
        told.insert("aggregateType", Value::String((*self.stream.kind).into()));
        let figures = [
            ("lineage", u64::from(self.lineage.0)),
            ("aggregates", aggregates),
            ("snapshots", rows),
            ("checkpoints", checkpoints),
            ("packs", packs),
            ("bytes", bytes),
        ];
        for (name, figure) in figures {
            told.insert(name, Value::Number(Number::from(figure)));
        }
        told.insert("dropped", Value::Bool(is_done));
        print::value(screen, self.output, &Value::Object(told))
    }
}
