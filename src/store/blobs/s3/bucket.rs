//! The bucket itself: creating it, and finding out at start what is wrong with it.

use super::failure::Call;
use super::range::Part;
use super::requests::{Requests, Start};
use super::{Effect, S3Blobs};
use crate::domain::outcome::{PortError, PortResult};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

/// An object that every worker writes at its start and nobody ever changes.
const PROBE: &str = "v1/check";
/// What is in it.
const PROBE_BYTES: &[u8] = b"snapfold\n";

impl S3Blobs {
    /// Creates the bucket unless it is there.
    ///
    /// # Errors
    /// `Permanent` if that is not allowed or the name is somebody else's; others as for any write.
    pub async fn create_bucket(&self) -> PortResult<()> {
        self.run(|requests| async move {
            requests.until_done(Effect::Write, || requests.create_bucket()).await?;
            Ok(())
        })
        .await
    }

    /// Finds out whether the bucket is there, and whether these keys may do what a worker does: list, write
    /// and read. Also whether the store keeps what a conditional write is for: without it, two writers could
    /// replace each other's objects.
    ///
    /// # Errors
    /// `Permanent` with what to do about it; others if the store did not answer.
    pub async fn check(&self) -> PortResult<()> {
        self.run(|requests| async move {
            requests.until_done(Effect::Read, || requests.page("", Start::First, 1)).await?;
            match requests.create(PROBE, PROBE_BYTES.to_vec()).await {
                Ok(()) | Err(PortError::Exists) => {}
                Err(error) => return Err(error),
            }
            let unfit = |what: &str| Err(PortError::Permanent(requests.place.told(Call::Put(PROBE), what)));
            match requests.create(PROBE, PROBE_BYTES.to_vec()).await {
                Err(PortError::Exists) => {}
                Ok(()) => {
                    return unfit(
                        "the store ignores `If-None-Match: *`, so objects could be replaced: use a store, or a \
                         version of it, that has conditional writes",
                    );
                }
                Err(error) => return Err(error),
            }
            match requests.read(PROBE, Part::From { start: 0, len: PROBE_BYTES.len() as u64 + 1 }).await {
                Ok((bytes, _)) if bytes == PROBE_BYTES => Ok(()),
                Ok(_) => unfit("it holds other bytes: is `blobs.s3.prefix` also used by something else?"),
                Err(PortError::Missing) => unfit("it was written, and cannot be found"),
                Err(error) => Err(error),
            }
        })
        .await
    }
}

impl Requests {
    async fn create_bucket(&self) -> PortResult<()> {
        let call = Call::Create;
        let region = self.region().map(|region| {
            let region = BucketLocationConstraint::from(region);
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let create = self.client.create_bucket().bucket(&self.place.bucket);
        let send = create.set_create_bucket_configuration(region).send();
        match self.within(call, 0, send).await? {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            Err(error) if error.code() == Some("BucketAlreadyExists") => self.is_ours().await,
            Err(error) => Err(self.failure(call, &error)),
        }
    }

    /// Not every store tells a bucket of ours from one of somebody else's where it is to be created: ours can
    /// be looked at.
    async fn is_ours(&self) -> PortResult<()> {
        let call = Call::Create;
        let send = self.client.head_bucket().bucket(&self.place.bucket).send();
        let Err(error) = self.within(call, 0, send).await? else { return Ok(()) };
        match error.raw_response().map(|raw| raw.status().as_u16()) {
            Some(404) => Err(PortError::NotDone(self.place.told(call, "somebody is just creating it"))),
            Some(301 | 403) => Err(PortError::Permanent(self.place.told(
                call,
                "somebody else has a bucket of that name, or it is in another region: change `blobs.s3.bucket` or \
                 `blobs.s3.region`",
            ))),
            _ => Err(self.failure(call, &error)),
        }
    }
}
