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
/// What the line of a condemned pack starts with all of whose records go by a fact. An older version of
/// snapfold takes a list with such a line for damaged, and condemns anew.
const FACT: &str = "fact ";

/// Why a pack is condemned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Facts say that all of its records are to go.
    Facts,
    /// No row names any of its records, and of some nothing says that this was meant.
    NoRows,
}

/// Names of condemned packs, and of orphans.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Condemned {
    packs: BTreeMap<String, (Timestamp, Why)>,
    orphans: BTreeMap<String, Timestamp>,
}

impl Condemned {
    /// When a pack was condemned, by the store's clock.
    pub(super) fn at(&self, name: &str) -> Option<Timestamp> {
        self.packs.get(name).map(|(at, _)| *at)
    }

    /// When it was first found orphaned, and in every pass since then, by the store's clock.
    pub(super) fn orphaned_at(&self, name: &str) -> Option<Timestamp> {
        self.orphans.get(name).copied()
    }

    pub(super) fn add(&mut self, name: String, at: Timestamp, why: Why) {
        self.packs.insert(name, (at, why));
    }

    pub(super) fn add_orphan(&mut self, name: String, since: Timestamp) {
        self.orphans.insert(name, since);
    }

    /// Nothing is known of a pack any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.packs.remove(name);
        self.orphans.remove(name);
    }

    /// How many packs are so, by name and time, of those that are not condemned by facts.
    pub(super) fn count(&self, is_so: impl Fn(&str, Timestamp) -> bool) -> u64 {
        let counts =
            |(name, (at, why)): &(&String, &(Timestamp, Why))| *why == Why::NoRows && is_so(name, *at);
        self.packs.iter().filter(counts).count() as u64
    }

    /// These, and of another list what these do not name.
    pub(super) fn over(mut self, before: Self) -> Self {
        before.packs.into_iter().for_each(|(name, condemned)| {
            self.packs.entry(name).or_insert(condemned);
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
        for (name, (at, why)) in &self.packs {
            let mark = if *why == Why::Facts { FACT } else { "" };
            let _ = writeln!(text, "{mark}{} {name}", at.0);
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
            let (orphan, fact) = (line.strip_prefix(ORPHAN), line.strip_prefix(FACT));
            let (at, name) = orphan.or(fact).unwrap_or(line).split_once(' ')?;
            let (at, name) = (Timestamp(at.parse().ok()?), name.to_owned());
            match (orphan, fact) {
                (Some(_), _) => all.add_orphan(name, at),
                (None, Some(_)) => all.add(name, at, Why::Facts),
                (None, None) => all.add(name, at, Why::NoRows),
            }
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
        list.add("v1/full/a b.sfp".into(), Timestamp(12), Why::NoRows);
        list.add("v1/history/c.sfp".into(), Timestamp(13), Why::Facts);
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
    fn a_list_of_an_older_version_is_read_and_facts_alone_do_not_count() {
        let older = "12 v1/full/a.sfp\norphan 5 v1/history/d.sfp\nall 2\n";
        let mut list = Condemned::parse(older).unwrap();
        assert_eq!((list.text().as_str(), list.count(|_, _| true)), (older, 1));
        list.add("v1/full/b.sfp".into(), Timestamp(13), Why::Facts);
        assert!(list.text().contains("\nfact 13 v1/full/b.sfp\n"), "{}", list.text());
        assert_eq!(list.count(|_, _| true), 1);
        assert_eq!(list.at("v1/full/b.sfp"), Some(Timestamp(13)));
    }

    #[test]
    fn what_was_not_reached_stays_as_it_was() {
        let mut before = Condemned::default();
        before.add("v1/full/reached.sfp".into(), Timestamp(1), Why::NoRows);
        before.add("v1/full/unreached.sfp".into(), Timestamp(1), Why::NoRows);
        before.add_orphan("v1/full/unreached.sfp".into(), Timestamp(1));
        before.forget("v1/full/reached.sfp");
        let mut after = Condemned::default();
        after.add("v1/full/new.sfp".into(), Timestamp(9), Why::NoRows);
        let all = after.over(before);
        let at = |name: &str| all.at(&format!("v1/full/{name}.sfp")).map(|at| at.0);
        assert_eq!((at("reached"), at("unreached"), at("new")), (None, Some(1), Some(9)));
        assert_eq!(all.orphaned_at("v1/full/unreached.sfp"), Some(Timestamp(1)));
    }
}
