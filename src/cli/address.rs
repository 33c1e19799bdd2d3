//! Addresses and moments as people type them: `TYPE/ID`, `@37`, `@2026-11-24`, `~1`, `35..-1`.
//!
//! TYPE ends at the first `/`, the rest is ID. An id may hold `/`, `@` and `~`: a moment is split off at the
//! last `@` only if an integer or a date or time follows, at the last `~` only if an integer follows.

use super::failure::{Done, Failure};
use super::screen::printable;
use crate::domain::moment;
use crate::domain::value::Pointer;

/// One aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Aggregate type.
    pub(super) kind: String,
    /// Aggregate id.
    pub(super) id: String,
}

/// Which moment of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The newest version.
    Head,
    /// This version; the server judges whether it can be one.
    Version(u64),
    /// The last version at or before this time, as it was typed.
    Time(String),
    /// So many versions before the head.
    Back(u64),
    /// The last version at or before `PARTITION:OFFSET`.
    Offset(String),
}

const SHAPE: &str = "write TYPE/ID, as in `order/o-42`";

impl Address {
    /// Reads an address that has no moment: everything after the first `/` is the id.
    pub(super) fn whole(text: &str) -> Done<Self> {
        match text.split_once('/') {
            Some((kind, id)) if !kind.is_empty() && !id.is_empty() => {
                Ok(Self { kind: kind.to_owned(), id: id.to_owned() })
            }
            _ => Err(Failure::usage(format!("`{text}` is not the address of an aggregate"), SHAPE)),
        }
    }

    /// Reads an address and the moment at its end, if there is one.
    pub(super) fn split(text: &str) -> Done<(Self, Moment)> {
        let Self { kind, id } = Self::whole(text)?;
        let Some(at) = id.rfind(['@', '~']).filter(|at| *at > 0) else {
            return Ok((Self { kind, id }, Moment::Head));
        };
        let moment = match id[at..].split_at(1) {
            ("@", time) if moment::parse(time).is_some() => Moment::Time(time.to_owned()),
            ("@", version) if is_integer(version) => Moment::Version(integer(version)?),
            ("~", back) if is_integer(back) => Moment::Back(integer(back)?),
            _ => return Ok((Self { kind, id }, Moment::Head)),
        };
        Ok((Self { kind, id: id[..at].to_owned() }, moment))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

/// Reads `A..B` into what the API takes for either side; B left out is the head.
pub(super) fn range(text: &str) -> Done<(String, Option<String>)> {
    let hint = "write A..B, each a version (`35`), versions before the head (`-1`) or `@TIME`; `A..` ends at the head";
    let wrong = || Failure::usage(format!("`{text}` is not a range"), hint);
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let side = |text: &str| match text.split_at_checked(1) {
        Some(("-" | "~", back)) if is_integer(back) => Ok(format!("-{back}")),
        Some(("@", time)) if moment::parse(time).is_some() || is_integer(time) => Ok(text.to_owned()),
        _ if is_integer(text) => Ok(text.to_owned()),
        _ => Err(wrong()),
    };
    Ok((side(from)?, if to.is_empty() { None } else { Some(side(to)?) }))
}

/// A place in a document; people may leave the first `/` out.
pub(super) fn place(text: &str) -> Done<Pointer> {
    let whole = if text.is_empty() || text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    whole.parse().map_err(|error| {
        Failure::usage(format!("`{}` is no path: {error}", printable(text)), "write `/items/0/price`")
    })
}

fn is_integer(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn integer(text: &str) -> Done<u64> {
    let hint = "if it is part of the id, say which version is meant with `--version`, `--at` or `--offset`";
    text.parse().map_err(|_| Failure::usage(format!("`{text}` is too large for a version"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (String, String, Moment) {
        let (Address { kind, id }, moment) = Address::split(text).expect("an address");
        (kind, id, moment)
    }

    #[test]
    fn a_moment_is_split_off_only_where_one_can_stand() {
        let time = |text: &str| Moment::Time(text.into());
        for (text, id, moment) in [
            ("order/o-42", "o-42", Moment::Head),
            ("order/o-42@37", "o-42", Moment::Version(37)),
            ("order/o-42@0", "o-42", Moment::Version(0)),
            ("order/o-42~0", "o-42", Moment::Back(0)),
            ("order/o-42~1", "o-42", Moment::Back(1)),
            ("order/o-42@2026-11-24", "o-42", time("2026-11-24")),
            ("order/o-42@2026-11-24T10:00:00+02:00", "o-42", time("2026-11-24T10:00:00+02:00")),
            ("order/api/Window@2022-03-31", "api/Window", time("2022-03-31")),
            ("order/ann@example.org", "ann@example.org", Moment::Head),
            ("order/ann@example.org@3", "ann@example.org", Moment::Version(3)),
            ("order/ann@3@example.org", "ann@3@example.org", Moment::Head),
            ("order/~ann", "~ann", Moment::Head),
            ("order/a~b~2", "a~b", Moment::Back(2)),
            ("order/a@1~2", "a@1", Moment::Back(2)),
            ("order/a~2@x", "a~2@x", Moment::Head),
            ("order/a@-1", "a@-1", Moment::Head),
            ("order/a~2026-11-24", "a~2026-11-24", Moment::Head),
            // Without these an id would be empty.
            ("order/@37", "@37", Moment::Head),
            ("order/~1", "~1", Moment::Head),
            ("order//", "/", Moment::Head),
            ("order/ü@ü", "ü@ü", Moment::Head),
        ] {
            assert_eq!(split(text), ("order".into(), id.into(), moment), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_a_usage_error_that_says_how_to_write_one() {
        for text in ["", "order", "order/", "/o-42", "/"] {
            let failure = Address::split(text).expect_err(text);
            assert_eq!((failure.exit as u8, failure.hint.as_deref()), (2, Some(SHAPE)), "{text}");
        }
        assert!(Address::split("order/a@99999999999999999999").is_err());
    }

    #[test]
    fn the_sides_of_a_range_are_what_the_api_takes() {
        let range = |text| range(text).map(|(from, to)| (from, to.unwrap_or_else(|| "head".into())));
        for (text, from, to) in [
            ("35..37", "35", "37"),
            ("-3..-1", "-3", "-1"),
            ("~3..~1", "-3", "-1"),
            ("35..", "35", "head"),
            ("@2022-03-31..@2026-11-24", "@2022-03-31", "@2026-11-24"),
            ("@2026-11-24T10:00:00.5Z..@1700000000000", "@2026-11-24T10:00:00.5Z", "@1700000000000"),
        ] {
            assert_eq!(range(text), Ok((from.into(), to.into())), "{text}");
        }
        for text in ["", "35", "..", "..37", "a..b", "35...37", "@x..37", "-..-", "é..1", "35..@"] {
            assert_eq!(range(text).map_err(|failure| failure.exit as u8), Err(2), "{text}");
        }
    }
}
