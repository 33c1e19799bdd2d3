//! Reads queries strictly: a parameter that is unknown, repeated, contradicted or no valid value is an error
//! that names it and says how to write it. A question that is misread gets a wrong answer nobody notices.
//!
//! INVARIANT: nothing here panics, whatever the bytes of the request.

use super::cursor::{Cursor, Order};
use super::problem::Problem;
use crate::domain::ids::{Lineage, Offset, PartitionNo, Timestamp, Version};
use crate::domain::moment;
use crate::domain::value::Pointer;
use crate::lookup::{Basis, Freshness, Selector};
use axum::http::Uri;

/// Items of a page, where `limit` does not say.
const LIMIT: usize = 50;
/// Items of the largest page.
const LIMIT_MAX: usize = 1_000;
/// Longest time to wait for freshness.
const WAIT_MS_MAX: u64 = 30_000;
/// No aggregate has more versions; the margin keeps every sum with a version in range.
const VERSION_MAX: u64 = i64::MAX as u64;
/// Characters of a value that a problem repeats.
const SHOWN_MAX: usize = 80;

/// The parameters that select a moment; at most one may be given.
pub(super) const SELECTORS: [&str; 3] = ["version", "at", "offset"];

/// The parameters of a request, each at most once.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// The parameters of `uri`, which must all be among `known`.
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Ok(axum::extract::Query(pairs)) =
            axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        else {
            return Err(Problem::selector("the query cannot be read", "write `name=value`, joined by `&`"));
        };
        for (at, (name, value)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let detail = format!("the parameter `{}` is unknown here", shown(name));
                return Err(Problem::selector(detail, offered(known)));
            }
            if pairs[..at].iter().any(|(before, _)| before == name) {
                let detail = format!("the parameter `{name}` is given more than once");
                return Err(Problem::selector(detail, format!("keep one `{name}`")));
            }
            if value.contains(char::REPLACEMENT_CHARACTER) {
                let detail = format!("the value of `{name}` is not UTF-8");
                return Err(Problem::selector(detail, "percent-encode the UTF-8 bytes of the value"));
            }
        }
        Ok(Self(pairs))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn read<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>, how: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| unreadable(name, text, how))
    }

    /// The moment asked for; the head where none is.
    pub(super) fn selector(&self) -> Result<Selector, Problem> {
        let given: Vec<&str> = SELECTORS.into_iter().filter(|name| self.get(name).is_some()).collect();
        if let [first, second, ..] = given[..] {
            let detail = format!("`{first}` and `{second}` both select a moment");
            return Err(Problem::selector(detail, "keep one of `version`, `at` and `offset`"));
        }
        if let Some(version) = self.version("version")? {
            return Ok(Selector::Version(version));
        }
        if let Some(time) = self.time("at")? {
            return Ok(Selector::Time(time));
        }
        let place = self.place("offset")?;
        Ok(place.map_or(Selector::Head, |(partition, offset)| Selector::Offset(partition, offset)))
    }

    /// What the answer must know of.
    pub(super) fn freshness(&self) -> Result<Freshness, Problem> {
        let how = "write a whole number and `ms` or `s`, at most `30s`, as in `wait=2s`";
        let wait = self.read("wait", duration_ms, how)?;
        if wait.is_some_and(|ms| ms > WAIT_MS_MAX) {
            return Err(Problem::selector("`wait` is longer than 30 s", how));
        }
        Ok(Freshness {
            min_version: self.version("minVersion")?,
            min_offset: self.place("minOffset")?,
            wait_ms: wait.unwrap_or(0),
        })
    }

    pub(super) fn version(&self, name: &str) -> Result<Option<Version>, Problem> {
        self.read(name, version, "versions are whole numbers from 1 on")
    }

    /// The range of versions asked for: all of them where nothing is said.
    pub(super) fn versions(&self) -> Result<(Version, Option<Version>), Problem> {
        let from = self.version("fromVersion")?.unwrap_or(Version(1));
        let to = self.version("toVersion")?;
        if to.is_some_and(|to| from > to) {
            return Err(Problem::selector("`fromVersion` is after `toVersion`", "exchange them"));
        }
        Ok((from, to))
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.read(name, time, TIME)
    }

    fn place(&self, name: &str) -> Result<Option<(PartitionNo, Offset)>, Problem> {
        self.read(name, place, "write PARTITION:OFFSET, as in `4:18231`")
    }

    /// How much of the log counts; all of it where the parameter is missing.
    pub(super) fn basis(&self) -> Result<Option<Basis>, Problem> {
        self.read("basis", |text| text.parse().ok(), "write the `basis` of an answer as it was given")
    }

    /// The lineage asked for: that of `lineage`, or the one that a basis is of.
    pub(super) fn lineage(&self) -> Result<Option<Lineage>, Problem> {
        let number = |text: &str| digits(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let named = self.read("lineage", number, "write its number, as `GET /v1/lineages` lists it")?;
        let (named, of_basis) = (named.map(Lineage), self.basis()?.map(|basis| basis.lineage));
        match (named, of_basis) {
            (Some(named), Some(of_basis)) if named != of_basis => {
                let detail = format!("`lineage` is {named}, and `basis` is of lineage {of_basis}");
                Err(Problem::selector(detail, "leave `lineage` out: the basis says it"))
            }
            (named, of_basis) => Ok(named.or(of_basis)),
        }
    }

    /// The place in a document that `path` names.
    pub(super) fn pointer(&self) -> Result<Option<Pointer>, Problem> {
        let how = "write a JSON pointer: empty, or `/` before each name, as in `/items/0/price`";
        self.read("path", |text| text.parse().ok(), how)
    }

    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let limit = |text: &str| digits(text).filter(|limit| (1..=LIMIT_MAX as u64).contains(limit));
        let limit = self.read("limit", limit, "write a whole number from 1 to 1000")?;
        Ok(limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(LIMIT_MAX)))
    }

    pub(super) fn order(&self) -> Result<Order, Problem> {
        let order = self.read("order", order, "write `asc` or `desc`")?;
        Ok(order.unwrap_or_default())
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        let flag = |text: &str| match text {
            "true" | "" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        Ok(self.read(name, flag, "write `true` or `false`")?.unwrap_or(false))
    }

    pub(super) fn cursor(&self) -> Result<Option<Cursor>, Problem> {
        self.get("cursor").map(|word| Cursor::decode(word).ok_or_else(Cursor::foreign)).transpose()
    }

    /// One of several words, the first where none is given.
    pub(super) fn choice(&self, name: &str, words: &[&'static str]) -> Result<&'static str, Problem> {
        let word = |text: &str| words.iter().copied().find(|word| *word == text);
        let chosen = self.read(name, word, &format!("it may be {}", named(words)))?;
        Ok(chosen.or(words.first().copied()).unwrap_or_default())
    }
}

pub(super) const TIME: &str = "write RFC 3339 with a zone (`2026-11-24T10:00:00Z`, `…+02:00` with `+` as `%2B`), a date, or epoch \
    milliseconds";

/// One side of a difference: a version, so many versions before the head, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A moment.
    At(Selector),
    /// So many versions before the head.
    BeforeHead(u64),
}

/// The side that parameter `name` gives: `35`, `-1`, `@TIME`.
pub(super) fn side(name: &str, text: &str) -> Result<Side, Problem> {
    if let Some(text) = text.strip_prefix('@') {
        return time(text)
            .map(|time| Side::At(Selector::Time(time)))
            .ok_or_else(|| unreadable(name, text, TIME));
    }
    let read = match text.strip_prefix('-') {
        Some(back) => version(back).map(|back| Side::BeforeHead(back.0)),
        None => version(text).map(|version| Side::At(Selector::Version(version))),
    };
    read.ok_or_else(|| {
        unreadable(name, text, "write a version (`35`), versions before the head (`-1`) or `@TIME`")
    })
}

/// A problem with the value of a parameter.
pub(super) fn unreadable(name: &str, text: &str, how: &str) -> Problem {
    Problem::selector(format!("`{name}` cannot be `{}`", shown(text)), how)
}

/// A value as problems repeat it.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn offered(known: &[&str]) -> String {
    if known.is_empty() { "it takes no parameters".into() } else { format!("it takes {}", named(known)) }
}

/// `a`, `b`.
pub(super) fn named(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn digits(text: &str) -> Option<u64> {
    // `parse` takes a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A version from 1 on.
pub(super) fn version(text: &str) -> Option<Version> {
    digits(text).filter(|version| (1..=VERSION_MAX).contains(version)).map(Version)
}

fn place(text: &str) -> Option<(PartitionNo, Offset)> {
    let (partition, offset) = text.split_once(':')?;
    let partition = i32::try_from(digits(partition)?).ok()?;
    Some((PartitionNo(partition), Offset(i64::try_from(digits(offset)?).ok()?)))
}

fn order(text: &str) -> Option<Order> {
    match text {
        "asc" => Some(Order::Ascending),
        "desc" => Some(Order::Descending),
        _ => None,
    }
}

fn duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits(number).filter(|_| !number.is_empty())?.checked_mul(factor)
}

/// RFC 3339 with a zone, a date, or epoch milliseconds.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|ms| *ms != i64::MIN).map(Timestamp);
    }
    // The shortest time with a zone has 20 characters, `+02:00` starts 6 before the end; a
    // query turns `+` into a blank.
    let zone = text.len().checked_sub(6).filter(|at| *at >= "2026-11-24T10:00:00".len());
    let mut text = text.to_owned();
    if let Some(at) = zone.filter(|at| text.as_bytes()[*at] == b' ') {
        text.replace_range(at..=at, "+");
    }
    let has_offset = zone.is_some_and(|at| matches!(text.as_bytes()[at], b'+' | b'-'));
    let is_date = text.len() == "2026-11-24".len();
    moment::parse(&text).filter(|_| is_date || has_offset || text.ends_with(['Z', 'z']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATE: &[&str] =
        &["version", "at", "offset", "minVersion", "minOffset", "wait", "limit", "order", "x"];

    fn query(text: &str) -> Result<Query, Problem> {
        Query::parse(&format!("/x?{text}").parse().expect("a URI"), STATE)
    }

    fn selector(text: &str) -> Result<Selector, String> {
        let read = query(text).and_then(|query| query.selector());
        read.map_err(|problem| String::from_utf8(problem.body("/x")).unwrap())
    }

    #[test]
    fn every_selector_is_read_as_it_is_meant() {
        let noon = Timestamp(1_795_514_400_000);
        assert_eq!(moment::format(noon), "2026-11-24T10:00:00.000Z");
        for (text, wanted) in [
            ("", Selector::Head),
            ("version=37", Selector::Version(Version(37))),
            ("at=2026-11-24T10:00:00Z", Selector::Time(noon)),
            ("at=2026-11-24T10:00:00.000z", Selector::Time(noon)),
            ("at=2026-11-24T12:00:00%2B02:00", Selector::Time(noon)),
            ("at=2026-11-24T12:00:00+02:00", Selector::Time(noon)),
            ("at=2026-11-24T12:00:00%2002:00", Selector::Time(noon)),
            ("at=2026-11-24T08:00:00-02:00", Selector::Time(noon)),
            ("at=2026-11-24+10:00:00Z", Selector::Time(noon)),
            ("at=1795514400000", Selector::Time(noon)),
            ("at=2026-11-24", Selector::Time(Timestamp(noon.0 - 36_000_000))),
            ("at=-5", Selector::Time(Timestamp(-5))),
            ("offset=4:18231", Selector::Offset(PartitionNo(4), Offset(18_231))),
        ] {
            assert_eq!(selector(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for (text, named) in [
            ("version=0", "version"),
            ("version=-1", "version"),
            ("version=%2B1", "version"),
            ("version=1.0", "version"),
            ("version=", "version"),
            ("version=9223372036854775808", "version"),
            ("version=1&at=2026-11-24", "both select"),
            ("version=1&version=2", "more than once"),
            ("colour=red", "colour"),
            ("at=2026-11-24T10:00:00", "at"),
            ("at=2026-11-24T10:00", "at"),
            ("at=yesterday", "at"),
            ("at=99999999999999999999", "at"),
            ("at=2026-02-30", "at"),
            ("at=%FF", "not UTF-8"),
            ("at=", "at"),
            ("offset=4", "offset"),
            ("offset=4:", "offset"),
            ("offset=-4:1", "offset"),
            ("offset=4:-1", "offset"),
            ("offset=4294967296:1", "offset"),
        ] {
            let problem = selector(text).expect_err(text);
            assert!(
                problem.contains("\"code\":\"bad-selector\"") && problem.contains(named),
                "{text}: {problem}"
            );
        }
    }

    #[test]
    fn limits_and_waits_have_bounds() {
        let limit = |text: &str| query(text).and_then(|query| query.limit());
        assert_eq!((limit("").ok(), limit("limit=1000").ok()), (Some(50), Some(1_000)));
        for text in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=99999999999999999999"] {
            assert!(limit(text).is_err(), "{text}");
        }
        let fresh = |text: &str| query(text).and_then(|query| query.freshness());
        let wait = |text: &str| fresh(text).ok().map(|fresh| fresh.wait_ms);
        assert_eq!((wait(""), wait("wait=2s"), wait("wait=250ms")), (Some(0), Some(2_000), Some(250)));
        for text in ["wait=31s", "wait=2", "wait=s", "wait=1h", "wait=-1s", "wait=18446744073709551615d"] {
            assert!(fresh(text).is_err(), "{text}");
        }
        let both = fresh("minVersion=3&minOffset=1:7").unwrap();
        assert_eq!(both.min_version, Some(Version(3)));
        assert_eq!(both.min_offset, Some((PartitionNo(1), Offset(7))));
    }

    #[test]
    fn sides_of_a_difference_are_versions_steps_back_and_times() {
        assert_eq!(side("from", "35").ok(), Some(Side::At(Selector::Version(Version(35)))));
        assert_eq!(side("from", "-1").ok(), Some(Side::BeforeHead(1)));
        assert_eq!(side("from", "@1970-01-01").ok(), Some(Side::At(Selector::Time(Timestamp(0)))));
        for wrong in ["", "0", "-0", "-", "@", "@x", "--1", "1970-01-01"] {
            assert!(side("from", wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(text in "\\PC{0,40}", name in 0..STATE.len()) {
            let query = Query(vec![(STATE[name].to_owned(), text.clone())]);
            let _ = (query.selector().is_ok(), query.freshness().is_ok(), query.limit().is_ok());
            let _ = (side("from", &text).is_ok(), Cursor::decode(&text));
        }

        #[test]
        fn no_query_makes_it_panic(text in "[!-~]{0,60}") {
            if let Ok(uri) = format!("/x?{text}").parse() {
                let _ = Query::parse(&uri, STATE).and_then(|query| query.selector());
            }
        }
    }
}
