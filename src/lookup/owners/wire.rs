//! What one worker tells another of its memory, as bytes: made for the wire between workers of one version
//! or its neighbours, never stored.
//!
//! Layout: format (1), what it is about (SHA-256 over lineage, partition and question), position (zigzag),
//! then the answer, then CRC32C of everything before it (4 bytes, little-endian). An answer that does not
//! name its question, or whose checksum is wrong, is no answer.

use crate::codec::body::{decode_full, put_full};
use crate::codec::wire::{Cursor, put_bytes, put_varint, put_zigzag};
use crate::domain::aggregate::Aggregate;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{Digest, Offset, Timestamp, Version};
use crate::domain::partition::{Epochs, Listing, Pending, Residence, Resident};
use crate::domain::row::PartitionKey;
use crate::reconstruct::{HeadAnswer, ListAnswer};
use sha2::{Digest as _, Sha256};

const FORMAT: u8 = 1;
const UNSURE: u8 = 0;
const ABSENT: u8 = 1;
const HERE: u8 = 2;
const PENDING: u8 = 3;

/// What an answer is about, so that it cannot be taken for another's.
fn subject(log: &PartitionKey, question: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(log.topic.as_bytes());
    part(&log.partition.0.to_le_bytes());
    part(&log.lineage.0.to_le_bytes());
    question.iter().for_each(|bytes| part(bytes));
    Digest(hash.finalize().into())
}

fn about_head(log: &PartitionKey, id: &str) -> Digest {
    subject(log, &[b"head", id.as_bytes()])
}

fn about_list(log: &PartitionKey, listing: &Listing) -> Digest {
    let after = listing.after.as_deref();
    let limit = listing.limit as u64;
    let after_given = [u8::from(after.is_some())];
    let parts: [&[u8]; 5] = [
        b"list",
        listing.prefix.as_bytes(),
        &after_given,
        after.unwrap_or_default().as_bytes(),
        &limit.to_le_bytes(),
    ];
    subject(log, &parts)
}

fn start(about: Digest, position: Offset) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&about.0);
    put_zigzag(&mut out, position.0);
    out
}

fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The position and the answer behind it, if the bytes are whole and about this.
fn open(bytes: &[u8], about: Digest) -> Result<(Offset, Cursor<'_>)> {
    let (body, sum) =
        bytes.split_last_chunk::<4>().ok_or_else(|| Error::corrupt("an owner's answer is too short"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return Err(Error::corrupt("the checksum of an owner's answer is wrong"));
    }
    let mut cursor = Cursor::new(body);
    if cursor.u8()? != FORMAT {
        return Err(Error::corrupt("an owner's answer has an unknown format"));
    }
    if Digest(cursor.array()?) != about {
        return Err(Error::corrupt("an owner's answer is about something else"));
    }
    let position = Offset(cursor.zigzag()?);
    Ok((position, cursor))
}

/// The bytes of an answer about a head.
pub(super) fn encode_head(log: &PartitionKey, id: &str, answer: &HeadAnswer) -> Vec<u8> {
    let mut out = start(about_head(log, id), answer.position);
    match &answer.residence {
        Residence::Unsure => out.push(UNSURE),
        Residence::Absent(None) => out.push(ABSENT),
        Residence::Absent(Some(pending)) => {
            out.push(PENDING);
            put_varint(&mut out, pending.upto.0);
            put_varint(&mut out, pending.epochs.len() as u64);
            for (epoch, last) in &pending.epochs {
                put_zigzag(&mut out, i64::from(*epoch));
                put_zigzag(&mut out, last.0);
            }
        }
        Residence::Here(aggregate) => {
            out.push(HERE);
            put_full(&mut out, &aggregate.to_body());
        }
    }
    finish(out)
}

/// The answer to a question about a head.
///
/// # Errors
/// `Corrupt`: what came is not an answer to it.
pub(super) fn decode_head(log: &PartitionKey, id: &str, bytes: &[u8]) -> Result<HeadAnswer> {
    let (position, mut cursor) = open(bytes, about_head(log, id))?;
    let residence = match cursor.u8()? {
        UNSURE => Residence::Unsure,
        ABSENT => Residence::Absent(None),
        PENDING => Residence::Absent(Some(pending(&mut cursor)?)),
        HERE => Residence::Here(Box::new(Aggregate::from_body(decode_full(cursor.rest())?))),
        other => return Err(Error::corrupt(format!("an owner's answer has the unknown kind {other}"))),
    };
    cursor.finish()?;
    Ok(HeadAnswer { residence, position })
}

fn pending(cursor: &mut Cursor<'_>) -> Result<Pending> {
    let mut pending = Pending { upto: Version(cursor.varint()?), epochs: Epochs::new() };
    for _ in 0..cursor.count(2)? {
        let epoch = i32::try_from(cursor.zigzag()?);
        let epoch = epoch.map_err(|_| Error::corrupt("an owner's answer has an impossible leader epoch"))?;
        pending.epochs.insert(epoch, Offset(cursor.zigzag()?));
    }
    Ok(pending)
}

/// The bytes of an answer about what is in memory.
pub(super) fn encode_list(log: &PartitionKey, listing: &Listing, answer: &ListAnswer) -> Vec<u8> {
    let mut out = start(about_list(log, listing), answer.position);
    put_varint(&mut out, answer.residents.len() as u64);
    for resident in &answer.residents {
        put_bytes(&mut out, resident.id.as_bytes());
        put_varint(&mut out, resident.version.0);
        put_zigzag(&mut out, resident.effective_time.0);
        out.push(u8::from(resident.deleted));
    }
    finish(out)
}

/// The answer to a question about what is in memory.
///
/// # Errors
/// `Corrupt`: what came is not an answer to it.
pub(super) fn decode_list(log: &PartitionKey, listing: &Listing, bytes: &[u8]) -> Result<ListAnswer> {
    let (position, mut cursor) = open(bytes, about_list(log, listing))?;
    // The shortest resident: an empty id, a version, a time and whether it is deleted.
    let count = cursor.count(4)?;
    let residents = (0..count).map(|_| {
        Ok(Resident {
            id: cursor.text()?.into(),
            version: Version(cursor.varint()?),
            effective_time: Timestamp(cursor.zigzag()?),
            deleted: cursor.u8()? != 0,
        })
    });
    let residents = residents.collect::<Result<Vec<_>>>()?;
    cursor.finish()?;
    Ok(ListAnswer { residents, position })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Lineage, PartitionNo};
    use crate::domain::record::FullBody;

    fn log(partition: i32) -> PartitionKey {
        PartitionKey { topic: "t".into(), partition: PartitionNo(partition), lineage: Lineage(3) }
    }

    fn head() -> HeadAnswer {
        let body = FullBody {
            version: Version(7),
            offset: Offset(41),
            leader_epoch: 2,
            effective_time: Timestamp(9),
            first_time: Timestamp(-5),
            last_event_type: "Paid".into(),
            last_event_id: Some("e7".into()),
            recent_event_ids: vec![1, u64::MAX],
            state: Some((*br#"{"a":1.10}"#).into()),
            ..FullBody::default()
        };
        HeadAnswer { residence: Residence::Here(Box::new(Aggregate::from_body(body))), position: Offset(50) }
    }

    #[test]
    fn a_head_comes_back_as_it_was() {
        let bytes = encode_head(&log(4), "o/1", &head());
        let answer = decode_head(&log(4), "o/1", &bytes).unwrap();
        assert_eq!(answer.position, Offset(50));
        let (Residence::Here(is), Residence::Here(was)) = (&answer.residence, &head().residence) else {
            panic!("not here: {answer:?}");
        };
        assert_eq!(is.to_body(), was.to_body());
        let pending = Pending { upto: Version(9), epochs: [(-1, Offset(3)), (2, Offset(40))].into() };
        for residence in [Residence::Unsure, Residence::Absent(None), Residence::Absent(Some(pending))] {
            let was = format!("{residence:?}");
            let bytes = encode_head(&log(4), "o/1", &HeadAnswer { residence, position: Offset(-1) });
            let answer = decode_head(&log(4), "o/1", &bytes).unwrap();
            assert_eq!((format!("{:?}", answer.residence), answer.position), (was, Offset(-1)));
        }
    }

    #[test]
    fn a_list_comes_back_as_it_was() {
        let listing = Listing { prefix: "o/".into(), after: Some("o/1".into()), limit: 9 };
        let resident = |id: &str, deleted| Resident {
            id: id.into(),
            version: Version(3),
            effective_time: Timestamp(-1),
            deleted,
        };
        let residents = vec![resident("o/2", false), resident("o/ü", true)];
        let bytes =
            encode_list(&log(4), &listing, &ListAnswer { residents: residents.clone(), position: Offset(5) });
        let answer = decode_list(&log(4), &listing, &bytes).unwrap();
        assert_eq!((answer.residents, answer.position), (residents, Offset(5)));
        let other = Listing { after: None, ..listing };
        assert!(decode_list(&log(4), &other, &bytes).is_err());
    }

    #[test]
    fn an_answer_to_another_question_or_with_a_flipped_bit_is_none() {
        let bytes = encode_head(&log(4), "o/1", &head());
        assert!(decode_head(&log(5), "o/1", &bytes).is_err());
        assert!(decode_head(&log(4), "o/2", &bytes).is_err());
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(decode_head(&log(4), "o/1", &damaged).is_err(), "bit {at}");
        }
        for len in 0..bytes.len() {
            assert!(decode_head(&log(4), "o/1", &bytes[..len]).is_err(), "cut at {len}");
        }
    }
}
