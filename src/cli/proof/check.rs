//! Everything that a proof says, computed anew: the chain from genesis over the events' digests, the
//! digest of the state, the statement, and that each record is in its pack. Nothing is asked of anybody.
//!
//! INVARIANT: a check that could not be made has failed. What is taken on trust (where links do not start at
//! genesis, the fingerprint, the roots) is said as a warning.

use crate::cli::checks::Check;
use crate::codec::body::{decode_full, decode_increment, decode_segment};
use crate::codec::pack::{Inclusion, kind_from_code};
use crate::domain::chain;
use crate::domain::ids::{AggregateKey, Digest, Lineage, Version};
use crate::domain::record::{FullBody, RawRecord, RecordId, RecordKind, StoredEvent};
use crate::domain::value::Value;
use data_encoding::{BASE64, HEXLOWER};
use std::collections::BTreeMap;

const FORMAT: &str = "snapfold.proof.v1";
const ASK_AGAIN: &str = "ask for the proof again; if it fails again, what it came from was altered";

/// What a proof says, in the types of this program.
struct Proof<'a> {
    value: &'a Value,
    key: AggregateKey,
    version: Version,
    lineage: Lineage,
    headers: Vec<Box<str>>,
    base: (Version, Digest),
    /// Versions with the digests of their events.
    events: Vec<(Version, Digest)>,
    chain: Digest,
    state: Option<Digest>,
}

/// All checks of a proof, with the auditor's own records where there are any.
pub(super) fn all(value: &Value, records: Option<&[RawRecord]>) -> Vec<Check> {
    let proof = match Proof::read(value) {
        Ok(proof) => proof,
        Err(why) => return vec![Check::fail("format", why, "give what `snapfold proof` printed, unchanged")],
    };
    let mut checks = vec![proof.links(), proof.state(), proof.statement()];
    checks.extend(proof.records());
    checks.extend(records.map(|records| proof.topic(records)));
    checks.extend(proof.on_trust());
    checks
}

fn digest(value: Option<&Value>, name: &str) -> Result<Digest, String> {
    let text = value.and_then(Value::as_str).and_then(|text| text.strip_prefix("sha256:"));
    let bytes = text.and_then(|text| HEXLOWER.decode(text.as_bytes()).ok());
    let digest = bytes.and_then(|bytes| bytes.try_into().ok()).map(Digest);
    digest.ok_or_else(|| format!("`{name}` is no digest"))
}

fn whole(value: Option<&Value>, name: &str) -> Result<u64, String> {
    let whole = value.and_then(Value::as_i64).and_then(|whole| u64::try_from(whole).ok());
    whole.ok_or_else(|| format!("`{name}` is no whole number"))
}

fn text<'v>(value: Option<&'v Value>, name: &str) -> Result<&'v str, String> {
    value.and_then(Value::as_str).ok_or_else(|| format!("`{name}` is no text"))
}

fn list<'v>(value: Option<&'v Value>, name: &str) -> Result<&'v [Value], String> {
    value.and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| format!("`{name}` is no list"))
}

impl<'a> Proof<'a> {
    fn read(value: &'a Value) -> Result<Self, String> {
        let get = |name: &str| value.get(name);
        if text(get("format"), "format")? != FORMAT {
            return Err(format!("this is no `{FORMAT}`"));
        }
        let kind = text(get("aggregateType"), "aggregateType")?.into();
        let id = text(get("aggregateId"), "aggregateId")?.into();
        let lineage = u32::try_from(whole(get("lineage"), "lineage")?);
        let headers = list(get("digestHeaders"), "digestHeaders")?;
        let headers = headers.iter().map(|name| text(Some(name), "digestHeaders").map(Box::from));
        let mut headers: Vec<Box<str>> = headers.collect::<Result<_, _>>()?;
        headers.sort();
        let base = get("base");
        let in_base = |name: &str| base.and_then(|base| base.get(name));
        let events = list(get("events"), "events")?.iter().map(|event| {
            let version = Version(whole(event.get("version"), "events/version")?);
            Ok((version, digest(event.get("digest"), "events/digest")?))
        });
        let state = match get("stateDigest") {
            Some(Value::Null) => None,
            told => Some(digest(told, "stateDigest")?),
        };
        Ok(Self {
            value,
            key: AggregateKey { kind, id },
            version: Version(whole(get("version"), "version")?),
            lineage: Lineage(lineage.map_err(|_| "`lineage` is no lineage".to_owned())?),
            headers,
            base: (
                Version(whole(in_base("version"), "base/version")?),
                digest(in_base("chain"), "base/chain")?,
            ),
            events: events.collect::<Result<_, String>>()?,
            chain: digest(get("chain"), "chain")?,
            state,
        })
    }

    fn genesis(&self) -> Digest {
        chain::genesis(&self.key.kind, &self.key.id)
    }

    fn links(&self) -> Check {
        let fail = |found: String| Check::fail("chain", found, ASK_AGAIN);
        if digest(self.value.get("genesis"), "genesis") != Ok(self.genesis()) {
            return fail("genesis is not that of the type and id".to_owned());
        }
        if self.base.0 == Version(0) && self.base.1 != self.genesis() {
            return fail("the links do not start at genesis".to_owned());
        }
        let (mut version, mut chain) = self.base;
        for (at, event) in &self.events {
            if *at != version.next() {
                return fail(format!("version {at} follows on version {version}"));
            }
            (version, chain) = (*at, chain::link(chain, *at, *event));
        }
        if version != self.version {
            return fail(format!("the events end at version {version}, not at {}", self.version));
        }
        if chain != self.chain {
            return fail(format!("the events lead to sha256:{chain}, the proof names sha256:{}", self.chain));
        }
        let (count, after) = (self.events.len(), self.base.0);
        Check::ok("chain", format!("{count} events lead from version {after} to version {version}"))
    }

    fn state(&self) -> Check {
        let state = self.value.get("state").filter(|state| !state.is_null() || self.state.is_some());
        match state.map(Value::digest) {
            computed if computed == self.state => Check::ok(
                "state",
                computed.map_or("deleted at this version".to_owned(), |digest| format!("sha256:{digest}")),
            ),
            Some(digest) => {
                Check::fail("state", format!("its digest is sha256:{digest}, not the one named"), ASK_AGAIN)
            }
            None => Check::fail("state", "it is missing", ASK_AGAIN),
        }
    }

    fn statement(&self) -> Check {
        let fingerprint = match self.value.get("fingerprint") {
            Some(Value::Null) | None => None,
            told => match digest(told, "fingerprint") {
                Ok(fingerprint) => Some(fingerprint),
                Err(why) => return Check::fail("statement", why, ASK_AGAIN),
            },
        };
        let computed = chain::statement(self.genesis(), self.version, self.chain, self.state, fingerprint);
        match digest(self.value.get("statement"), "statement") {
            Ok(told) if told == computed => Check::ok("statement", format!("sha256:{computed}")),
            Ok(_) => Check::fail("statement", "it is not that of chain, state and fingerprint", ASK_AGAIN),
            Err(why) => Check::fail("statement", why, ASK_AGAIN),
        }
    }

    fn records(&self) -> Vec<Check> {
        let records = match list(self.value.get("records"), "records") {
            Ok(records) => records,
            Err(why) => return vec![Check::fail("record", why, ASK_AGAIN)],
        };
        if records.is_empty() {
            let hint = "take a snapshot (`snapfold snapshot create`) or wait for one, and ask again";
            return vec![Check::warn("record", "no stored record covers the version yet", hint)];
        }
        let checked = records.iter().map(|record| match self.record(record) {
            Ok(found) => Check::ok("record", found),
            Err(why) => Check::fail("record", why, ASK_AGAIN),
        });
        checked.collect()
    }

    fn record(&self, record: &Value) -> Result<String, String> {
        let kind = text(record.get("kind"), "kind")?;
        let code = kind.as_bytes().first().copied().unwrap_or_default();
        let id = RecordId {
            key: self.key.clone(),
            lineage: self.lineage,
            upto_version: Version(whole(record.get("version"), "version")?),
            kind: kind_from_code(code).map_err(|error| error.detail)?,
            from_version: Version(whole(record.get("fromVersion"), "fromVersion")?),
        };
        let path = list(record.get("path"), "path")?.iter().map(|beside| digest(Some(beside), "path"));
        let body = BASE64.decode(text(record.get("body"), "body")?.as_bytes());
        let inclusion = Inclusion {
            id,
            index: whole(record.get("index"), "index")?,
            entries: whole(record.get("entries"), "entries")?,
            body: body.map_err(|error| format!("`body` is no base64: {error}"))?,
            path: path.collect::<Result<_, _>>()?,
            root: digest(record.get("root"), "root")?,
        };
        if !inclusion.holds() {
            return Err(format!(
                "{kind} of version {}: its path does not lead to the root",
                inclusion.id.upto_version
            ));
        }
        match inclusion.id.kind {
            RecordKind::Full => self.full(&decode_full(&inclusion.body).map_err(|error| error.detail)?)?,
            RecordKind::Increment => {
                let body = decode_increment(&inclusion.body, &self.key.id).map_err(|error| error.detail)?;
                self.holds("D", &body.events)?;
            }
            RecordKind::Segment => {
                let body = decode_segment(&inclusion.body, &self.key.id).map_err(|error| error.detail)?;
                self.holds("S", &body.events)?;
            }
        }
        let (at, of, root) = (inclusion.index + 1, inclusion.entries, inclusion.root);
        let object = text(record.get("object"), "object")?;
        let upto = inclusion.id.upto_version;
        Ok(format!("{kind} of version {upto} is entry {at} of {of} in `{object}` with root sha256:{root}"))
    }

    fn full(&self, body: &FullBody) -> Result<(), String> {
        if body.version != self.version || body.chain != self.chain {
            return Err(format!("F of version {}: it has another chain than the proof", body.version));
        }
        let state = body.state.as_deref().map(|state| Value::parse(state, &super::LIMITS));
        let state = state.transpose().map_err(|error| format!("F: its state is no JSON: {error}"))?;
        match state.map(|state| state.digest()) == self.state {
            true => Ok(()),
            false => Err(format!("F of version {}: it has another state than the proof", body.version)),
        }
    }

    /// Whether the event of the version is among those of a record, and all of them are the proof's.
    fn holds(&self, kind: &str, events: &[StoredEvent]) -> Result<(), String> {
        let known: BTreeMap<Version, Digest> = self.events.iter().copied().collect();
        let mut covers = self.events.is_empty();
        for event in events {
            let computed = chain::event_digest(&event.record, &self.headers);
            match known.get(&event.version) {
                Some(told) if *told != computed => {
                    return Err(format!(
                        "{kind}: the event of version {} is another one than the proof's",
                        event.version
                    ));
                }
                Some(_) => covers |= event.version == self.version,
                None => {}
            }
        }
        if covers {
            Ok(())
        } else {
            Err(format!("{kind}: it does not hold the event of version {}", self.version))
        }
    }

    /// The auditor's own records: each event of the proof must be among them, in the order of versions.
    fn topic(&self, records: &[RawRecord]) -> Check {
        let mut rest = records.iter().map(|record| chain::event_digest(record, &self.headers));
        for (version, wanted) in &self.events {
            if !rest.any(|digest| digest == *wanted) {
                let found =
                    format!("no record after that of the version before is the event of version {version}");
                return Check::fail(
                    "events",
                    found,
                    "these are not the records that the state was folded from",
                );
            }
        }
        let (count, of) = (self.events.len(), records.len());
        Check::ok("events", format!("all {count} events are among the {of} records, in this order"))
    }

    fn on_trust(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        if self.base.0 > Version(0) {
            let found = format!("what led to version {} is not in the proof", self.base.0);
            let hint = "compare `base` with a proof of that version, or ask for one from genesis";
            checks.push(Check::warn("base", found, hint));
        }
        if self.value.get("fingerprint").is_none_or(Value::is_null) {
            let hint = "fold the events yourself with the reducer that you trust";
            checks.push(Check::warn("fingerprint", "the proof names no reducer", hint));
        }
        checks
    }
}
