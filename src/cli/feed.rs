//! Events from files and pipes into the broker of `dev`.
//!
//! The broker forgets: it keeps some 5 MiB a partition and drops the oldest without a word. INVARIANT: what
//! is written and not yet below the low watermark never exceeds [`WINDOW_BYTES`] in any partition, plus what
//! is under way; so whatever the broker drops is kept by a snapshot or a checkpoint. Where the window is full
//! a checkpoint is asked for at once.

use super::failure::{Done, Exit, Failure};
use crate::config::Stream;
use crate::domain::event::Decode;
use crate::domain::ids::{Offset, PartitionNo, Timestamp};
use crate::domain::record::{Headers, RawRecord};
use crate::kafka::{Delivery, Outgoing, Producer};
use crate::worker::Handle;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// Uncovered bytes that one partition of the mock broker may hold; it drops records beyond 5 MiB.
const WINDOW_BYTES: u64 = 3 << 20;
/// What the broker adds to each record, from above.
const RECORD_OVERHEAD: u64 = 80;
/// Lines that travel together from the reading thread.
const CHUNK_LINES: usize = 500;
/// Bytes that end a chunk early.
const CHUNK_BYTES: usize = 256 << 10;
/// Longest line that is read into memory.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Aggregates of which the number of events is remembered, to suggest commands from.
const REMEMBERED: usize = 10_000;

/// Where lines come from.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// The events that come with the program, compressed.
    Bundled(&'static [u8]),
    /// A file; one that ends in `.zst` is compressed.
    File(PathBuf),
    /// Standard input.
    Pipe,
}

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// The value of a record.
    Values,
    /// A whole record: `{"key":…,"value":…,"headers":{…},"timestamp":…}`.
    Records,
}

/// Progress of feeding, readable while it runs.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// Events written and acknowledged by the broker.
    pub(super) events: AtomicU64,
    /// Their bytes.
    pub(super) bytes: AtomicU64,
    /// Bytes of the input that were read, before decompression.
    pub(super) read: Arc<AtomicU64>,
    /// Events per aggregate, of the first [`REMEMBERED`] aggregates.
    pub(super) aggregates: Mutex<BTreeMap<Arc<str>, u64>>,
}

/// One input for one stream.
pub(super) struct Feeder<'a> {
    pub(super) stream: &'a Stream,
    pub(super) input: Input,
    pub(super) lines: Lines,
    pub(super) worker: &'a Handle,
    pub(super) producer: &'a Producer,
    pub(super) fed: Arc<Fed>,
}

/// One line, with its number from 1.
struct Line {
    number: u64,
    text: Vec<u8>,
}

/// How an input ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With the end of a line.
    Whole,
    /// In the middle of one: so many bytes of line number so and so, which were not fed.
    Cut(u64, usize),
}

impl Feeder<'_> {
    /// Feeds everything; returns once the broker has acknowledged it all.
    pub(super) async fn run(self) -> Done<Ended> {
        let (sender, mut chunks) = mpsc::channel::<Vec<Line>>(4);
        let (input, read) = (self.input.clone(), Arc::clone(&self.fed.read));
        let reading = tokio::task::spawn_blocking(move || read_lines(input, read, &sender));
        let window = Arc::new(Window::default());
        let (under_way, mut deliveries) = mpsc::unbounded_channel::<(Delivery, u64)>();
        let (settled, fed) = (Arc::clone(&window), Arc::clone(&self.fed));
        let settling = tokio::spawn(async move {
            while let Some((delivery, bytes)) = deliveries.recv().await {
                let (partition, offset) = delivery.await?;
                settled.add(partition, offset, bytes);
                fed.events.fetch_add(1, Ordering::Relaxed);
                fed.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok::<(), crate::domain::outcome::PortError>(())
        });
        let decoder = self.stream.decoder(None);
        while let Some(chunk) = chunks.recv().await {
            self.wait_for_room(&window).await;
            for line in chunk {
                let sent = self.send(&*decoder, &line).await?;
                if under_way.send(sent).is_err() {
                    break;
                }
            }
        }
        drop(under_way);
        let broken = |why: String| {
            Failure::new(Exit::Unreachable, format!("write to the broker: {why}"))
                .hint("start again; nothing durable is lost")
        };
        settling
            .await
            .map_err(|error| broken(error.to_string()))?
            .map_err(|error| broken(error.to_string()))?;
        reading.await.map_err(|error| broken(error.to_string()))?
    }

    /// Waits until no partition holds too much that is not covered.
    async fn wait_for_room(&self, window: &Window) {
        loop {
            let statuses = self.worker.statuses.lock().expect("no panic while the map is held").clone();
            let marks = statuses.into_iter().map(|(partition, status)| (partition, status.low_watermark));
            if window.fullest(marks) < WINDOW_BYTES {
                return;
            }
            self.worker.checkpoint_soon();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn send(&self, decoder: &dyn Decode, line: &Line) -> Done<(Delivery, u64)> {
        let (record, id) = match self.lines {
            Lines::Values => record_of_value(decoder, &line.text),
            Lines::Records => {
                let record = record_of_line(&line.text).map_err(|why| {
                    let hint =
                        "with --records each line is {\"key\":…,\"value\":…,\"headers\":{…},\"timestamp\":…}";
                    let place = format!("{}: line {}", self.input.name(), line.number);
                    Failure::new(Exit::Failure, format!("{place}: {why}")).hint(hint)
                })?;
                let (id, _) = decoder.route(&record);
                (record, id)
            }
        };
        if let Some(id) = id {
            self.remember(id);
        }
        let bytes = record.bytes() as u64 + RECORD_OVERHEAD;
        let outgoing = Outgoing {
            topic: &self.stream.topic,
            partition: None,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
            // Zero and below would mean "now" to librdkafka.
            timestamp: Some(Timestamp(record.record_time.0.max(1))),
        };
        let sent = self.producer.send(outgoing).await;
        let delivery = sent.map_err(|error| {
            Failure::new(Exit::Unreachable, format!("write to the broker: {error}")).hint("start again")
        })?;
        Ok((delivery, bytes))
    }

    fn remember(&self, id: Arc<str>) {
        let mut aggregates = self.fed.aggregates.lock().expect("no panic while it is held");
        if let Some(count) = aggregates.get_mut(&id) {
            *count += 1;
        } else if aggregates.len() < REMEMBERED {
            aggregates.insert(id, 1);
        }
    }
}

impl Input {
    /// How messages name it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Bundled(_) => "the bundled events".to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::Pipe => "standard input".to_owned(),
        }
    }
}

/// What the broker holds of each partition that nothing covers: end offsets and bytes up to there.
#[derive(Debug, Default)]
struct Window(Mutex<BTreeMap<PartitionNo, Held>>);

#[derive(Debug, Default)]
struct Held {
    records: VecDeque<(Offset, u64)>,
    bytes: u64,
}

impl Window {
    fn add(&self, partition: PartitionNo, offset: Offset, bytes: u64) {
        let mut held = self.0.lock().expect("no panic while it is held");
        let held = held.entry(partition).or_default();
        held.records.push_back((offset, bytes));
        held.bytes += bytes;
    }

    /// Forgets what lies below these low watermarks; bytes of the fullest partition.
    fn fullest(&self, marks: impl Iterator<Item = (PartitionNo, Offset)>) -> u64 {
        let mut held = self.0.lock().expect("no panic while it is held");
        for (partition, mark) in marks {
            let Some(held) = held.get_mut(&partition) else { continue };
            while let Some((offset, bytes)) =
                held.records.front().copied().filter(|(offset, _)| *offset < mark)
            {
                debug_assert!(offset < mark);
                held.records.pop_front();
                held.bytes -= bytes;
            }
        }
        held.values().map(|held| held.bytes).max().unwrap_or(0)
    }
}

/// The line is the value; key and timestamp are what the mapping finds in it.
fn record_of_value(decoder: &dyn Decode, text: &[u8]) -> (RawRecord, Option<Arc<str>>) {
    let mut record = RawRecord { value: Some(text.into()), ..RawRecord::default() };
    let (id, time) = decoder.route(&record);
    record.key = id.as_ref().map(|id| id.as_bytes().into());
    record.record_time = time;
    (record, id)
}

/// A record as a line of `--records` writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine<'a> {
    #[serde(default, borrow)]
    key: Option<&'a RawValue>,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    headers: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    timestamp: Option<i64>,
}

/// The record that a line writes.
pub(super) fn record_of_line(text: &[u8]) -> Result<RawRecord, String> {
    let line: RecordLine<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let bytes = |raw: Option<&RawValue>| -> Result<Option<Arc<[u8]>>, String> {
        let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
        // A text stands for its characters, everything else for its JSON.
        if raw.get().starts_with('"') {
            let text: String = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
            return Ok(Some(text.as_bytes().into()));
        }
        Ok(Some(raw.get().as_bytes().into()))
    };
    let mut headers = Headers::new();
    for (name, value) in line.headers {
        let value = match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.as_bytes().into()),
            _ => return Err(format!("header `{name}` is neither a text nor null")),
        };
        headers.push((name.into(), value));
    }
    Ok(RawRecord {
        key: bytes(line.key)?,
        value: bytes(line.value)?,
        headers,
        record_time: Timestamp(line.timestamp.unwrap_or(1)),
        ..RawRecord::default()
    })
}

/// Counts what passes.
struct Counted<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn open(input: &Input, read: Arc<AtomicU64>) -> std::io::Result<Box<dyn BufRead>> {
    let zstd = |source: Counted<Box<dyn Read>>| -> std::io::Result<Box<dyn BufRead>> {
        Ok(Box::new(BufReader::with_capacity(1 << 20, zstd::stream::read::Decoder::new(source)?)))
    };
    match input {
        Input::Bundled(bytes) => zstd(Counted(Box::new(*bytes), read)),
        Input::File(path) => {
            let file: Box<dyn Read> = Box::new(File::open(path)?);
            if path.extension().is_some_and(|extension| extension == "zst") {
                return zstd(Counted(file, read));
            }
            Ok(Box::new(BufReader::with_capacity(1 << 20, Counted(file, read))))
        }
        Input::Pipe => Ok(Box::new(BufReader::with_capacity(1 << 20, Counted(std::io::stdin(), read)))),
    }
}

/// Reads lines until the end; empty ones are passed over.
fn read_lines(input: Input, read: Arc<AtomicU64>, chunks: &mpsc::Sender<Vec<Line>>) -> Done<Ended> {
    let name = input.name();
    let failed = |error: std::io::Error, number: u64| {
        let at = if number == 0 { String::new() } else { format!(" after line {number}") };
        Failure::new(Exit::Failure, format!("read {name}{at}: {error}"))
            .hint("check the path, its rights, and that it is whole")
    };
    let mut source = open(&input, read).map_err(|error| failed(error, 0))?;
    let (mut number, mut chunk, mut bytes) = (0, Vec::new(), 0);
    let ended = loop {
        let mut text = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let count =
            (&mut *source).take(limit).read_until(b'\n', &mut text).map_err(|error| failed(error, number))?;
        if count == 0 {
            break Ended::Whole;
        }
        number += 1;
        if text.last() == Some(&b'\n') {
            text.pop();
            if text.last() == Some(&b'\r') {
                text.pop();
            }
        } else if text.len() > LINE_BYTES_MAX {
            let hint = "one event is one line; is this NDJSON?";
            return Err(Failure::new(Exit::Failure, format!("{name}: line {number} is longer than 64 MiB"))
                .hint(hint));
        } else if !is_json(&text) {
            break Ended::Cut(number, text.len());
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        bytes += text.len();
        chunk.push(Line { number, text });
        if chunk.len() >= CHUNK_LINES || bytes >= CHUNK_BYTES {
            bytes = 0;
            if chunks.blocking_send(std::mem::take(&mut chunk)).is_err() {
                return Ok(Ended::Whole);
            }
        }
    };
    // The receiver is gone only where feeding has failed, which says more.
    let _ = chunks.blocking_send(chunk);
    Ok(ended)
}

/// A last line without an end is whole if it is a whole value.
fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> (Vec<(u64, Vec<u8>)>, Ended) {
        let path = std::env::temp_dir().join(format!("snapfold-feed-{}-{}", std::process::id(), text.len()));
        std::fs::write(&path, text).expect("a temporary file can be written");
        let (sender, mut receiver) = mpsc::channel(64);
        let ended = read_lines(Input::File(path.clone()), Arc::default(), &sender);
        drop(sender);
        std::fs::remove_file(&path).expect("it is there");
        let mut all = Vec::new();
        while let Some(chunk) = receiver.blocking_recv() {
            all.extend(chunk.into_iter().map(|line| (line.number, line.text)));
        }
        (all, ended.expect("a file can be read"))
    }

    #[test]
    fn lines_keep_their_numbers_and_a_cut_one_is_told() {
        let (all, ended) = lines(b"{\"a\":1}\r\n\n{\"b\":2}\n{\"c\":");
        assert_eq!(all, [(1, b"{\"a\":1}".to_vec()), (3, b"{\"b\":2}".to_vec())]);
        assert_eq!(ended, Ended::Cut(4, 5));
        let (all, ended) = lines(b"{\"a\":1}");
        assert_eq!((all.len(), ended), (1, Ended::Whole));
    }

    #[test]
    fn a_record_line_keeps_the_text_of_its_value() {
        let record = record_of_line(br#"{"key":"k","value":{"n":1.10,"big":12345678901234567890},"headers":{"h":"x","n":null},"timestamp":5}"#);
        let record = record.expect("it is a record");
        assert_eq!(record.value.as_deref(), Some(&br#"{"n":1.10,"big":12345678901234567890}"#[..]));
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!((record.headers.len(), record.record_time), (2, Timestamp(5)));
        assert_eq!(record_of_line(br#"{"key":"k","value":null}"#).expect("a tombstone").value, None);
        assert!(record_of_line(br#"{"val":1}"#).is_err());
        assert!(record_of_line(br#"{"headers":{"h":1}}"#).is_err());
    }

    #[test]
    fn what_the_low_watermark_has_passed_leaves_the_window() {
        let window = Window::default();
        for offset in 0..10 {
            window.add(PartitionNo(0), Offset(offset), 100);
            window.add(PartitionNo(1), Offset(offset), 10);
        }
        assert_eq!(window.fullest([(PartitionNo(0), Offset(4))].into_iter()), 600);
        assert_eq!(window.fullest([(PartitionNo(0), Offset(10))].into_iter()), 100);
    }
}
