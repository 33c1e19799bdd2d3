//! One request each, by the SDK: what is sent, how long it may take, and what its answer means.

use super::super::Blob;
use super::Bounds;
use super::failure::{Call, Place};
use super::range::{Part, length_of_unsatisfied};
use crate::config;
use crate::domain::ids::Timestamp;
use crate::domain::outcome::{PortError, PortResult};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::StorageClass;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use std::error::Error;
use std::future::Future;
use std::time::Duration;

/// Connections that nobody uses are closed before servers and their balancers do it (mostly after 60 s): a
/// request that meets a connection just being closed is one whose outcome is unknown.
const IDLE: Duration = Duration::from_secs(20);
/// Names that a store sends in one page at the most.
const PAGE_NAMES_MAX: usize = 1_000;
/// Room that is made before any byte of an object has arrived.
const ROOM_BYTES_MAX: u64 = 1 << 20;

/// Where a page of a listing starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    First,
    /// After this name.
    After(&'a str),
    /// Where the page before ended, in the store's words.
    At(&'a str),
}

/// A page of a listing.
#[derive(Debug)]
pub(super) struct Page {
    /// In the order of the store.
    pub(super) names: Vec<String>,
    /// Where the next one starts; none if this is the last one.
    pub(super) next: Option<String>,
}

/// The SDK's client of one bucket.
pub(super) struct Requests {
    pub(super) client: Client,
    pub(super) bounds: Bounds,
    pub(super) place: Place,
    region: String,
    prefix: String,
    has_checksums: bool,
    storage_class: Option<StorageClass>,
    /// Does the store list names in byte order? Amazon S3 does, except in directory buckets. Of others one
    /// cannot know: SeaweedFS has `a/b` before `a-b`, as folders have it, and starts after a name in that
    /// order as well.
    pub(super) is_in_byte_order: bool,
}

impl Requests {
    pub(super) async fn new(config: &config::S3, bounds: Bounds) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .pool_idle_timeout(IDLE)
            .build_https();
        // The bounds of a whole request are `within`'s: they depend on its bytes.
        let timeouts = TimeoutConfig::builder().connect_timeout(bounds.connect).build();
        let stalls =
            StalledStreamProtectionConfig::enabled().upload_enabled(true).grace_period(bounds.answer);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(config.region.clone()))
            .http_client(http)
            .timeout_config(timeouts)
            // Whoever tries again has to know of every try: see `until_done`.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(stalls.build())
            // Our own is sent where it is wanted. A second one, which the SDK would add, is what
            // some stores refuse.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some((access, secret)) = &config.keys {
            let keys = Credentials::new(access.reveal(), secret.reveal(), None, None, "configuration");
            loader = loader.credentials_provider(keys);
        }
        let shared = loader.load().await;
        let mut settings = aws_sdk_s3::config::Builder::from(&shared).force_path_style(config.is_path_style);
        settings.set_endpoint_url(config.endpoint.clone());
        let endpoint = config.endpoint.clone().unwrap_or_else(|| format!("Amazon S3 in {}", config.region));
        Self {
            client: Client::from_conf(settings.build()),
            bounds,
            place: Place { bucket: config.bucket.clone(), endpoint },
            region: config.region.clone(),
            prefix: config.prefix.clone(),
            has_checksums: config.has_checksums,
            storage_class: config.storage_class.as_deref().map(StorageClass::from),
            is_in_byte_order: config.endpoint.is_none() && !config.bucket.ends_with("--x-s3"),
        }
    }

    /// Name of the bucket's region, where a request that creates one has to say it.
    pub(super) fn region(&self) -> Option<&str> {
        Some(self.region.as_str()).filter(|region| *region != "us-east-1")
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What the store is to compare an object with.
    ///
    /// COST: a second SHA-256 of the body, besides that in the signature: some 5 ms for 8 MiB.
    pub(super) fn checksum(&self, body: &[u8]) -> Option<String> {
        self.has_checksums.then(|| BASE64.encode(&Sha256::digest(body)))
    }

    /// Sends a request with so many bytes and waits for its answer, for as long as the bounds allow.
    pub(super) async fn within<T, E>(
        &self,
        call: Call<'_>,
        bytes: u64,
        send: impl Future<Output = Result<T, SdkError<E>>> + Send,
    ) -> PortResult<Result<T, SdkError<E>>>
    where
        E: Error + 'static,
    {
        let bound = self.bounds.allowed(bytes);
        // Boxed: the SDK's futures are some kilobytes.
        let answer = tokio::time::timeout(bound, Box::pin(send)).await;
        answer.map_err(|_| PortError::Unknown(self.place.told(call, &format!("no answer within {bound:?}"))))
    }

    /// What an error means.
    pub(super) fn failure<E>(&self, call: Call<'_>, error: &SdkError<E>) -> PortError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        self.place.failure(call, error)
    }

    pub(super) async fn put(
        &self,
        name: &str,
        body: SdkBody,
        len: u64,
        sha256: Option<&str>,
    ) -> PortResult<()> {
        let call = Call::Put(name);
        let send = self
            .client
            .put_object()
            .bucket(&self.place.bucket)
            .key(self.key(name))
            .if_none_match("*")
            .set_checksum_sha256(sha256.map(str::to_owned))
            .set_storage_class(self.storage_class.clone())
            .content_type("application/octet-stream")
            .body(ByteStream::new(body))
            .send();
        let stored = self.within(call, len, send).await?.map_err(|error| self.failure(call, &error))?;
        match (stored.checksum_sha256(), sha256) {
            (Some(stored), Some(sent)) if stored != sent => {
                let what = format!("the store has `{stored:.60}` for its SHA-256, not `{sent}`");
                Err(PortError::Unknown(self.place.told(call, &what)))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn get(&self, name: &str, part: Part) -> PortResult<(Blob, u64)> {
        let call = Call::Get(name);
        let not_done = |what: &str| PortError::NotDone(self.place.told(call, what));
        let send = self
            .client
            .get_object()
            .bucket(&self.place.bucket)
            .key(self.key(name))
            .range(part.header())
            .send();
        let mut answer = match self.within(call, 0, send).await? {
            Ok(answer) => answer,
            Err(error) => {
                return match error.raw_response() {
                    Some(raw) if raw.status().as_u16() == 416 => {
                        let whole = raw.headers().get("content-range").and_then(length_of_unsatisfied);
                        outside(part, whole).ok_or_else(|| not_done("a range inside of it was refused"))
                    }
                    _ => Err(self.failure(call, &error)),
                };
            }
        };
        let announced = answer.content_length().and_then(|len| u64::try_from(len).ok());
        let Some(len) = announced else { return Err(not_done("an answer that does not say how long it is")) };
        // A store that knows no ranges would send an object whole, however long it is.
        let is_whole = answer.content_range().is_none();
        if len > part.bytes_max() && !is_whole {
            return Err(not_done("more bytes than were asked for"));
        }
        let room = usize::try_from(len.min(ROOM_BYTES_MAX)).unwrap_or(0);
        let read = async {
            let mut body = Blob::with_capacity(room);
            while let Some(chunk) = answer.body.try_next().await? {
                body.extend_from_slice(&chunk);
            }
            Ok::<_, aws_sdk_s3::primitives::ByteStreamError>(body)
        };
        let bound = self.bounds.allowed(len);
        let body = match tokio::time::timeout(bound, read).await {
            Err(_) => return Err(not_done(&format!("its bytes did not arrive within {bound:?}"))),
            Ok(Err(error)) => {
                return Err(not_done(&format!("its bytes did not arrive: {}", deepest(&error))));
            }
            Ok(Ok(body)) if body.len() as u64 != len => {
                return Err(not_done(&format!("{} of {len} bytes arrived", body.len())));
            }
            Ok(Ok(body)) => body,
        };
        part.taken(answer.content_range.as_deref(), body)
            .map_err(|what| not_done(&format!("answered with {what}")))
    }

    /// Up to a page of names with this prefix.
    pub(super) async fn page(&self, prefix: &str, start: Start<'_>, limit: usize) -> PortResult<Page> {
        let call = Call::List;
        let list = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(self.key(prefix));
        let list = list.max_keys(i32::try_from(limit.min(PAGE_NAMES_MAX)).expect("a page is short"));
        let list = match start {
            Start::First => list,
            Start::After(name) => list.start_after(self.key(name)),
            Start::At(token) => list.continuation_token(token),
        };
        let answer = self.within(call, 0, list.send()).await?.map_err(|error| self.failure(call, &error))?;
        let odd = |what: &str| PortError::NotDone(self.place.told(call, what));
        let mut names: Vec<String> = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let name = object.key().and_then(|key| key.strip_prefix(&self.prefix));
            let Some(name) = name.filter(|name| name.starts_with(prefix)) else {
                return Err(odd("a name that was not asked for"));
            };
            let last = match start {
                Start::After(after) => names.last().map_or(Some(after), |name| Some(name)),
                Start::First | Start::At(_) => names.last().map(String::as_str),
            };
            if self.is_in_byte_order && last.is_some_and(|last| name <= last) {
                return Err(odd("names that are not in byte order"));
            }
            names.push(name.to_owned());
        }
        let has_more = answer.is_truncated().unwrap_or(false);
        let next = answer.next_continuation_token.filter(|_| has_more);
        if has_more && (names.is_empty() || next.is_none()) {
            return Err(odd("a page that is not the last one, and does not say how to go on"));
        }
        Ok(Page { names, next })
    }

    /// When the store took an object that is not empty.
    pub(super) async fn modified(&self, name: &str) -> PortResult<Timestamp> {
        let call = Call::Get(name);
        // A GET of one byte: unlike HEAD it says why not.
        let get = self.client.get_object().bucket(&self.place.bucket).key(self.key(name)).range("bytes=0-0");
        let answer = self.within(call, 0, get.send()).await?.map_err(|error| self.failure(call, &error))?;
        let time = answer.last_modified().and_then(|time| time.to_millis().ok()).map(Timestamp);
        time.ok_or_else(|| PortError::NotDone(self.place.told(call, "an answer without a time")))
    }

    pub(super) async fn delete(&self, name: &str) -> PortResult<()> {
        let call = Call::Delete(name);
        let send = self.client.delete_object().bucket(&self.place.bucket).key(self.key(name)).send();
        self.within(call, 0, send).await?.map_err(|error| self.failure(call, &error))?;
        Ok(())
    }
}

/// What there is of a part that the store says lies outside of an object of this length; none if it does not.
fn outside(part: Part, whole: Option<u64>) -> Option<(Blob, u64)> {
    match (part, whole) {
        // Every object that is not empty has a last byte.
        (Part::Last(_), None | Some(0)) => Some((Blob::new(), 0)),
        (Part::Last(_), Some(_)) => None,
        (Part::From { start, len }, Some(whole)) if len > 0 && start < whole => None,
        (Part::From { .. }, whole) => Some((Blob::new(), whole.unwrap_or(0))),
    }
}

/// The cause that says most: those around it say `error trying to`.
pub(super) fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
