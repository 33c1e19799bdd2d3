//! One worker at a time for a duty: a row of objects `v1/<duty>/lease/<number>`, of which the largest counts.
//! Whoever creates the next one has the lease; it may be created once the last one is older than its time, by
//! the store's own clock. An empty one was given back.
//!
//! *If it fails*: nobody has the lease until it has run out. Whoever is paused beyond its time may work
//! beside the next one, which has to be harmless (see `gc` and `archive`).

use crate::clock::Clock;
use crate::domain::error::{Error, Result};
use crate::domain::ids::{LedgerId, Timestamp};
use crate::domain::outcome::PortError;
use crate::store::blobs::Blobs;
use crate::store::unavailable;

/// What only one worker at a time does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duty {
    /// Its folder below `v1/`.
    pub(super) folder: &'static str,
    /// What it is called.
    pub(super) name: &'static str,
}

/// The right to do a duty, for some time.
#[derive(Debug)]
pub(super) struct Lease {
    duty: Duty,
    name: String,
    /// By the store's clock.
    taken_at: Timestamp,
    /// By this process's clock, from before it was taken.
    since_ms: u64,
    lease_ms: u64,
}

impl Duty {
    fn failed(self, error: &PortError) -> Error {
        unavailable(&format!("take the lease of {}", self.name), error)
    }

    fn prefix(self) -> String {
        format!("v1/{}/lease/", self.folder)
    }

    fn name_of(self, number: u64) -> String {
        format!("{}{number:020}", self.prefix())
    }

    async fn numbers(self, blobs: &dyn Blobs) -> Result<Vec<u64>> {
        let names = blobs.list(&self.prefix(), None, 1_000).await.map_err(|error| self.failed(&error))?;
        Ok(names.iter().map(|name| number(name)).collect())
    }
}

fn number(name: &str) -> u64 {
    name.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The store's own time: that of an object that is written now.
pub(super) async fn store_now(duty: Duty, blobs: &dyn Blobs, clock: &dyn Clock) -> Result<Timestamp> {
    let probe = format!("v1/{}/now/{}", duty.folder, LedgerId::mint(clock.now(), clock.random()));
    blobs.put_new(&probe, b"now").await.map_err(|error| duty.failed(&error))?;
    let now = blobs.modified(&probe).await;
    // One that stays is a few bytes.
    let _ = blobs.delete(&probe).await;
    now.map_err(|error| duty.failed(&error))
}

impl Lease {
    /// Takes the lease; none if somebody has it.
    pub(super) async fn take(
        duty: Duty,
        blobs: &dyn Blobs,
        clock: &dyn Clock,
        lease_ms: u64,
    ) -> Result<Option<Self>> {
        let since_ms = clock.monotonic_ms();
        let last = duty.numbers(blobs).await?.into_iter().max().unwrap_or(0);
        if last > 0 && !is_over(duty, blobs, clock, lease_ms, last).await? {
            return Ok(None);
        }
        let name = duty.name_of(last + 1);
        match blobs.put_new(&name, b"held").await {
            Ok(()) => {}
            Err(PortError::Exists) => return Ok(None),
            Err(error) => return Err(duty.failed(&error)),
        }
        // An older number may have become free again meanwhile: only the largest counts.
        let all = duty.numbers(blobs).await?;
        if all.iter().any(|other| *other > last + 1) {
            return Ok(None);
        }
        for older in all.into_iter().filter(|other| *other < last + 1) {
            let _ = blobs.delete(&duty.name_of(older)).await;
        }
        let taken_at = blobs.modified(&name).await.map_err(|error| duty.failed(&error))?;
        Ok(Some(Self { duty, name, taken_at, since_ms, lease_ms }))
    }

    /// When it was taken, by the store's clock.
    pub(super) fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// Whether half of its time is still left: whoever goes on beyond that would be late when it is over.
    pub(super) fn holds(&self, clock: &dyn Clock) -> bool {
        clock.monotonic_ms().saturating_sub(self.since_ms) < self.lease_ms / 2
    }

    /// Takes it for longer; false if somebody else has it.
    pub(super) async fn renew(&mut self, blobs: &dyn Blobs, clock: &dyn Clock) -> Result<bool> {
        let since_ms = clock.monotonic_ms();
        let name = self.duty.name_of(number(&self.name) + 1);
        match blobs.put_new(&name, b"held").await {
            Ok(()) => {}
            Err(PortError::Exists) => return Ok(false),
            Err(error) => return Err(self.duty.failed(&error)),
        }
        let _ = blobs.delete(&self.name).await;
        (self.name, self.since_ms) = (name, since_ms);
        Ok(true)
    }

    /// Gives it back, so that the next pass need not wait.
    pub(super) async fn end(self, blobs: &dyn Blobs) {
        let given_back = self.duty.name_of(number(&self.name) + 1);
        // An empty successor says so; if it is not written, time does.
        let _ = blobs.put_new(&given_back, b"").await;
    }
}

async fn is_over(duty: Duty, blobs: &dyn Blobs, clock: &dyn Clock, ms: u64, last: u64) -> Result<bool> {
    let name = duty.name_of(last);
    let taken = match blobs.get_tail(&name, 0).await {
        // Given back, or gone: somebody else was faster, and whoever creates the next one will find out.
        Ok((_, 0)) | Err(PortError::Missing) => return Ok(true),
        Ok(_) => blobs.modified(&name).await,
        Err(error) => return Err(duty.failed(&error)),
    };
    let taken = match taken {
        Err(PortError::Missing) => return Ok(true),
        other => other.map_err(|error| duty.failed(&error))?,
    };
    let now = store_now(duty, blobs, clock).await?;
    Ok(u64::try_from(now.0.saturating_sub(taken.0)).is_ok_and(|passed| passed > ms))
}
