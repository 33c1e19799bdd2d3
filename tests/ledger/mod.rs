//! The ledger: an independent, naive oracle. The producer's journal goes in record by record; it answers what
//! every aggregate was at every version, time and offset, written from DESIGN.md (1, 4, 6.4, 9) and API.md (2
//! to 4.1) alone. It shares no type and no fold with the product: JSON patch is the `json-patch` crate's,
//! expressions are jaq's. What a spec uses beyond what the ledger knows is refused loudly, never guessed.
//!
//! A test crate includes it with `#[path = "../ledger/mod.rs"] mod ledger;`; where it does not need all of
//! it: `#[expect(dead_code, reason = "...")]` on that line. Its own tests are `tests/ledger_self.rs`.

pub(crate) mod chain;
mod expr;
mod facts;
pub(crate) mod json;
pub(crate) mod place;
mod preset;
mod rules;
mod yaml;

pub(crate) use chain::hex;
use chain::{event_digest, genesis, link};
use facts::Kept;
pub(crate) use facts::{
    Answer, DeadLetter, Expected, OnPoison, Quarantine, Record, Selector, Spec, Taken, VersionFact, Versions,
};
pub(crate) use place::Map;
use place::{Found, as_integer, as_text, as_time};
use rules::{Event, Reducer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What a spec or a record asks for and the ledger does not know.
#[expect(clippy::panic, reason = "an oracle that guesses is worse than none")]
pub(crate) fn unsupported(what: &str) -> ! {
    panic!("the ledger does not support {what}")
}

#[derive(Default)]
struct Aggregate {
    versions: Vec<VersionFact>,
    /// Nothing: deleted.
    state: Option<Value>,
    quarantined: Option<Quarantine>,
}

pub(crate) struct Ledger {
    spec: Spec,
    headers: Vec<String>,
    reducer: Reducer,
    aggregates: BTreeMap<String, Aggregate>,
    dead_letters: Vec<DeadLetter>,
    halted: BTreeSet<i32>,
}

/// The parts of a record, each as far as it can be read.
struct Parts {
    payload: Option<Value>,
    id: String,
    id_from_value: bool,
    kind: Result<Option<String>, ()>,
    event_id: Result<Option<String>, ()>,
    time: Result<Option<i64>, ()>,
    version: Result<Option<i64>, ()>,
}

impl Ledger {
    pub(crate) fn new(spec: Spec) -> Self {
        let given = !spec.map.version.is_empty();
        assert_eq!(
            given,
            spec.versions != Versions::Counted,
            "`map.version` says whether versions are given"
        );
        let (headers, reducer) = (spec.map.headers(), Reducer::parse(&spec.reducer_yaml));
        let (aggregates, dead_letters, halted) = Default::default();
        Self { spec, headers, reducer, aggregates, dead_letters, halted }
    }

    /// Forgets every record.
    pub(crate) fn restart(&mut self) {
        (self.aggregates, self.dead_letters, self.halted) = Default::default();
    }

    /// Takes the next record of its partition.
    pub(crate) fn push(&mut self, record: Record) -> Taken {
        if self.halted.contains(&record.partition) {
            return Taken::Halt;
        }
        let Some(parts) = self.parts(&record) else {
            return self.dead(&record, None, "no-aggregate");
        };
        let start = || Some(self.reducer.start()).filter(|state| !state.is_null());
        let aggregate = self
            .aggregates
            .entry(parts.id.clone())
            .or_insert_with(|| Aggregate { state: start(), ..Aggregate::default() });
        if aggregate.quarantined.is_some() {
            return self.dead(&record, Some(parts.id), "quarantined");
        }
        let partitions = aggregate.versions.last().map_or(record.partition, |v| v.record.partition);
        assert_eq!(partitions, record.partition, "aggregate `{}` lives in one partition", parts.id);

        let head = aggregate.versions.len() as u64;
        let mut poison = self.spec.poison(&record, &parts);
        match self.spec.versions {
            Versions::Counted => {
                let recent = &aggregate.versions[aggregate.versions.len().saturating_sub(1000)..];
                if let Ok(Some(id)) = &parts.event_id
                    && recent.iter().any(|v| v.event_id.as_ref() == Some(id))
                {
                    return Taken::Duplicate;
                }
            }
            Versions::Given { base } => {
                match parts.version.map(|v| v.map(|v| i128::from(v) + i128::from(1 - base))) {
                    Ok(Some(v)) if v < 1 => poison = poison.or(Some("bad-version")),
                    Ok(Some(v)) if v <= i128::from(head) => {
                        let at = usize::try_from(v - 1).expect("at most the head");
                        let first = &aggregate.versions[at].record;
                        let equal = first.key == record.key && first.value == record.value;
                        return if equal { Taken::Duplicate } else { Taken::Conflict };
                    }
                    Ok(Some(v)) if v > i128::from(head) + 1 => {
                        let code = if head == 0 { "history-incomplete" } else { "version-gap" };
                        return self.quarantine(&record, parts.id, code);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) if record.value.is_none() => {}
                    Ok(None) | Err(()) => poison = poison.or(Some("bad-version")),
                }
            }
        }
        self.fold(record, parts, head + 1, poison)
    }

    /// Folds a record that is next, or does with it what `onPoison` says.
    fn fold(
        &mut self,
        record: Record,
        parts: Parts,
        version: u64,
        mut poison: Option<&'static str>,
    ) -> Taken {
        let aggregate = self.aggregates.get_mut(&parts.id).expect("`push` made it");
        let tombstone = record.value.is_none();
        let kind = if tombstone { Some("$tombstone".to_owned()) } else { parts.kind.ok().flatten() };
        let event_id = parts.event_id.ok().flatten();
        if poison.is_none() {
            let state = aggregate.state.take();
            let next = if tombstone {
                Some(None)
            } else {
                let payload = parts.payload.as_ref();
                let data = match record.find(&self.spec.map.data, payload) {
                    _ if self.spec.map.data.is_empty() => parts.payload.clone(),
                    Found::Value(_, data) => Some(data),
                    Found::Nothing | Found::Unreadable => None,
                };
                let (kind, id) = (kind.as_deref().unwrap_or_default(), event_id.as_deref());
                self.reducer.fold(state, Event { kind, id, version, data: data.unwrap_or(Value::Null) })
            };
            let text =
                next.as_ref().map(|state| state.as_ref().map_or_else(|| "null".to_owned(), json::text));
            match (next, text) {
                (Some(state), Some(text)) if text.len() <= self.spec.max_state_bytes => {
                    aggregate.state = state;
                    let fact = Fact { version, kind, event_id, time: parts.time, skipped: false, text };
                    aggregate.append(&self.spec, &parts.id, &self.headers, record, fact);
                    return Taken::Applied(version);
                }
                (Some(_), _) => poison = Some("state-too-large"),
                (None, _) => poison = Some("reducer"),
            }
            // The failed fold has spoilt the state: take the last version's again.
            aggregate.state = match aggregate.versions.last() {
                None => Some(self.reducer.start()),
                Some(last) => json::read(last.state_text().as_bytes(), usize::MAX),
            }
            .filter(|state| !state.is_null());
        }
        match self.spec.on_poison {
            OnPoison::Halt => {
                if aggregate.versions.is_empty() {
                    self.aggregates.remove(&parts.id);
                }
                self.halted.insert(record.partition);
                Taken::Halt
            }
            OnPoison::Quarantine => {
                self.quarantine(&record, parts.id, poison.expect("only poison comes here"))
            }
            OnPoison::Skip => {
                let text = aggregate.state.as_ref().map_or_else(|| "null".to_owned(), json::text);
                let fact = Fact { version, kind, event_id, time: parts.time, skipped: true, text };
                aggregate.append(&self.spec, &parts.id, &self.headers, record, fact);
                Taken::Skipped(version)
            }
        }
    }

    fn quarantine(&mut self, record: &Record, id: String, code: &'static str) -> Taken {
        let aggregate = self.aggregates.get_mut(&id).expect("`push` made it");
        let version = aggregate.versions.len() as u64;
        let (offset, since_ms) = (record.offset, record.record_time_ms);
        aggregate.quarantined = Some(Quarantine { code, version, offset, since_ms });
        self.dead(record, Some(id), code);
        Taken::Quarantined { code }
    }

    fn dead(&mut self, record: &Record, aggregate_id: Option<String>, code: &'static str) -> Taken {
        let (partition, offset) = (record.partition, record.offset);
        self.dead_letters.push(DeadLetter { partition, offset, aggregate_id, code });
        Taken::DeadLetter { code }
    }

    /// Nothing if no aggregate id can be read.
    fn parts(&self, record: &Record) -> Option<Parts> {
        let map = &self.spec.map;
        let value = record.value.as_deref().filter(|value| value.len() <= self.spec.max_event_bytes);
        let payload = value.and_then(|value| json::read(value, self.spec.max_depth));
        let find = |places| record.find(places, payload.as_ref());
        let (place, id) = match find(&map.aggregate_id) {
            Found::Value(place, id) => (place.to_owned(), as_text(&id)?),
            Found::Nothing | Found::Unreadable => return None,
        };
        (1..=1024).contains(&id.len()).then_some(())?;
        Some(Parts {
            id,
            id_from_value: place.starts_with('/') || place.starts_with("const:"),
            kind: part(find(&map.event_type), as_text),
            event_id: part(find(&map.event_id), as_text),
            time: part(find(&map.time), as_time),
            version: part(find(&map.version), as_integer),
            payload,
        })
    }

    /// Ids of the aggregates that have at least one version, deleted ones included.
    pub(crate) fn aggregates(&self) -> impl Iterator<Item = &str> {
        self.aggregates.iter().filter(|(_, a)| !a.versions.is_empty()).map(|(id, _)| id.as_str())
    }

    /// The newest version; 0 if there is none.
    pub(crate) fn head(&self, id: &str) -> u64 {
        self.versions(id).len() as u64
    }

    pub(crate) fn versions(&self, id: &str) -> &[VersionFact] {
        self.aggregates.get(id).map_or(&[], |aggregate| &aggregate.versions)
    }

    /// Why and since when it stands still.
    pub(crate) fn quarantined(&self, id: &str) -> Option<&Quarantine> {
        self.aggregates.get(id).and_then(|aggregate| aggregate.quarantined.as_ref())
    }

    pub(crate) fn dead_letters(&self) -> &[DeadLetter] {
        &self.dead_letters
    }

    /// Just before, at and just after every effective time.
    pub(crate) fn boundary_times(&self, id: &str) -> Vec<i64> {
        let times = self.versions(id).iter().map(|v| v.effective_time_ms);
        let near: BTreeSet<i64> = times.flat_map(|t| [t.saturating_sub(1), t, t.saturating_add(1)]).collect();
        near.into_iter().collect()
    }

    pub(crate) fn expect(&self, id: &str, selector: Selector) -> Expected {
        let Some(aggregate) = self.aggregates.get(id) else { return Expected::Unknown };
        let versions = &aggregate.versions;
        let (Some(first), Some(last)) = (versions.first(), versions.last()) else {
            return aggregate.quarantined.clone().map_or(Expected::Unknown, Expected::NoGoodVersion);
        };
        let found = match selector {
            Selector::Head => Some(last),
            Selector::Version(0) => return Expected::BadSelector,
            Selector::Version(n) if n > last.version => return Expected::BeyondHead { head: last.version },
            Selector::Version(n) => versions.iter().find(|v| v.version == n),
            Selector::At(ms) => versions.iter().rfind(|v| v.effective_time_ms <= ms),
            Selector::Offset(partition, _) if partition != first.record.partition => {
                return Expected::WrongPartition;
            }
            Selector::Offset(_, offset) => versions.iter().rfind(|v| v.record.offset <= offset),
        };
        let Some(fact) = found else {
            return Expected::BeforeFirst { first_time_ms: first.effective_time_ms };
        };
        let state_text = fact.state_text();
        let state = json::read(state_text.as_bytes(), usize::MAX).expect("the ledger wrote it");
        Expected::State(Box::new(Answer {
            version: fact.version,
            head_version: last.version,
            deleted: fact.deleted,
            effective_time_ms: fact.effective_time_ms,
            partition: fact.record.partition,
            offset: fact.record.offset,
            state_digest: hex(&Sha256::digest(json::canonical(&state)).into()),
            state_text,
            chain: hex(&fact.chain),
            last_event_type: fact.event_type.clone(),
            last_event_id: fact.event_id.clone(),
            skipped: fact.skipped,
            quarantined: aggregate.quarantined.clone(),
        }))
    }
}

impl Spec {
    /// What is wrong with a record before it is folded, versions aside.
    fn poison(&self, record: &Record, parts: &Parts) -> Option<&'static str> {
        let tombstone = record.value.is_none();
        let size = record.value.as_ref().map_or(0, Vec::len);
        let rules = [
            (tombstone && record.key.is_none(), "null-record"),
            (tombstone && parts.id_from_value, "tombstone-without-id"),
            (size > self.max_event_bytes, "event-too-large"),
            (!tombstone && parts.payload.is_none(), "undecodable"),
            (!tombstone && !matches!(parts.kind, Ok(Some(_))), "bad-type"),
            (parts.event_id.is_err(), "bad-event-id"),
            (parts.time.is_err(), "bad-time"),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, code)| code)
    }
}

/// What `append` needs beside the record.
struct Fact {
    version: u64,
    kind: Option<String>,
    event_id: Option<String>,
    time: Result<Option<i64>, ()>,
    skipped: bool,
    text: String,
}

impl Aggregate {
    fn append(&mut self, spec: &Spec, id: &str, headers: &[String], record: Record, fact: Fact) {
        let last = self.versions.last();
        let event_digest = event_digest(&record, headers);
        let chain =
            link(last.map_or_else(|| genesis(&spec.kind, id), |v| v.chain), fact.version, event_digest);
        let time_ms = fact.time.ok().flatten().unwrap_or(record.record_time_ms);
        self.versions.push(VersionFact {
            version: fact.version,
            time_ms,
            effective_time_ms: last.map_or(time_ms, |v| v.effective_time_ms.max(time_ms)),
            event_type: fact.kind,
            event_id: fact.event_id,
            skipped: fact.skipped,
            // A skipped event deletes nothing, also where there was nothing yet.
            deleted: self.state.is_none() && (!fact.skipped || last.is_some_and(|v| v.deleted)),
            event_digest,
            chain,
            state: Kept::new(fact.text),
            record,
        });
    }
}

/// Nothing found, or a value that is what the part needs, or not.
fn part<T>(found: Found<'_>, read: fn(&Value) -> Option<T>) -> Result<Option<T>, ()> {
    match found {
        Found::Nothing => Ok(None),
        Found::Value(_, value) => read(&value).map(Some).ok_or(()),
        Found::Unreadable => Err(()),
    }
}
