//! Packs that a pass found unnamed, with the time of the first pass that did, and those that it found
//! orphaned: one object for each pass, of which the newest counts, so that the next collector, wherever it
//! runs, goes on where this one ended.

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

/// What a line of an orphan starts with; that of a condemned pack starts with a time.
const ORPHAN: &str = "orphan ";

/// Names of condemned packs, and of orphans.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Condemned {
    packs: BTreeMap<String, Timestamp>,
    orphans: BTreeMap<String, Timestamp>,
}

impl Condemned {
    /// When a pack was condemned, by the store's clock.
    pub(super) fn at(&self, name: &str) -> Option<Timestamp> {
        self.packs.get(name).copied()
    }

    /// When it was first found orphaned, and in every pass since then, by the store's clock.
    pub(super) fn orphaned_at(&self, name: &str) -> Option<Timestamp> {
        self.orphans.get(name).copied()
    }

    pub(super) fn add(&mut self, name: String, at: Timestamp) {
        self.packs.insert(name, at);
    }

    pub(super) fn add_orphan(&mut self, name: String, since: Timestamp) {
        self.orphans.insert(name, since);
    }

    /// Nothing is known of a pack any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.packs.remove(name);
        self.orphans.remove(name);
    }

    /// How many condemned packs are so, by name and time.
    pub(super) fn count(&self, is_so: impl Fn(&str, Timestamp) -> bool) -> u64 {
        self.packs.iter().filter(|(name, at)| is_so(name, **at)).count() as u64
    }

    /// These, and of another list what these do not name.
    pub(super) fn over(mut self, before: Self) -> Self {
        before.packs.into_iter().for_each(|(name, at)| {
            self.packs.entry(name).or_insert(at);
        });
        before.orphans.into_iter().for_each(|(name, since)| {
            self.orphans.entry(name).or_insert(since);
        });
        self
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
        for (name, at) in &self.packs {
            let _ = writeln!(text, "{} {name}", at.0);
        }
        for (name, since) in &self.orphans {
            let _ = writeln!(text, "{ORPHAN}{} {name}", since.0);
        }
        let _ = writeln!(text, "all {}", self.packs.len() + self.orphans.len());
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines: Vec<&str> = text.lines().collect();
        let count: usize = lines.pop()?.strip_prefix("all ")?.parse().ok()?;
        let mut all = Self::default();
        for line in lines {
            let (of, line) = match line.strip_prefix(ORPHAN) {
                Some(line) => (&mut all.orphans, line),
                None => (&mut all.packs, line),
            };
            let (at, name) = line.split_once(' ')?;
            of.insert(name.to_owned(), Timestamp(at.parse().ok()?));
        }
        (all.packs.len() + all.orphans.len() == count).then_some(all)
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

/// When the last pass ended, by the store's clock; none if it is not known of any.
pub(super) async fn written_at(blobs: &dyn Blobs) -> Result<Option<Timestamp>> {
    let Some(newest) = names(blobs).await?.pop() else { return Ok(None) };
    match blobs.modified(&newest).await {
        Ok(at) => Ok(Some(at)),
        Err(PortError::Missing) => Ok(None),
        Err(error) => Err(unavailable("ask when garbage was last collected", &error)),
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
        list.add_orphan("v1/history/c.sfp".into(), Timestamp(5));
        list.add_orphan("v1/history/d.sfp".into(), Timestamp(6));
        let text = list.text();
        assert_eq!(Condemned::parse(&text), Some(list));
        for cut in 0..text.len() - 1 {
            assert_eq!(Condemned::parse(&text[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Condemned::parse("all 0\n"), Some(Condemned::default()));
    }

    #[test]
    fn what_was_not_reached_stays_as_it_was() {
        let mut before = Condemned::default();
        before.add("v1/full/reached.sfp".into(), Timestamp(1));
        before.add("v1/full/unreached.sfp".into(), Timestamp(1));
        before.add_orphan("v1/full/unreached.sfp".into(), Timestamp(1));
        before.forget("v1/full/reached.sfp");
        let mut after = Condemned::default();
        after.add("v1/full/new.sfp".into(), Timestamp(9));
        let all = after.over(before);
        let at = |name: &str| all.at(&format!("v1/full/{name}.sfp")).map(|at| at.0);
        assert_eq!((at("reached"), at("unreached"), at("new")), (None, Some(1), Some(9)));
        assert_eq!(all.orphaned_at("v1/full/unreached.sfp"), Some(Timestamp(1)));
    }
}
