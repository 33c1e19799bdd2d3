//! Where the parts of an event are found (API.md section 2, `map`) and how times are written.

use super::{Record, json, unsupported};
use serde_json::Value;

/// One list of places for each part; the first place that answers counts. An empty list: left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Map {
    pub(crate) aggregate_id: Vec<String>,
    pub(crate) event_type: Vec<String>,
    pub(crate) version: Vec<String>,
    pub(crate) event_id: Vec<String>,
    pub(crate) time: Vec<String>,
    pub(crate) data: Vec<String>,
}

impl Map {
    /// The headers that the map names, sorted; they belong to the event digest.
    pub(crate) fn headers(&self) -> Vec<String> {
        let lists =
            [&self.aggregate_id, &self.event_type, &self.version, &self.event_id, &self.time, &self.data];
        let places = lists.into_iter().flatten();
        let mut names: Vec<String> =
            places.filter_map(|p| p.strip_prefix("header:").map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// What the places of one part yield.
pub(crate) enum Found<'a> {
    Nothing,
    /// The place that answered and its value.
    Value(&'a str, Value),
    /// The place that answers holds bytes that are no text.
    Unreadable,
}

impl Record {
    /// The last header of that name (Kafka's `lastHeader`), if it is there and not null.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }

    pub(crate) fn find<'a>(&self, places: &'a [String], payload: Option<&Value>) -> Found<'a> {
        for place in places {
            let bytes = if place == "key" {
                self.key.as_deref()
            } else if let Some(name) = place.strip_prefix("header:") {
                self.header(name)
            } else if let Some(text) = place.strip_prefix("const:") {
                Some(text.as_bytes())
            } else {
                let value = if let Some(pointer) = place.strip_prefix("key:") {
                    let key = self.key.as_deref().and_then(|key| json::read(key, 128));
                    key.and_then(|key| key.pointer(pointer).cloned())
                } else if place.starts_with('/') {
                    payload.and_then(|payload| payload.pointer(place).cloned())
                } else {
                    unsupported(&format!("the place `{place}`"))
                };
                match value {
                    None | Some(Value::Null) => continue,
                    Some(value) => return Found::Value(place, value),
                }
            };
            match bytes.map(|bytes| String::from_utf8(bytes.to_vec())) {
                None => {}
                Some(Ok(text)) => return Found::Value(place, Value::String(text)),
                Some(Err(_)) => return Found::Unreadable,
            }
        }
        Found::Nothing
    }
}

/// Text of a text or of an integer; nothing else names an id or a type.
pub(crate) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) if n.as_str().bytes().all(|b| b == b'-' || b.is_ascii_digit()) => {
            Some(n.to_string())
        }
        _ => None,
    }
}

/// An integer, written as a number or as text.
pub(crate) fn as_integer(value: &Value) -> Option<i64> {
    let text = as_text(value)?;
    let digits = text.strip_prefix('-').unwrap_or(&text);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Milliseconds since 1970 of RFC 3339 (cut to ms; no zone = UTC), a date or an integer of epoch
/// milliseconds.
pub(crate) fn as_time(value: &Value) -> Option<i64> {
    if let Some(ms) = as_integer(value) {
        return Some(ms);
    }
    let text = value.as_str()?;
    let (date, clock) = (text.get(..10)?, &text.get(10..)?);
    let day = day_of(date)?;
    if clock.is_empty() {
        return Some(day * 86_400_000);
    }
    let clock = clock.strip_prefix(['T', 't', ' '])?;
    let (zone_at, minutes_east) = zone_of(clock)?;
    let (whole, fraction) = match clock[..zone_at].split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (&clock[..zone_at], None),
    };
    let [hours, minutes, seconds] = fields(whole, ":", [2, 2, 2])?;
    (hours < 24 && minutes < 60 && seconds < 60).then_some(())?;
    let ms: i64 = match fraction {
        None => 0,
        Some(digits) => {
            (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
            format!("{digits}00").get(..3)?.parse().ok()?
        }
    };
    Some(((day * 24 + hours) * 60 + minutes - minutes_east) * 60_000 + seconds * 1000 + ms)
}

/// Where the zone starts and how many minutes it lies east of UTC.
fn zone_of(clock: &str) -> Option<(usize, i64)> {
    let Some(at) = clock.find(['Z', 'z', '+', '-']) else { return Some((clock.len(), 0)) };
    let zone = &clock[at..];
    if zone.eq_ignore_ascii_case("z") {
        return Some((at, 0));
    }
    let [hours, minutes] = fields(&zone[1..], ":", [2, 2])?;
    (hours < 24 && minutes < 60).then_some(())?;
    let east = hours * 60 + minutes;
    Some((at, if zone.starts_with('-') { -east } else { east }))
}

/// Days since 1970-01-01 of `yyyy-mm-dd`, counted year by year and month by month.
fn day_of(date: &str) -> Option<i64> {
    let [year, month, day] = fields(date, "-", [4, 2, 2])?;
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    ((1..=12).contains(&month)).then_some(())?;
    let month = usize::try_from(month).ok()? - 1;
    (1..=lengths[month]).contains(&day).then_some(())?;
    let before = |year: i64| year * 365 + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
    Some(before(year) - before(1970) + lengths[..month].iter().sum::<i64>() + day - 1)
}

/// Fixed-width decimal fields between separators.
fn fields<const N: usize>(text: &str, separator: &str, widths: [usize; N]) -> Option<[i64; N]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let mut numbers = [0; N];
    (parts.len() == N).then_some(())?;
    for (n, part) in parts.iter().enumerate() {
        (part.len() == widths[n] && part.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
        numbers[n] = part.parse().ok()?;
    }
    Some(numbers)
}
