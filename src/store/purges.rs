//! What became of erasures, as objects: which packs were written anew without their records, and that nothing
//! is left. `v1/purges/<erasure>/<uuidv7>.<what>`, each a line of JSON and its CRC32C.
//!
//! They lie beside the list of erasures, not in it: whoever reads that list need not know of them.
//!
//! *Order*: of one erasure they are ordered by their names; whether it is complete, the last one tells that
//!   says anything about it. *If it fails*, or *is cancelled*: what was done is not told; the next purge
//!   tells that nothing is left all the same. *What may leak*: nothing.
//!
//! INVARIANT: names alone tell which erasures are complete, so that a purge reads no object for that.

use super::blobs::Blobs;
use super::erasures::{first_line, lined};
use super::unavailable;
use crate::codec::pack::purge_name;
use crate::codec::wire::from_hex;
use crate::domain::erasure::Purged;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{Digest, LedgerId};
use crate::domain::number::Number;
use crate::domain::outcome::PortError;
use crate::domain::value::{Object, Value};
use std::collections::BTreeMap;

const FOLDER: &str = "v1/purges/";
const FORMAT: &str = "snapfold purge 1";
const PAGE: usize = 1_000;
/// No fact is longer: names of dictionaries.
const OBJECT_BYTES_MAX: u64 = 1 << 20;

/// What is known of one erasure by the names of its facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The last of its facts: later ones are named later.
    pub last: LedgerId,
    /// The fact that says that nothing is left, unless something was found after it.
    pub complete: Option<LedgerId>,
}

/// How all erasures stand of which there is any fact.
///
/// # Errors
/// `Unavailable`.
pub async fn standing(blobs: &dyn Blobs) -> Result<BTreeMap<LedgerId, Standing>> {
    let mut all: BTreeMap<LedgerId, Standing> = BTreeMap::new();
    for (erasure, at, what) in names(blobs, FOLDER).await? {
        let standing = all.entry(erasure).or_insert(Standing { last: at, complete: None });
        standing.last = at;
        match &*what {
            COMPLETE => standing.complete = Some(at),
            FOUND => standing.complete = None,
            _ => {}
        }
    }
    Ok(all)
}

/// All facts of one erasure, in their order.
///
/// # Errors
/// `Unavailable`, or `Corrupt` where one is damaged.
pub async fn of(blobs: &dyn Blobs, erasure: LedgerId) -> Result<Vec<(LedgerId, Purged)>> {
    let mut facts = Vec::new();
    for (_, at, what) in names(blobs, &format!("{FOLDER}{erasure}/")).await? {
        let name = purge_name(erasure, at, &what);
        let bytes = blobs.get_range(&name, 0, OBJECT_BYTES_MAX).await;
        let bytes = bytes.map_err(|error| unavailable(&format!("read `{name}`"), &error))?;
        let wrong = || Error::corrupt(format!("`{name}` disagrees with its checksum"));
        facts.push((at, decode(&bytes, erasure, at).ok_or_else(wrong)?));
    }
    Ok(facts)
}

/// Keeps a fact under its name.
///
/// # Errors
/// `Unavailable`: whether it counts is unknown.
pub async fn keep(blobs: &dyn Blobs, erasure: LedgerId, at: LedgerId, fact: &Purged) -> Result<()> {
    let name = purge_name(erasure, at, what(fact));
    match blobs.put_new(&name, &encode(erasure, at, fact)).await {
        // Nobody else has this name: it was an earlier try.
        Ok(()) | Err(PortError::Exists) => Ok(()),
        Err(error) => Err(unavailable(&format!("write `{name}`"), &error)),
    }
}

async fn names(blobs: &dyn Blobs, prefix: &str) -> Result<Vec<(LedgerId, LedgerId, String)>> {
    let (mut found, mut after): (Vec<_>, Option<String>) = (Vec::new(), None);
    loop {
        let names = blobs.list(prefix, after.as_deref(), PAGE).await;
        let names = names.map_err(|error| unavailable("list what became of erasures", &error))?;
        found.extend(names.iter().filter_map(|name| parsed(name)));
        match names.last() {
            Some(last) if names.len() == PAGE => after = Some(last.clone()),
            _ => return Ok(found),
        }
    }
}

fn parsed(name: &str) -> Option<(LedgerId, LedgerId, String)> {
    let (erasure, fact) = name.strip_prefix(FOLDER)?.split_once('/')?;
    let (at, what) = fact.split_once('.')?;
    Some((LedgerId(from_hex(erasure)?), LedgerId(from_hex(at)?), what.to_owned()))
}

const REWRITTEN: &str = "rewritten";
const COMPLETE: &str = "complete";
const FOUND: &str = "found";

fn what(fact: &Purged) -> &'static str {
    match fact {
        Purged::Rewritten { .. } => REWRITTEN,
        Purged::Complete { .. } => COMPLETE,
        Purged::Found { .. } => FOUND,
    }
}

fn encode(erasure: LedgerId, at: LedgerId, fact: &Purged) -> Vec<u8> {
    let text = |text: &str| Value::String(text.into());
    let mut object = Object::new();
    object.insert("format", text(FORMAT));
    object.insert("erasure", text(&erasure.to_string()));
    object.insert("at", text(&at.to_string()));
    object.insert("fact", text(what(fact)));
    match fact {
        Purged::Rewritten { from, to, records } => {
            object.insert("from", text(from));
            object.insert("to", text(to));
            object.insert("records", Value::Number(Number::from(*records)));
        }
        Purged::Complete { dictionaries } => {
            let names = dictionaries.iter().map(|id| text(&id.to_string())).collect();
            object.insert("dictionaries", Value::Array(names));
        }
        Purged::Found { pack } => {
            object.insert("pack", text(pack));
        }
    }
    lined(object)
}

/// None for anything but what `encode` wrote of this name.
fn decode(bytes: &[u8], erasure: LedgerId, at: LedgerId) -> Option<Purged> {
    let value = first_line(bytes)?;
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let fact = match text("fact")? {
        REWRITTEN => Purged::Rewritten {
            from: text("from")?.into(),
            to: text("to")?.into(),
            records: value.get("records")?.as_i64()?.try_into().ok()?,
        },
        COMPLETE => {
            let names = value.get("dictionaries")?.as_array()?.iter();
            let id = |name: &Value| from_hex(name.as_str()?).map(Digest);
            Purged::Complete { dictionaries: names.map(id).collect::<Option<_>>()? }
        }
        FOUND => Purged::Found { pack: text("pack")?.into() },
        _ => return None,
    };
    (encode(erasure, at, &fact) == bytes).then_some(fact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Timestamp;
    use crate::store::blobs::MemoryBlobs;
    use futures_util::FutureExt;
    use std::future::Future;

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory answers at once")
    }

    fn id(ms: i64) -> LedgerId {
        LedgerId::mint(Timestamp(ms), [7; 10])
    }

    fn facts() -> [Purged; 3] {
        [
            Purged::Rewritten { from: "v1/full/a.sfp".into(), to: "v1/full/b.sfp".into(), records: 7 },
            Purged::Complete { dictionaries: vec![Digest([1; 32]), Digest([2; 32])] },
            Purged::Found { pack: "v1/history/\"c\".sfp".into() },
        ]
    }

    #[test]
    fn a_fact_reads_back_and_every_flipped_bit_and_every_cut_is_found() {
        for fact in facts() {
            let bytes = encode(id(1), id(2), &fact);
            assert_eq!(decode(&bytes, id(1), id(2)).as_ref(), Some(&fact));
            assert_eq!(decode(&bytes, id(1), id(3)), None, "of another name");
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&damaged, id(1), id(2)), None, "bit {bit}");
            }
            assert!((0..bytes.len()).all(|len| decode(&bytes[..len], id(1), id(2)).is_none()));
        }
    }

    #[test]
    fn an_erasure_is_complete_until_something_is_found_and_again_once_it_is_gone() {
        let (blobs, [rewritten, complete, found]) = (MemoryBlobs::new(), facts());
        let stands = || now(standing(&blobs)).unwrap().get(&id(1)).copied();
        assert_eq!(stands(), None);
        let steps = [(&rewritten, None), (&complete, Some(3)), (&found, None), (&complete, Some(5))];
        for (at, (fact, expected)) in (2..).zip(steps) {
            now(keep(&blobs, id(1), id(at), fact)).unwrap();
            now(keep(&blobs, id(1), id(at), fact)).unwrap();
            assert_eq!(stands(), Some(Standing { last: id(at), complete: expected.map(id) }));
        }
        now(blobs.put_new("v1/purges/strange", b"x")).unwrap();
        let all: Vec<Purged> = now(of(&blobs, id(1))).unwrap().into_iter().map(|(_, fact)| fact).collect();
        assert_eq!(all, [rewritten, complete.clone(), found, complete]);
        assert_eq!(now(of(&blobs, id(9))), Ok(Vec::new()));
    }
}
