//! Packs that a pass found unnamed, with the time of the first pass that did: one object for each pass, of
//! which the newest counts, so that the next collector, wherever it runs, goes on where this one ended.

use crate::clock::Clock;
use crate::domain::error::Result;
use crate::domain::ids::{LedgerId, Timestamp};
use crate::domain::outcome::PortError;
use crate::store::blobs::Blobs;
use crate::store::unavailable;
use std::collections::BTreeMap;
use std::fmt::Write;

const PREFIX: &str = "v1/gc/condemned/";
/// Bytes of the longest list that is believed.
const BYTES_MAX: u64 = 256 << 20;

/// Names of condemned packs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Condemned(BTreeMap<String, Timestamp>);

impl Condemned {
    /// When a pack was condemned, by the store's clock.
    pub(super) fn at(&self, name: &str) -> Option<Timestamp> {
        self.0.get(name).copied()
    }

    pub(super) fn add(&mut self, name: String, at: Timestamp) {
        self.0.insert(name, at);
    }

    /// What the last pass wrote. A list that cannot be read is none: then nothing is condemned yet.
    pub(super) async fn read(blobs: &dyn Blobs) -> Result<Self> {
        let Some(newest) = names(blobs).await?.pop() else { return Ok(Self::default()) };
        match blobs.get_range(&newest, 0, BYTES_MAX).await {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes)).unwrap_or_default()),
            Err(PortError::Missing) => Ok(Self::default()),
            Err(error) => Err(unavailable("read the list of condemned packs", &error)),
        }
    }

    /// One line for each pack, and one at the end that says how many there are.
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, at) in &self.0 {
            let _ = writeln!(text, "{} {name}", at.0);
        }
        let _ = writeln!(text, "all {}", self.0.len());
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines: Vec<&str> = text.lines().collect();
        let count: usize = lines.pop()?.strip_prefix("all ")?.parse().ok()?;
        let line = |line: &str| {
            let (at, name) = line.split_once(' ')?;
            Some((name.to_owned(), Timestamp(at.parse().ok()?)))
        };
        let all: BTreeMap<String, Timestamp> = lines.into_iter().map(line).collect::<Option<_>>()?;
        (all.len() == count).then_some(Self(all))
    }

    /// Becomes the newest list; older ones go.
    pub(super) async fn write(&self, blobs: &dyn Blobs, clock: &dyn Clock) -> Result<()> {
        let failed = |error: PortError| unavailable("write the list of condemned packs", &error);
        let older = names(blobs).await?;
        let name = format!("{PREFIX}{}", LedgerId::mint(clock.now(), clock.random()));
        // A clock that went back must not let an older list count.
        let name = match older.last().filter(|last| **last >= name) {
            Some(last) => format!("{last}+"),
            None => name,
        };
        blobs.put_new(&name, self.text().as_bytes()).await.map_err(failed)?;
        for older in older {
            // One that stays is deleted after the next pass.
            let _ = blobs.delete(&older).await;
        }
        Ok(())
    }
}

async fn names(blobs: &dyn Blobs) -> Result<Vec<String>> {
    let names = blobs.list(PREFIX, None, 1_000).await;
    names.map_err(|error| unavailable("find the list of condemned packs", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_and_one_that_is_cut_is_none() {
        let mut list = Condemned::default();
        list.add("v1/full/a b.sfp".into(), Timestamp(12));
        list.add("v1/history/c.sfp".into(), Timestamp(13));
        let text = list.text();
        assert_eq!(Condemned::parse(&text), Some(list));
        for cut in 0..text.len() - 1 {
            assert_eq!(Condemned::parse(&text[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Condemned::parse("all 0\n"), Some(Condemned::default()));
    }
}
