//! Schedules and their runs as bytes.

use super::{Body, Rest, Row};
use crate::domain::error::{Error, Result};
use crate::domain::ids::{AggregateKey, LedgerId, PartitionNo, Timestamp};
use crate::domain::schedule::{RunRow, Schedule, ScheduleRow, Target};

const SAYS: u8 = 1;
const AGGREGATE: u8 = 2;
const ENABLED: u8 = 4;
const ASKED: u8 = 8;

impl Row for ScheduleRow {
    const TYPE: u8 = 20;
    const NAME: &'static str = "schedule";

    fn put(&self, out: &mut Body) {
        let flag = |flag, set: bool| if set { flag } else { 0 };
        let says = self.plan.as_ref();
        let is_one = says.is_some_and(|says| matches!(says.target, Target::Aggregate(_)));
        let flags = flag(SAYS, says.is_some())
            | flag(AGGREGATE, is_one)
            | flag(ENABLED, says.is_some_and(|says| says.enabled))
            | flag(ASKED, self.run_at.is_some());
        out.0.push(flags);
        out.0.extend_from_slice(&self.at.0);
        out.text(&self.name);
        out.signed(self.since.0);
        if let Some(asked) = self.run_at {
            out.signed(asked.0);
        }
        if let Some(says) = says {
            let (kind, id) = match &says.target {
                Target::Aggregate(key) => (&key.kind, &key.id),
                Target::Selector { kind, prefix } => (kind, prefix),
            };
            out.text(kind);
            out.text(id);
            out.text(&says.cron);
            out.text(&says.timezone);
            out.number(says.jitter_ms);
        }
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        let flags = body.flags(SAYS | AGGREGATE | ENABLED | ASKED)?;
        if flags & SAYS == 0 && flags & (AGGREGATE | ENABLED) != 0 {
            return Err(Error::corrupt("it is deleted and says something"));
        }
        let (at, name, since) = (LedgerId(body.0.array()?), body.text()?, body.time()?);
        let run_at = if flags & ASKED != 0 { Some(body.time()?) } else { None };
        let mut row = Self { name, at, since, run_at, plan: None };
        if flags & SAYS != 0 {
            let (kind, id) = (body.text()?, body.text()?);
            row.plan = Some(Schedule {
                target: match flags & AGGREGATE {
                    0 => Target::Selector { kind, prefix: id },
                    _ => Target::Aggregate(AggregateKey { kind, id }),
                },
                cron: body.0.text()?.into(),
                timezone: body.0.text()?.into(),
                enabled: flags & ENABLED != 0,
                jitter_ms: body.0.varint()?,
            });
        }
        Ok(row)
    }
}

impl Row for RunRow {
    const TYPE: u8 = 21;
    const NAME: &'static str = "run of a schedule";

    fn put(&self, out: &mut Body) {
        out.text(&self.schedule);
        out.text(&self.topic);
        out.signed(i64::from(self.partition.0));
        out.number(self.number);
        out.number(self.on_time);
        [self.due, self.started, self.finished].iter().for_each(|time| out.signed(time.0));
        [self.created, self.exists, self.failed].iter().for_each(|count| out.number(*count));
    }

    fn take(body: &mut Rest<'_>) -> Result<Self> {
        Ok(Self {
            schedule: body.text()?,
            topic: body.text()?,
            partition: PartitionNo(body.i32()?),
            number: body.0.varint()?,
            on_time: body.0.varint()?,
            due: Timestamp(body.0.zigzag()?),
            started: Timestamp(body.0.zigzag()?),
            finished: Timestamp(body.0.zigzag()?),
            created: body.0.varint()?,
            exists: body.0.varint()?,
            failed: body.0.varint()?,
        })
    }
}
