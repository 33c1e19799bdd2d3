//! The owners of partitions, in this process and in others: who folds a partition says so in the index, with
//! the address under which it is asked.
//!
//! *Order*: this process first, then whoever the index names. *If it fails*: an owner that cannot be reached,
//! or that owns the partition no more, is no answer; it is not asked again for a second, and the question
//! goes on with rest and log. *What may leak*: nothing; an owner's answer carries its position, and the asker
//! judges it (O1).

mod made;
mod wire;

pub use made::{Wanted, tell_made};

use crate::clock::Clock;
use crate::domain::ids::{Lineage, PartitionNo};
use crate::domain::partition::Listing;
use crate::domain::row::PartitionKey;
use crate::reconstruct::{HeadAnswer, ListAnswer, LiveHeads};
use crate::store::index::Index;
use crate::telemetry::metrics::OWNER_ANSWERS;
use futures_util::future::BoxFuture;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long an owner may take to answer from its memory, with the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long it is remembered who owns a partition, and that somebody could not be reached.
const MEMO_MS: u64 = 1_000;
/// Longest answer that is read: a state of the largest size that can be configured, and what is around it.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Where the owner of a partition is asked, below its advertised URL.
pub const HEAD_ROUTE: &str = "/internal/v1/owned/{type}/{lineage}/{partition}/head";
/// The same for lists.
pub const LIST_ROUTE: &str = "/internal/v1/owned/{type}/{lineage}/{partition}/list";
/// The same for snapshots that are to be taken.
pub const TAKE_ROUTE: &str = "/internal/v1/owned/{type}/{lineage}/{partition}/snapshots";
/// The same for history that is to be merged.
pub const COMPACT_ROUTE: &str = "/internal/v1/owned/{type}/{lineage}/{partition}/compaction";

/// The owners of one stream's partitions.
pub struct Owners {
    parts: Parts,
    client: reqwest::Client,
    memo: Mutex<Memo>,
}

/// What [`Owners`] need.
pub struct Parts {
    /// The partitions of this process.
    pub own: Arc<dyn LiveHeads>,
    /// Where owners say who they are.
    pub index: Arc<dyn Index>,
    /// Time, for what is remembered.
    pub clock: Arc<dyn Clock>,
    /// The aggregate type.
    pub kind: Arc<str>,
    /// The stream's topic.
    pub topic: Arc<str>,
    /// The active lineage.
    pub lineage: Lineage,
    /// Where this process is asked; it does not ask itself.
    pub address: Option<Arc<str>>,
}

#[derive(Default)]
struct Memo {
    /// Who owned a partition, and when that was read.
    owners: BTreeMap<PartitionNo, (Option<Arc<str>>, u64)>,
    /// When somebody could not be reached.
    silent: BTreeMap<Arc<str>, u64>,
}

impl Owners {
    /// Owners of one stream; `client` may be shared by all streams of a process.
    #[must_use]
    pub fn new(parts: Parts, client: reqwest::Client) -> Self {
        Self { parts, client, memo: Mutex::default() }
    }

    fn memo(&self) -> std::sync::MutexGuard<'_, Memo> {
        self.memo.lock().expect("no panic while the memo is held")
    }

    fn log(&self, partition: PartitionNo) -> PartitionKey {
        let topic = Arc::clone(&self.parts.topic);
        PartitionKey { topic, partition, lineage: self.parts.lineage }
    }

    /// Where somebody else says that it owns a partition, unless it was silent just now.
    async fn other(&self, partition: PartitionNo) -> Option<Arc<str>> {
        let now = self.parts.clock.monotonic_ms();
        let is_new = |at: u64| now.saturating_sub(at) < MEMO_MS;
        let known = self.memo().owners.get(&partition).filter(|(_, at)| is_new(*at)).cloned();
        let address = match known {
            Some((address, _)) => address,
            None => {
                let row = match self.parts.index.owner(&self.log(partition)).await {
                    Ok(row) => row,
                    Err(error) => {
                        tracing::debug!(%error, partition = partition.0, "nobody says who owns a partition");
                        return None;
                    }
                };
                let address = row.map(|row| row.address).filter(|address| !address.is_empty());
                self.memo().owners.insert(partition, (address.clone(), now));
                address
            }
        };
        let is_silent = |address: &Arc<str>| self.memo().silent.get(address).is_some_and(|at| is_new(*at));
        address.filter(|address| Some(address) != self.parts.address.as_ref() && !is_silent(address))
    }

    /// Asks whoever else owns a partition; `None` where that is nobody who can be reached.
    async fn ask(&self, partition: PartitionNo, route: &str, query: &[(&str, &str)]) -> Option<Vec<u8>> {
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.send(partition, route, |url| self.client.get(format!("{url}?{}", pairs.join("&")))).await
    }

    /// Sends what `request` makes of an address; `None` where nobody who owns the partition can be reached.
    async fn send(
        &self,
        partition: PartitionNo,
        route: &str,
        request: impl FnOnce(String) -> reqwest::RequestBuilder,
    ) -> Option<Vec<u8>> {
        let address = self.other(partition).await?;
        let path = route
            .replace("{type}", &encoded(&self.parts.kind))
            .replace("{lineage}", &self.parts.lineage.0.to_string())
            .replace("{partition}", &partition.0.to_string());
        let url = format!("{}{path}", address.trim_end_matches('/'));
        let fetched = fetch(request(url)).await;
        let outcome = match &fetched {
            Ok(Some(_)) => "answered",
            Ok(None) => "not_owner",
            Err(_) => "silent",
        };
        metrics::counter!(OWNER_ANSWERS.name, "outcome" => outcome).increment(1);
        match fetched {
            Ok(Some(bytes)) => Some(bytes),
            Ok(None) => {
                // It owns the partition no more: the index tells who does.
                self.memo().owners.remove(&partition);
                None
            }
            Err(error) => {
                let error = error.without_url();
                tracing::debug!(%error, owner = %address, partition = partition.0, "an owner does not answer");
                let now = self.parts.clock.monotonic_ms();
                let mut memo = self.memo();
                memo.owners.remove(&partition);
                memo.silent.retain(|_, at| now.saturating_sub(*at) < MEMO_MS);
                memo.silent.insert(address, now);
                None
            }
        }
    }

    fn understood<T>(answer: crate::domain::error::Result<T>, partition: PartitionNo) -> Option<T> {
        answer
            .inspect_err(|error| {
                tracing::warn!(%error, partition = partition.0, "an owner's answer is not understood");
            })
            .ok()
    }
}

/// The HTTP client for asking owners. It follows no redirects and uses no proxy: workers are next door.
///
/// # Errors
/// A sentence that says why there is none.
pub fn client() -> Result<reqwest::Client, String> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .build();
    client.map_err(|error| format!("make an HTTP client: {error}"))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The body of an answer 200; none for any other status, which means that it does not own the partition.
async fn fetch(request: reqwest::RequestBuilder) -> reqwest::Result<Option<Vec<u8>>> {
    let mut answer = request.send().await?;
    if answer.status() != reqwest::StatusCode::OK {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

impl LiveHeads for Owners {
    fn head(&self, partition: PartitionNo, id: Arc<str>) -> BoxFuture<'_, Option<HeadAnswer>> {
        Box::pin(async move {
            if let Some(answer) = self.parts.own.head(partition, Arc::clone(&id)).await {
                return Some(answer);
            }
            let bytes = self.ask(partition, HEAD_ROUTE, &[("id", &id)]).await?;
            Self::understood(wire::decode_head(&self.log(partition), &id, &bytes), partition)
        })
    }

    fn list(&self, partition: PartitionNo, listing: Listing) -> BoxFuture<'_, Option<ListAnswer>> {
        Box::pin(async move {
            if let Some(answer) = self.parts.own.list(partition, listing.clone()).await {
                return Some(answer);
            }
            let limit = listing.limit.to_string();
            let mut query = vec![("prefix", &*listing.prefix), ("limit", &*limit)];
            if let Some(after) = &listing.after {
                query.push(("after", after));
            }
            let bytes = self.ask(partition, LIST_ROUTE, &query).await?;
            Self::understood(wire::decode_list(&self.log(partition), &listing, &bytes), partition)
        })
    }
}

/// What this process tells another of a head; none if it does not own the partition.
pub async fn tell_head(own: &dyn LiveHeads, log: &PartitionKey, id: &str) -> Option<Vec<u8>> {
    let answer = own.head(log.partition, id.into()).await?;
    Some(wire::encode_head(log, id, &answer))
}

/// What this process tells another of what is in its memory; none if it does not own the partition.
pub async fn tell_list(own: &dyn LiveHeads, log: &PartitionKey, listing: Listing) -> Option<Vec<u8>> {
    let answer = own.list(log.partition, listing.clone()).await?;
    Some(wire::encode_list(log, &listing, &answer))
}
