//! Who wrote a field, what changed one, what events did, and what was known by a basis: judged by an
//! independent walk over the ledger's states, on values of `serde_json`.

use crate::judge::{Judge, Question};
use crate::surface::{Told, Wish, found};
use crate::world::Parts;
use serde_json::Value;
use snapfold::domain::ids::Version;
use snapfold::domain::patch::{Budget, JsonPatch};
use snapfold::domain::value::{Limits, Value as Ours};
use snapfold::lookup::{Answer, Blame, Changed, FieldHistory};
use snapfold::reconstruct::AsOf;
use std::collections::BTreeMap;

/// Places whose history is asked for; some are never there.
pub(crate) const PATHS: [&str; 6] = ["", "/items", "/status", "/total", "/items/s1/qty", "/never/there"];

/// The state at a version as the ledger has it; none before the first.
fn state(judge: &Judge, id: &str, version: u64) -> Option<Value> {
    let text = judge.state_text(id, version)?;
    Some(serde_json::from_str(&text).expect("the ledger writes JSON"))
}

/// The texts of all leaves by their pointers, in the order of the document.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                leaves(value, &format!("{path}/{}", escaped(name)), found);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (nth, value) in elements.iter().enumerate() {
                leaves(value, &format!("{path}/{nth}"), found);
            }
        }
        leaf => found.push((path.to_owned(), leaf.to_string())),
    }
}

fn leaf_texts(value: Option<&Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Some(value) = value {
        leaves(value, "", &mut found);
    }
    found
}

/// Every leaf's last writer is the one that a walk over all versions meets last.
pub(crate) fn blame_fits(judge: &Judge, world: &Parts, told: &Told, blame: &Blame) -> Result<(), String> {
    let Wish::Blame(wanted) = told.wish else { return Err("blame was not asked for".to_owned()) };
    let (id, at) = (&told.asked.id, blame.at.aggregate.version.0);
    if at > told.durable() && world.broker.records_cut() > 0 {
        // The event that wrote it may be one that was cut off.
        return Ok(());
    }
    if wanted.is_some_and(|wanted| wanted != at) || at > judge.head(id) {
        return Err(format!("version {at} was not asked for"));
    }
    let mut writers: BTreeMap<String, u64> = BTreeMap::new();
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    let mut last = Vec::new();
    for version in 1..=at {
        last = leaf_texts(state(judge, id, version).as_ref());
        for (path, text) in &last {
            if before.get(path) != Some(text) {
                writers.insert(path.clone(), version);
            }
        }
        before = last.iter().cloned().collect();
    }
    let expected: Vec<(String, u64)> =
        last.into_iter().map(|(path, _)| (path.clone(), writers[&path])).collect();
    let got: Vec<(String, u64)> =
        blame.fields.iter().map(|(path, by)| (path.to_string(), by.version.0)).collect();
    if got != expected {
        return Err(format!("blame at {at} is {got:?}, a walk finds {expected:?}"));
    }
    let facts = judge.facts(id);
    let wrong = blame.fields.iter().find(|(_, by)| {
        let fact = &facts[usize::try_from(by.version.0 - 1).expect("it is small")];
        let ours = (by.event_type.as_deref(), by.event_id.as_deref(), by.timestamp.0);
        ours != (fact.event_type.as_deref(), fact.event_id.as_deref(), fact.effective_time_ms)
    });
    wrong.map_or(Ok(()), |wrong| Err(format!("{wrong:?} is not what wrote it")))
}

/// A page of the changes of one place is what a walk over those versions finds.
pub(crate) fn history_fits(
    judge: &Judge,
    told: &Told,
    history: &FieldHistory,
    excused: bool,
) -> Result<(), String> {
    let Wish::History { path, from, descending, limit } = told.wish else {
        return Err("the history of a field was not asked for".to_owned());
    };
    let id = &told.asked.id;
    let text = |version: u64| {
        let state = if version > 0 { state(judge, id, version) } else { None };
        state.and_then(|state| state.pointer(PATHS[path]).map(Value::to_string))
    };
    let mut expected: Vec<(u64, Option<String>, Option<String>)> = (from..=judge.head(id))
        .map(|version| (version, text(version - 1), text(version)))
        .filter(|(_, before, after)| before != after)
        .collect();
    let json = |value: &Option<Ours>| value.as_ref().map(Ours::to_json);
    let got: Vec<(u64, Option<String>, Option<String>)> = history
        .items
        .iter()
        .map(|change| (change.by.version.0, json(&change.before), json(&change.after)))
        .collect();
    // Where damage may hide the newest versions the head is an older one, here as in all answers.
    let newest = got.iter().map(|change| change.0).max().unwrap_or(0);
    let durable = if excused { told.durable().min(newest) } else { told.durable() };
    if descending {
        // The head may have moved on since the question was asked.
        let newest = newest.max(durable);
        expected.retain(|(version, ..)| *version <= newest);
        expected.reverse();
    }
    let is_page = expected.starts_with(&got) && got.len() <= limit;
    // What is not told must be newer than what was durable, or beyond the page.
    let left_out = expected.get(got.len()).is_some_and(|(version, ..)| *version <= durable);
    if is_page && (!left_out || history.next.is_some()) {
        return Ok(());
    }
    Err(format!("{got:?} (next {:?}) where a walk finds {expected:?}", history.next))
}

/// The patches lead from each state to the next.
pub(crate) fn changes_fit(
    judge: &Judge,
    told: &Told,
    changes: &[Changed],
    excused: bool,
) -> Result<(), String> {
    let Wish::Changes { after } = told.wish else { return Err("changes were not asked for".to_owned()) };
    let id = &told.asked.id;
    let text = |version: u64| match version {
        0 => "null".to_owned(),
        _ => judge.state_text(id, version).unwrap_or_default(),
    };
    let parsed = |text: &str| Ours::parse(text.as_bytes(), &Limits::default());
    for (nth, change) in (after + 1..).zip(changes) {
        let mut state = parsed(&text(nth - 1)).map_err(|error| format!("version {}: {error}", nth - 1))?;
        let patch = JsonPatch::parse(&change.patch).map_err(|error| error.to_string())?;
        patch.apply(&mut state, &Budget::default()).map_err(|error| error.to_string())?;
        let expected = text(nth);
        if change.by.version != Version(nth) || state.to_json() != expected {
            return Err(format!("{change:?} leads to {}, not to {expected}", state.to_json()));
        }
    }
    let least = if excused { 0 } else { told.durable().saturating_sub(after) };
    if (changes.len() as u64) < least.min(1) { Err("no change was told".to_owned()) } else { Ok(()) }
}

/// Who had read the log up to an event knew what the log up to there says.
pub(crate) fn within_fits(
    judge: &mut Judge,
    world: &Parts,
    told: &Told,
    answer: &Answer,
) -> Result<(), String> {
    let (Wish::Within { .. }, Some(basis)) = (told.wish, &told.basis) else {
        return Err("no basis was given".to_owned());
    };
    let upto = basis.upto[&told.asked.partition];
    let asked = Question { as_of: AsOf::Offset(upto), ..told.asked.clone() };
    judge.judge(world, &asked, found(&Ok(answer.clone())).as_ref())
}
