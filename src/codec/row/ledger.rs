//! Deletions and holds as bytes.

use super::{Body, Rest, Row};
use crate::domain::error::Result;
use crate::domain::ids::{AggregateKey, LedgerId, Lineage, PackId, Version};
use crate::domain::ledger::{DeletedRow, Deletion, HoldRow};

/// Bytes of the shortest row of a deletion: two texts, lineage, version, pack.
const DELETED_BYTES_MIN: usize = 20;

impl Row for Deletion {
    const TYPE: u8 = 16;
    const NAME: &'static str = "deletion";

    fn put(&self, out: &mut Body) {
        out.0.extend_from_slice(&self.at.0);
        out.text(&self.reason);
        out.number(self.rows.len() as u64);
        for row in &self.rows {
            out.text(&row.key.kind);
            out.text(&row.key.id);
            out.number(u64::from(row.lineage.0));
            out.number(row.version.0);
            out.0.extend_from_slice(&row.pack.0);
        }
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        let at = LedgerId(body.0.array()?);
        let reason = body.0.text()?.into();
        let mut rows = Vec::new();
        for _ in 0..body.0.count(DELETED_BYTES_MIN)? {
            rows.push(DeletedRow {
                key: AggregateKey { kind: body.text()?, id: body.text()? },
                lineage: Lineage(body.u32()?),
                version: Version(body.0.varint()?),
                pack: PackId(body.0.array()?),
            });
        }
        Ok(Self { at, reason, rows })
    }
}

const HELD: u8 = 1;
const REASON: u8 = 2;

impl Row for HoldRow {
    const TYPE: u8 = 17;
    const NAME: &'static str = "hold";

    fn put(&self, out: &mut Body) {
        let flag = |flag, set: bool| if set { flag } else { 0 };
        out.0.push(flag(HELD, self.held) | flag(REASON, self.reason.is_some()));
        out.0.extend_from_slice(&self.at.0);
        out.text(&self.key.kind);
        out.text(&self.key.id);
        if let Some(reason) = &self.reason {
            out.text(reason);
        }
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        let flags = body.flags(HELD | REASON)?;
        let at = LedgerId(body.0.array()?);
        let key = AggregateKey { kind: body.text()?, id: body.text()? };
        let reason = match flags & REASON {
            0 => None,
            _ => Some(body.0.text()?.into()),
        };
        Ok(Self { key, at, held: flags & HELD != 0, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Timestamp;

    fn key(id: &str) -> AggregateKey {
        AggregateKey { kind: "order".into(), id: id.into() }
    }

    fn deletion() -> Deletion {
        let row = |id: &str, version: u64, n: u8| DeletedRow {
            key: key(id),
            lineage: Lineage(2),
            version: Version(version),
            pack: PackId::mint(Timestamp(1_700_000_000_000), [n; 10]),
        };
        Deletion {
            at: LedgerId::mint(Timestamp(1_700_000_000_123), [9; 10]),
            reason: "asked for".into(),
            rows: vec![row("a", 7, 1), row("a", u64::MAX, 2), row("ä\0", 0, 1)],
        }
    }

    fn holds() -> [HoldRow; 2] {
        let at = LedgerId::mint(Timestamp(1_700_000_000_123), [9; 10]);
        let held = HoldRow { key: key("a"), at, held: true, reason: Some("case 12".into()) };
        [HoldRow { held: false, reason: None, ..held.clone() }, held]
    }

    #[test]
    fn they_come_back_and_every_flipped_bit_is_found() {
        fn check<R: Row + PartialEq + std::fmt::Debug>(row: &R) {
            let bytes = row.encode();
            assert_eq!(R::decode(&bytes).as_ref(), Ok(row));
            for at in 0..bytes.len() * 8 {
                let mut other = bytes.clone();
                other[at / 8] ^= 1 << (at % 8);
                assert!(R::decode(&other).is_err(), "bit {at}");
            }
            for len in 0..bytes.len() {
                assert!(R::decode(&bytes[..len]).is_err(), "cut at {len}");
            }
        }
        check(&deletion());
        holds().iter().for_each(check);
    }
}
