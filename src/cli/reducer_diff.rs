//! `reducer diff`: which states a new reducer would change, over the history that is there. `--offline` reads
//! stores; else a server tells states and events, which are then those that its mapping makes.
//!
//! Nothing is written anywhere.

use super::address::Address;
use super::args::Format;
use super::args_refold::ReducerDiffArgs;
use super::changes;
use super::client::{Client, Query};
use super::failure::{Done, Exit, Failure};
use super::print;
use super::reducer_history::{Offline, Told, told_event};
use super::refold::chosen;
use super::run::{fault, runtime};
use super::screen::{Ink, Screen, printable};
use super::source::load_config;
use crate::config::{Config, Stream};
use crate::domain::aggregate::{Aggregate, Folded, Rules, State, Versions, id_hash};
use crate::domain::ids::Version;
use crate::domain::number::Number;
use crate::domain::patch;
use crate::domain::value::{Object, Value};
use crate::upkeep::compare::{self, Compared};
use std::collections::BTreeSet;

/// What came of one aggregate that would change.
struct Changed {
    kind: String,
    id: String,
    compared: Compared,
}

/// What came of all.
#[derive(Default)]
struct Tally {
    aggregates: u64,
    events: u64,
    versions: u64,
    /// States that differ at the last version that was compared.
    changed: u64,
    /// That differ before, and not there.
    passing: u64,
    /// Aggregates with events that the new reducer refuses.
    poisoned: u64,
    /// Aggregates of which history is missing.
    untold: u64,
    shown: Vec<Changed>,
}

pub(super) fn run(args: &ReducerDiffArgs, screen: &mut Screen<'_>) -> Done {
    let config = load_config(&args.source.config, &args.source.sets)?;
    let before = args.before.as_ref().map(|path| load_config(path, &[])).transpose()?;
    let mut tally = Tally::default();
    if args.offline {
        runtime(&config)?.block_on(offline(args, &config, before.as_ref(), &mut tally))?;
    } else {
        online(args, &config, &mut tally)?;
    }
    tally.print(args.output, screen)?;
    let differs = tally.changed + tally.passing + tally.poisoned > 0;
    if args.exit_code && differs { Err(Failure::told(Exit::Failure)) } else { Ok(()) }
}

async fn offline(
    args: &ReducerDiffArgs,
    config: &Config,
    before: Option<&Config>,
    tally: &mut Tally,
) -> Done {
    let opened = Offline::open(config).await?;
    for stream in chosen(config, args.kind.as_deref())? {
        let old = match before {
            Some(before) => Some(chosen(before, Some(&stream.kind))?[0].rules()),
            None => None,
        };
        let history = opened.stream(stream).await?;
        let sample = (!args.all).then(|| usize::try_from(args.sample).unwrap_or(usize::MAX));
        for (key, partition) in compare::drawn(&history.reader, &history.ends, sample).await.map_err(fault)? {
            let (log, end) = &history.ends[&partition];
            let compared = compare::compare(&history.reader, old.as_ref(), log, &key, *end).await;
            tally.take(&stream.kind, &key.id, compared.map_err(fault)?, args.limit);
        }
    }
    Ok(())
}

fn online(args: &ReducerDiffArgs, config: &Config, tally: &mut Tally) -> Done {
    let client = Client::new(&args.server)?;
    for stream in chosen(config, args.kind.as_deref())? {
        for id in ids(&client, stream, (!args.all).then_some(args.sample))? {
            let address = Address { kind: stream.kind.to_string(), id };
            let compared = ask(&client, stream, &address)?;
            tally.take(&stream.kind, &address.id, compared, args.limit);
        }
    }
    Ok(())
}

/// Ids of a type: all, or so many, the same ones each time.
fn ids(client: &Client, stream: &Stream, sample: Option<u64>) -> Done<Vec<String>> {
    let mut drawn = BTreeSet::new();
    let mut cursor: Option<String> = None;
    loop {
        let after = cursor.take().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let body = client.get_at(&format!("/v1/aggregates?type={}&limit=1000{after}", stream.kind))?;
        for item in body.value.get("items").and_then(Value::as_array).into_iter().flatten() {
            if let Some(id) = item.get("aggregateId").and_then(Value::as_str) {
                drawn.insert((id_hash(id), id.to_owned()));
                if sample.is_some_and(|sample| drawn.len() as u64 > sample) {
                    drawn.pop_last();
                }
            }
        }
        cursor = body.value.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(drawn.into_iter().map(|(_, id)| id).collect());
        }
    }
}

/// Folds the events that a server tells, and compares the head; where it differs, halving finds where that
/// began.
fn ask(client: &Client, stream: &Stream, address: &Address) -> Done<Compared> {
    let mut compared = Compared::default();
    let list = match client.list(address, "/events", &Query::new(), u64::MAX) {
        Ok(list) => list,
        Err(failure) if failure.exit == Exit::NotFound => {
            compared.untold = Some(failure.message);
            return Ok(compared);
        }
        Err(failure) => return Err(failure),
    };
    // The server has decided which events there are, and in which order.
    let rules = Rules { versions: Versions::Given, ..stream.rules() };
    let mut new = Aggregate::genesis(&stream.kind, &address.id);
    let mut states = Vec::with_capacity(list.items.len());
    for item in &list.items {
        let Told { decoded, version, skipped } = told_event(&address.id, item)?;
        compared.events += 1;
        if skipped {
            // It was poison for the mapping or the old reducer; what the new one says is not known here.
            rules.refold(&mut new, version, true, &decoded).map_err(fault)?;
        } else {
            match rules.fold(&mut new, &decoded) {
                Folded::Applied | Folded::Duplicate => {}
                Folded::Skipped(poison)
                | Folded::Quarantined(poison)
                | Folded::Refused(poison)
                | Folded::Halt(poison) => {
                    compared.poisoned += 1;
                    compared.poison.get_or_insert((decoded.record.offset, poison));
                }
            }
        }
        states.push(tree(&new.state));
    }
    let Some(last) = states.len().checked_sub(1) else { return Ok(compared) };
    let asked = |at: usize| -> Done<Value> {
        let body = client.get(address, "/state", &vec![("version", (at + 1).to_string())])?;
        Ok(body.value.get("state").cloned().unwrap_or_default())
    };
    let old = asked(last)?;
    compared.versions = 1;
    compared.last = Version(last as u64 + 1);
    if old != states[last] {
        let (mut same, mut differs) = (0, last);
        while same < differs {
            let middle = same + (differs - same) / 2;
            compared.versions += 1;
            if asked(middle)? == states[middle] { same = middle + 1 } else { differs = middle }
        }
        compared.first = Some(Version(differs as u64 + 1));
    }
    compared.states = Some((old, states.swap_remove(last)));
    Ok(compared)
}

fn tree(state: &State) -> Value {
    match state {
        State::Hot(tree) => tree.value().clone(),
        State::Absent | State::Idle(_) => Value::Null,
    }
}

impl Tally {
    fn take(&mut self, kind: &str, id: &str, compared: Compared, limit: usize) {
        self.aggregates += 1;
        self.events += compared.events;
        self.versions += compared.versions;
        let differs = compared.differs();
        self.changed += u64::from(differs);
        self.passing += u64::from(!differs && compared.first.is_some());
        self.poisoned += u64::from(compared.poisoned > 0);
        self.untold += u64::from(compared.untold.is_some());
        let tells = compared.first.is_some() || compared.poisoned > 0 || compared.untold.is_some();
        if tells && self.shown.len() < limit {
            self.shown.push(Changed { kind: kind.to_owned(), id: id.to_owned(), compared });
        }
    }

    fn print(&self, format: Format, screen: &mut Screen<'_>) -> Done {
        match format {
            Format::Table => self.table(screen),
            Format::Ndjson => {
                for changed in &self.shown {
                    screen.line(&changed.to_value().to_json())?;
                }
                Ok(())
            }
            format => print::value(screen, format, &self.to_value()),
        }
    }

    fn table(&self, screen: &mut Screen<'_>) -> Done {
        for changed in &self.shown {
            let Changed { kind, id, compared } = changed;
            let mut head = format!("{kind}/{}", printable(id));
            if let Some(first) = compared.first {
                head.push_str(&format!("  differs from version {first}, compared up to {}", compared.last));
            }
            screen.line(&screen.ink(Ink::Name, &head))?;
            if let Some((offset, poison)) = &compared.poison {
                let more = compared.poisoned - 1;
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                let line = format!("    POISON at offset {offset}: {}{more}", printable(&poison.to_string()));
                screen.line(&screen.ink(Ink::Removed, &line))?;
            }
            if let Some(why) = &compared.untold {
                screen.line(&format!("    history is not whole: {}", printable(why)))?;
            }
            if let Some((before, after)) = &compared.states {
                for line in changes::lines(&patch::diff(before, after), before, screen)? {
                    screen.line(&format!("    {line}"))?;
                }
            }
        }
        let told = self.changed + self.passing + self.poisoned + self.untold;
        if told > self.shown.len() as u64 {
            screen.say(&format!("{} of them are shown: raise `--limit`", self.shown.len()));
        }
        screen.say(&format!(
            "{} aggregates, {} events, {} versions compared: {} states would change, {} differ only earlier, {} have \
             events that the new reducer refuses, of {} history is not whole",
            self.aggregates,
            self.events,
            self.versions,
            self.changed,
            self.passing,
            self.poisoned,
            self.untold
        ));
        Ok(())
    }

    fn to_value(&self) -> Value {
        let figures = [
            ("aggregates", self.aggregates),
            ("events", self.events),
            ("versions", self.versions),
            ("changed", self.changed),
            ("changedBefore", self.passing),
            ("poisoned", self.poisoned),
            ("untold", self.untold),
        ];
        let mut told = Object::new();
        for (name, figure) in figures {
            told.insert(name, number(figure));
        }
        told.insert("items", Value::Array(self.shown.iter().map(Changed::to_value).collect()));
        Value::Object(told)
    }
}

impl Changed {
    fn to_value(&self) -> Value {
        let compared = &self.compared;
        let mut told = Object::new();
        told.insert("aggregateType", Value::from(&*self.kind));
        told.insert("aggregateId", Value::from(&*self.id));
        told.insert("firstVersion", compared.first.map_or(Value::Null, |first| number(first.0)));
        told.insert("version", number(compared.last.0));
        if let Some((before, after)) = &compared.states {
            told.insert("patch", patch::diff(before, after).to_value());
        }
        if let Some((offset, poison)) = &compared.poison {
            let mut of = Object::new();
            of.insert("offset", Value::Number(Number::from(u64::try_from(offset.0).unwrap_or(0))));
            of.insert("code", Value::from(poison.code));
            of.insert("detail", Value::from(&*poison.detail));
            of.insert("events", number(compared.poisoned));
            told.insert("poison", Value::Object(of));
        }
        if let Some(why) = &compared.untold {
            told.insert("untold", Value::from(&**why));
        }
        Value::Object(told)
    }
}

fn number(figure: u64) -> Value {
    Value::Number(Number::from(figure))
}
