//! Due times: five fields of a cron expression, read in a time zone of the IANA data base.
//!
//! The rules of time zones are compiled in: all workers of one version agree, whatever their machines have.
//! Where clocks go forward, a time that does not exist is due at the first moment after the gap; where it
//! names every hour or minute, or steps through them, what lies in the gap is left out. Where clocks go back,
//! a time that comes twice is due the first time only; one that names every hour or minute is due both times.

use crate::domain::ids::Timestamp;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Direction};
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Names and bounds of the fields.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31 or L"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 or SUN-SAT"),
];
/// Bytes of the longest expression.
const CRON_BYTES_MAX: usize = 256;

/// A part of a schedule that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The cron expression.
    Schedule,
    /// The name of the time zone.
    Timezone,
}

/// Why a schedule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What of it.
    pub part: Part,
    /// The character from which on it is wrong, counted from 1.
    pub position: usize,
    /// What is wrong.
    pub detail: String,
    /// What to write instead.
    pub hint: String,
}

/// The due times of a schedule.
#[derive(Clone, Debug)]
pub struct Times {
    cron: Cron,
    zone: TimeZone,
}

impl Times {
    /// The times of an expression in a time zone.
    ///
    /// # Errors
    /// What cannot be read, and where; also an expression that is never due.
    pub fn parse(cron: &str, timezone: &str) -> Result<Self, Unreadable> {
        let zone = zone(timezone)?;
        let times = Self { cron: expression(cron)?, zone };
        // Any time will do: the calendar repeats itself within the years that are searched.
        if times.next_after(Timestamp(1_700_000_000_000)).is_none() {
            let detail = format!("`{cron}` is never due: no month has such a day");
            let position = fields(cron).get(2).map_or(1, |(position, _)| *position);
            let hint = "check day of the month and month".to_owned();
            return Err(Unreadable { part: Part::Schedule, position, detail, hint });
        }
        Ok(times)
    }

    /// The first due time after a moment; none beyond the years that are searched.
    #[must_use]
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        self.find(moment, false, Direction::Forward)
    }

    /// The last due time at or before a moment.
    #[must_use]
    pub fn last_until(&self, moment: Timestamp) -> Option<Timestamp> {
        self.find(moment, true, Direction::Backward)
    }

    fn find(&self, moment: Timestamp, inclusive: bool, direction: Direction) -> Option<Timestamp> {
        // Due times are whole minutes, and what is searched goes by whole seconds.
        let start = jiff::Timestamp::from_second(moment.0.div_euclid(1_000)).ok()?;
        let start = start.to_zoned(self.zone.clone());
        let found = match direction {
            Direction::Forward => self.cron.find_next_occurrence(&start, inclusive),
            Direction::Backward => self.cron.find_previous_occurrence(&start, inclusive),
        };
        found.ok().map(|due| Timestamp(due.timestamp().as_millisecond()))
    }
}

fn zone(name: &str) -> Result<TimeZone, Unreadable> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| Unreadable {
        part: Part::Timezone,
        position: 1,
        detail: format!("`{}` is no time zone", shown(name)),
        hint: "write an IANA name, as in `Europe/Berlin`, or `UTC`".to_owned(),
    })
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

/// The fields of an expression, each with the character at which it starts, counted from 1.
fn fields(cron: &str) -> Vec<(usize, &str)> {
    let place = |field: &str| {
        let bytes = field.as_ptr() as usize - cron.as_ptr() as usize;
        cron[..bytes].chars().count() + 1
    };
    cron.split_whitespace().map(|field| (place(field), field)).collect()
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

fn expression(cron: &str) -> Result<Cron, Unreadable> {
    let wrong = |position, detail, hint: &str| Unreadable {
        part: Part::Schedule,
        position,
        detail,
        hint: hint.to_owned(),
    };
    let order = "write minute, hour, day of the month, month and day of the week, as in `0 2 * * *`";
    let found = fields(cron);
    if cron.len() > CRON_BYTES_MAX {
        return Err(wrong(CRON_BYTES_MAX + 1, "the expression is too long".to_owned(), order));
    }
    if let Some((position, field)) = found.iter().find(|(_, field)| field.contains(['@', '?'])) {
        let detail = format!("`{}` is no field", shown(field));
        return Err(wrong(*position, detail, order));
    }
    if found.len() != FIELDS.len() {
        let position = found.get(FIELDS.len()).map_or(cron.chars().count() + 1, |(position, _)| *position);
        let detail = format!("the expression has {} fields instead of {}", found.len(), FIELDS.len());
        return Err(wrong(position, detail, order));
    }
    // The parser tells what is wrong, but not where: each field is tried alone.
    for (at, (position, field)) in found.iter().enumerate() {
        let mut alone = ["*"; FIELDS.len()];
        alone[at] = field;
        if parser().parse(&alone.join(" ")).is_err() {
            let (name, values) = FIELDS[at];
            let detail = format!("the {name} `{}` cannot be read", shown(field));
            let hint =
                format!("the {name} is {values}, `*`, a range `a-b`, a step `*/n`, or several with `,`");
            return Err(wrong(*position, detail, &hint));
        }
    }
    parser().parse(cron).map_err(|error| wrong(1, error.to_string(), order))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn next(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let times = Times::parse(cron, zone).unwrap();
        let mut moment = at(after);
        let mut found = Vec::new();
        for _ in 0..count {
            moment = times.next_after(moment).unwrap();
            assert_eq!(times.last_until(moment), Some(moment), "a due time is the last one at itself");
            found.push(jiff::Timestamp::from_millisecond(moment.0).unwrap().to_string());
        }
        found
    }

    #[test]
    fn due_times_are_those_of_the_expression_in_its_zone() {
        assert_eq!(
            next("0 2 * * *", "UTC", "2026-11-26T02:00:00Z", 2),
            ["2026-11-27T02:00:00Z", "2026-11-28T02:00:00Z"]
        );
        assert_eq!(next("0 2 * * *", "UTC", "2026-11-26T01:59:59.999Z", 1), ["2026-11-26T02:00:00Z"]);
        assert_eq!(next("30 9 * * MON", "Asia/Tokyo", "2026-11-26T00:00:00Z", 1), ["2026-11-30T00:30:00Z"]);
        assert_eq!(
            next("*/20 * 1 1,7 *", "UTC", "2026-07-01T23:30:00Z", 2),
            ["2026-07-01T23:40:00Z", "2027-01-01T00:00:00Z"]
        );
        assert_eq!(next("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
        // Where both days are restricted, either will do, as cron always had it.
        assert_eq!(
            next("0 0 1 * MON", "UTC", "2026-11-26T00:00:00Z", 2),
            ["2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"]
        );
    }

    #[test]
    fn the_last_due_time_is_found_however_long_ago() {
        let times = Times::parse("* * * * *", "UTC").unwrap();
        assert_eq!(times.last_until(at("2026-11-26T12:00:59.999Z")), Some(at("2026-11-26T12:00:00Z")));
        let yearly = Times::parse("0 0 1 1 *", "UTC").unwrap();
        assert_eq!(yearly.last_until(at("2026-11-26T12:00:00Z")), Some(at("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn where_clocks_go_forward_a_time_that_does_not_exist_comes_after_the_gap() {
        // Berlin, 29 March 2026: 02:00 to 03:00 does not exist.
        assert_eq!(
            next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            next("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 2),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"]
        );
    }

    #[test]
    fn where_clocks_go_back_a_time_is_due_once_and_every_hour_twice() {
        // Berlin, 25 October 2026: 02:00 to 03:00 comes twice.
        assert_eq!(
            next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            next("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_position_and_what_to_write() {
        let wrong = |cron: &str, zone: &str| Times::parse(cron, zone).unwrap_err();
        let told = |cron: &str| {
            let told = wrong(cron, "UTC");
            assert_eq!(told.part, Part::Schedule, "{cron}");
            assert!(!told.hint.is_empty() && !told.detail.is_empty());
            told.position
        };
        assert_eq!(told("61 2 * * *"), 1);
        assert_eq!(told("0 24 * * *"), 3);
        assert_eq!(told("0  2 32 * *"), 6);
        assert_eq!(told("0 2 * FOO *"), 7);
        assert_eq!(told("0 2 * * 9"), 9);
        assert_eq!(told("0 2 * *"), 8, "after what is there");
        assert_eq!(told("0 0 2 * * *"), 11, "the sixth field");
        assert_eq!(told("@daily"), 1);
        assert_eq!(told(""), 1);
        assert_eq!(told("0 2 30 2 *"), 5, "there is no 30 February");
        assert_eq!(told("*/0 * * * *"), 1);
        assert_eq!(told("ä 2 * * *"), 1);
        assert_eq!(told("0 ä 24 * *"), 3, "characters, not bytes");
        assert_eq!(told(&"0".repeat(300)), 257);
        let zone = wrong("0 2 * * *", "Mars/Olympus");
        assert_eq!((zone.part, zone.position), (Part::Timezone, 1));
        assert!(zone.detail.contains("Mars/Olympus"));
    }
}
