//! What is asked about a copy, and what an answer is worth: right, refused with a code that says why, or
//! wrong. Right is what the undamaged world says, which the ledger has vouched for.

use super::world::{Change, Copy, Told, World};
use crate::ledger::Selector;
use crate::process::Reply;
use crate::truth::{Question, encoded, questions};
use serde_json::Value;
use snapfold::codec::dictionary::Dictionary;
use snapfold::domain::ids::{Digest, PackId};
use std::cell::RefCell;
use std::collections::BTreeMap;

pub(super) const LIST: &str = "/v1/aggregates?type=order&limit=1000";
pub(super) const LETTERS: &str = "/v1/dead-letters?type=order&payload=true&limit=1000";
const KIND: &str = "order";

/// Says how an answer came about and how it is kept, which damage changes; `algorithm` and `compressed` are
/// the word of a locator about its own record.
const COST: [&str; 8] = [
    "reconstructionTimeMs",
    "source",
    "fromSnapshot",
    "snapshotVersion",
    "eventsReplayed",
    "durable",
    "algorithm",
    "compressed",
];

/// What became of one damage.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) wrong: Vec<String>,
    /// Questions that got a refusal in place of an answer, without those that only rest can answer.
    pub(super) refused: u64,
    /// A refusal, the metric, an answer or `verify` of whole packs tells of it.
    pub(super) is_told: bool,
    /// A frame has other bytes, which decode to the same: zstd does not use all bits of its frames.
    pub(super) are_bits_unused: bool,
}

/// Status and body of a right answer.
type Right = (u16, Vec<u8>);

/// Asks copies and compares.
pub(super) struct Judge<'a> {
    world: &'a World,
    /// What the undamaged world says, by whether the log is forgotten and by path.
    right: RefCell<BTreeMap<(bool, String), Right>>,
    /// By digest; to make one ready takes long.
    dictionaries: BTreeMap<Digest, Dictionary>,
}

fn reply(told: &Told) -> Reply {
    Reply { status: told.status, body: String::from_utf8(told.body.clone()).unwrap() }
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

/// The part of an answer that is about the aggregate.
fn facts(body: &[u8]) -> Value {
    fn strip(body: &mut Value) {
        let Some(members) = body.as_object_mut() else { return };
        members.retain(|name, _| !COST.contains(&&**name));
        members.get_mut("metadata").into_iter().for_each(strip);
        let items = members.get_mut("items").and_then(Value::as_array_mut);
        items.into_iter().flatten().for_each(strip);
    }
    let mut body = json(body);
    strip(&mut body);
    body
}

/// Questions that a record with these versions may matter to.
pub(super) fn about(world: &World, id: &str, from: u64, upto: u64) -> Vec<String> {
    let base = format!("/v1/aggregates/{KIND}/{}", encoded(id));
    let versions = [from.max(1), from + 1, upto, upto + 1].map(|version| format!("/state?version={version}"));
    let at = world.ledger.versions(id).iter().find(|fact| fact.version == upto);
    let at = at.map(|fact| format!("/state?at={}", fact.effective_time_ms));
    let first = (from + 1).min(upto);
    let more = [
        String::new(),
        "/state".to_owned(),
        format!("/events?fromVersion={first}&toVersion={}", upto + 1),
        "/events?order=desc&limit=3".to_owned(),
        "/snapshots?limit=1000".to_owned(),
        format!("/snapshots/{upto}"),
        format!("/snapshots/{upto}/blob"),
    ];
    let asked = versions.into_iter().chain(at).chain(more).map(|path| format!("{base}{path}"));
    let verify = format!("POST {base}/verify?mode=pack");
    asked.chain([verify]).collect()
}

impl<'a> Judge<'a> {
    /// The ledger vouches for every version and time of every aggregate in the undamaged world; where events
    /// are kept, also without the log.
    pub(super) fn new(world: &'a World, are_events_kept: bool) -> Self {
        let ids: Vec<&str> = world.ledger.aggregates().collect();
        for is_forgotten in [false, true] {
            world.changed(&Change::default(), is_forgotten, |copy| {
                for question in questions(&world.ledger, &ids, 8) {
                    let told = copy.ask(&question.path(KIND));
                    if told.status == 410 && is_forgotten && !are_events_kept {
                        continue;
                    }
                    question.judge(&reply(&told), false).unwrap();
                }
                for id in &ids {
                    vouch_for_events(world, copy, id, is_forgotten && !are_events_kept);
                }
                assert_eq!(copy.damage(), 0);
            });
        }
        let dictionaries = world.objects.iter().filter(|(name, _)| name.starts_with("v1/dict/"));
        let dictionaries = dictionaries.map(|(_, bytes)| Dictionary::new(bytes.clone()).unwrap());
        let dictionaries = dictionaries.map(|dictionary| (dictionary.id(), dictionary)).collect();
        Self { world, right: RefCell::default(), dictionaries }
    }

    fn right(&self, is_forgotten: bool, path: &str) -> Right {
        let at = (is_forgotten, path.to_owned());
        if let Some(known) = self.right.borrow().get(&at) {
            return known.clone();
        }
        let told = self.world.changed(&Change::default(), is_forgotten, |copy| copy.ask(path)).unwrap();
        assert!(told.status < 500, "{path}: {}", String::from_utf8_lossy(&told.body));
        self.right.borrow_mut().insert(at, (told.status, told.body.clone()));
        (told.status, told.body)
    }

    /// Asks a copy with this change.
    pub(super) fn judge(&self, change: &Change, is_forgotten: bool, paths: &[String]) -> Verdict {
        // Before the change, because copies share the index.
        paths.iter().for_each(|path| drop(self.right(is_forgotten, path)));
        let judged = self.world.changed(change, is_forgotten, |copy| {
            let mut verdict = Verdict::default();
            for path in paths {
                let told = copy.ask(path);
                let must_answer = !is_forgotten && change.rows.is_empty() && !is_of_rest(path);
                self.one(&mut verdict, is_forgotten, must_answer, path, &told);
                // Of rows, the list can do without none.
                let is_list = path == LIST && !change.rows.is_empty();
                verdict.refused += u64::from(is_list && told.status != 200);
            }
            verdict.is_told |= copy.damage() > 0;
            verdict
        });
        // A process that refuses to start answers nothing.
        judged.unwrap_or(Verdict { refused: paths.len() as u64, is_told: true, ..Verdict::default() })
    }

    fn one(&self, verdict: &mut Verdict, is_forgotten: bool, must_answer: bool, path: &str, told: &Told) {
        let (status, right) = self.right(is_forgotten, path);
        let wrong = |why: &str| {
            let body = String::from_utf8_lossy(&told.body);
            format!("{path} (log forgotten: {is_forgotten}): {why}: {} {body:.600}", told.status)
        };
        if told.status != status {
            let code = if told.status == 200 { Value::Null } else { json(&told.body)["code"].clone() };
            let is_refusal = match told.status {
                503 => true,
                500 => code == "corrupt",
                410 => code == "history-gone",
                _ => false,
            };
            verdict.is_told = true;
            verdict.refused += u64::from(!is_of_rest(path));
            if !is_refusal || must_answer {
                verdict.wrong.push(wrong("no answer, though there is one"));
            }
            return;
        }
        if told.body == right {
            return;
        }
        if path.ends_with("/blob") {
            match self.decode_alike(&told.body, &right) {
                true => verdict.are_bits_unused = true,
                false => verdict.wrong.push(format!("{path}: other bytes")),
            }
        } else if path.contains("/verify?") && status == 200 {
            let body = json(&told.body);
            verdict.is_told |= body["ok"] == false;
            let healed = |one: &Value| one["healed"] == true;
            if must_answer && !body["problems"].as_array().unwrap().iter().all(healed) {
                verdict.wrong.push(wrong("the log heals everything"));
            }
        } else if status == 200 {
            let (is, should) = (facts(&told.body), facts(&right));
            if is != should {
                match is_told_apart(&is, &should) {
                    true => verdict.is_told = true,
                    false => verdict.wrong.push(wrong("another answer")),
                }
            }
        } else if json(&told.body)["code"] != json(&right)["code"] {
            verdict.wrong.push(wrong("another refusal"));
        }
    }

    /// Whether two frames decode to the same bytes, with whichever dictionaries the right one decodes.
    fn decode_alike(&self, frame: &[u8], right: &[u8]) -> bool {
        let known = self.dictionaries.values().map(Dictionary::bytes).chain([&[][..]]);
        let decoded = known.filter_map(|dictionary| {
            let mut decoder = zstd::bulk::Decompressor::with_dictionary(dictionary).unwrap();
            let should = decoder.decompress(right, 1 << 20).ok()?;
            Some(decoder.decompress(frame, 1 << 20).is_ok_and(|is| is == should))
        });
        let alike: Vec<bool> = decoded.collect();
        !alike.is_empty() && alike.into_iter().all(|alike| alike)
    }
}

/// Answers that the log cannot stand in for: the stored bytes themselves, and the list of what is at rest.
fn is_of_rest(path: &str) -> bool {
    path.ends_with("/blob") || path == LIST
}

/// The pack that an object's name names.
pub(super) fn pack_id(name: &str) -> Option<PackId> {
    let hex = name.strip_suffix(".sfp")?.rsplit('/').next()?;
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?;
    Some(PackId(bytes.try_into().ok()?))
}

/// An answer that leaves out what cannot be read, and says so: an unknown head, a quarantine whose reason
/// is unreadable, or an aggregate in a list of which is not known whether it is deleted.
fn is_told_apart(is: &Value, should: &Value) -> bool {
    if should["items"].is_array() {
        let mut is = is.clone();
        let items = is["items"].as_array_mut().into_iter().flatten();
        for (item, right) in items.zip(should["items"].as_array().into_iter().flatten()) {
            if let Some(deleted @ Value::Null) = item.get_mut("deleted") {
                *deleted = right["deleted"].clone();
            }
        }
        return is == *should;
    }
    let (mut is, mut should) = (is.clone(), should.clone());
    let is_head_unknown = is["headVersion"].is_null() && !should["headVersion"].is_null();
    let is_unreadable = is["quarantined"]["code"] == "unreadable"
        && is["quarantined"]["offset"] == should["quarantined"]["offset"]
        && is["quarantined"]["version"] == should["quarantined"]["version"];
    for body in [&mut is, &mut should] {
        let Some(members) = body.as_object_mut() else { return false };
        if is_head_unknown {
            members.shift_remove("headVersion");
        }
        if is_head_unknown || is_unreadable {
            members.shift_remove("quarantined");
        }
    }
    (is_head_unknown || is_unreadable) && is == should
}

fn vouch_for_events(world: &World, copy: &Copy, id: &str, may_be_gone: bool) {
    let told = copy.ask(&format!("/v1/aggregates/{KIND}/{}/events?limit=1000", encoded(id)));
    if may_be_gone && told.status == 410 {
        return;
    }
    let body = json(&told.body);
    let items = body["items"].as_array().unwrap_or_else(|| panic!("{id}: {body}"));
    let facts = world.ledger.versions(id);
    assert_eq!(items.len(), facts.len(), "{id}");
    for (item, fact) in items.iter().zip(facts) {
        assert_eq!(
            (&item["version"], &item["position"]["offset"]),
            (&fact.version.into(), &fact.record.offset.into())
        );
        let digest = item["digest"].as_str().unwrap_or_default();
        assert_eq!(digest, format!("sha256:{}", crate::ledger::hex(&fact.event_digest)), "{item}");
    }
    let head = Question::of(&world.ledger, id, Selector::Head);
    head.judge(&reply(&copy.ask(&head.path(KIND))), false).unwrap();
}
