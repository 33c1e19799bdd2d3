//! `dev`: everything in one process. librdkafka's mock cluster is the broker, the embedded index and a folder
//! are the stores; events come from files, a pipe or the sample that comes with the program.
//!
//! *If it fails*: what is covered is in the data directory. *What may leak*: the temporary folder, if the
//!   process is killed.

use super::address::{Address, Moment};
use super::args::DevArgs;
use super::failure::{Done, Exit, Failure};
use super::feed::{Ended, Fed, Feeder, Input, Lines};
use super::run::{fault, runtime, start_logging, until_told_to_stop};
use super::screen::Screen;
use super::source::{load_config, load_text};
use super::stack::{Options, Stack};
use crate::codec::envelope::Envelope;
use crate::config::{Blobs, Config, Format, Index, Stream};
use crate::domain::ids::Version;
use crate::domain::moment;
use crate::kafka::{MockBroker, Producer, ProducerSettings};
use crate::lookup::{Freshness, Selector};
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The sample: releases of @mdn/browser-compat-data (CC0-1.0).
const SAMPLE: &[u8] = include_bytes!("../../assets/browser-compat/compat-releases.ndjson.zst");
/// How it folds.
const SAMPLE_CONFIG: &str = include_str!("../../config/compat.yaml");
/// Time between two looks at how far everything is.
const LOOK: Duration = Duration::from_millis(50);

/// The `dev` command.
pub(super) fn run(args: &DevArgs, screen: &mut Screen<'_>) -> Done {
    start_logging()?;
    let mut config = match &args.config {
        Some(path) => load_config(path, &args.sets)?,
        None => load_text("the bundled configuration", SAMPLE_CONFIG, &args.sets)?,
    };
    refuse_avro(&config)?;
    let inputs = inputs(args, &config)?;
    let folder = Folder::open(args.data_dir.as_deref())?;
    let topics: Vec<(&str, i32)> =
        config.streams.iter().map(|stream| (&*stream.topic, i32::from(args.partitions))).collect();
    let broker = MockBroker::start(&topics).map_err(fault)?;
    if args.config.is_some() {
        eprintln!("dev replaces `kafka`, `index`, `blobs`, `registry` and `http` of the file");
    }
    config.kafka.brokers = broker.bootstrap().to_owned();
    config.kafka.properties.clear();
    config.registry = None;
    config.index = Index::Embedded { path: folder.path.join("index").display().to_string() };
    config.blobs = Blobs::Directory { path: folder.path.join("blobs").display().to_string() };
    if let Some(archive) = &mut config.archive {
        archive.place = Blobs::Directory { path: folder.path.join("archive").display().to_string() };
    }
    config.http.listen = format!("127.0.0.1:{}", args.port);
    config.http.admin = config.http.listen.clone();
    let runtime = runtime(&config)?;
    let done: Done = runtime.block_on(async {
        let stack =
            Stack::start(&config, Options { new_lineage: true, more_partitions: false, own_broker: true })
                .await?;
        let stopping = until_told_to_stop().shared();
        let told = stopping.clone();
        let outcome = tokio::select! {
            outcome = play(args, &stack, &inputs, &broker, screen) => outcome.map(Some),
            () = told => Ok(None),
        };
        let fed = outcome.as_ref().is_ok_and(Option::is_some);
        if fed && !args.exit {
            stopping.await;
        }
        let written = Arc::clone(&stack.written);
        eprintln!("stopping: covering what is not yet covered ...");
        stack.stop().await;
        let count = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
        eprintln!(
            "wrote {} snapshots in {} packs and {} checkpoints, {} in all{}",
            count(&written.snapshots),
            count(&written.packs),
            count(&written.checkpoints),
            show_rounded(count(&written.pack_bytes) + count(&written.checkpoint_bytes)),
            if folder.kept { format!(", to {}", folder.path.display()) } else { String::new() },
        );
        outcome.map(|_| ())
    });
    // Everything is covered; who still waits for a line of an open pipe may wait for ever.
    runtime.shutdown_background();
    done
}

/// Which input goes to which stream.
fn inputs(args: &DevArgs, config: &Config) -> Done<Vec<(Stream, Input)>> {
    if args.events.is_empty() && args.config.is_none() {
        return Ok(vec![(config.streams[0].clone(), Input::Bundled(SAMPLE))]);
    }
    let mut inputs = Vec::new();
    for given in &args.events {
        // A type is a prefix only if there is such a stream: file names may hold `=`.
        let named = given.split_once('=').and_then(|(kind, file)| {
            let stream = config.streams.iter().find(|stream| *stream.kind == *kind)?;
            Some((stream, file))
        });
        let (stream, file) = match (named, config.streams.as_slice()) {
            (Some(named), _) => named,
            (None, [only]) => (only, given.as_str()),
            (None, streams) => {
                let kinds: Vec<&str> = streams.iter().map(|stream| &*stream.kind).collect();
                let hint = format!("write --events TYPE={given} with one of {}", kinds.join(", "));
                return Err(Failure::new(
                    Exit::Usage,
                    "there are several streams: which are these events of?",
                )
                .hint(hint));
            }
        };
        let input = if file == "-" { Input::Pipe } else { Input::File(PathBuf::from(file)) };
        if let Input::File(path) = &input
            && let Err(error) = std::fs::File::open(path)
        {
            return Err(Failure::new(Exit::Failure, format!("read {}: {error}", path.display()))
                .hint("check the path and its rights"));
        }
        if !args.records && !has_payload_id(stream) {
            let hint =
                "add a pointer into the value to `map.aggregateId`, or feed whole records with --records";
            return Err(Failure::new(
                Exit::Config,
                format!(
                    "stream `{}`: a line has no key, and `map.aggregateId` names no place in the value",
                    stream.kind
                ),
            )
            .hint(hint));
        }
        inputs.push((stream.clone(), input));
    }
    Ok(inputs)
}

/// `dev` has no registry.
fn refuse_avro(config: &Config) -> Done {
    match config.streams.iter().find(|stream| stream.format == Format::In(Envelope::Avro)) {
        None => Ok(()),
        Some(stream) => {
            let message = format!("stream `{}` is Avro, and `dev` has no schema registry", stream.kind);
            let hint = "feed the same events as JSON with `--set streams.0.format=json`, or use `run`";
            Err(Failure::new(Exit::Config, message).hint(hint))
        }
    }
}

/// Whether a line that is only a value says whose it is.
fn has_payload_id(stream: &Stream) -> bool {
    use crate::domain::mapping::Place;
    // Attributes stand in the value of a structured event.
    let has_attributes = stream.format == Format::In(Envelope::CloudEvents);
    stream.mapping.aggregate_id.iter().any(|place| match place {
        Place::Value(_) | Place::Const(_) => true,
        Place::Header(name) => has_attributes && name.starts_with("ce_"),
        Place::Key | Place::KeyValue(_) => false,
    })
}

/// Where `dev` keeps its data.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    fn open(given: Option<&Path>) -> Done<Self> {
        let kept = given.is_some();
        let path = given.map_or_else(
            || std::env::temp_dir().join(format!("snapfold-dev-{}", std::process::id())),
            Path::to_owned,
        );
        std::fs::create_dir_all(&path).map_err(|error| {
            Failure::new(Exit::Failure, format!("create {}: {error}", path.display()))
                .hint("name another folder with --data-dir")
        })?;
        Ok(Self { path, kept })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // It lies in the system's temporary folder, which is cleaned anyway.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Feeds, waits until everything is folded, says what to try.
async fn play(
    args: &DevArgs,
    stack: &Stack,
    inputs: &[(Stream, Input)],
    broker: &MockBroker,
    screen: &mut Screen<'_>,
) -> Done<()> {
    if inputs.is_empty() {
        eprintln!("serving on http://{}; produce to {} (Kafka protocol)", stack.address, broker.bootstrap());
        return Ok(());
    }
    stack.open.store(false, Ordering::Relaxed);
    let producer = Producer::start(&ProducerSettings {
        records_max: 20_000,
        bytes_max: 1 << 20,
        ..ProducerSettings::new(broker.bootstrap())
    });
    let producer = producer.map_err(fault)?;
    let bar = Progress::start(stack);
    let mut total = 0;
    let mut tries = Vec::new();
    for (stream, input) in inputs {
        let fed = Arc::new(Fed::default());
        bar.follow(&fed, input);
        let feeder = Feeder {
            stream,
            input: input.clone(),
            lines: if args.records { Lines::Records } else { Lines::Values },
            worker: &stack.workers[&stream.kind],
            producer: &producer,
            fed: Arc::clone(&fed),
        };
        let ended = bar.beside(feeder.run()).await?;
        if let Ended::Cut(line, bytes) = ended {
            bar.say(&format!(
                "{} ends in the middle of line {line}: its {bytes} bytes were not fed",
                input.name()
            ));
        }
        total += fed.events.load(Ordering::Relaxed);
        bar.beside(folded(stack, stream, fed.events.load(Ordering::Relaxed))).await?;
        tries.push((stream, fed));
    }
    bar.end();
    eprintln!("fed {total} events");
    stack.open.store(true, Ordering::Relaxed);
    while !stack.readiness().ready {
        tokio::time::sleep(LOOK).await;
    }
    eprintln!("serving on http://{}", stack.address);
    if let Some((stream, fed)) = tries.first() {
        for line in suggest(stack, stream, fed).await {
            screen.line(&line)?;
        }
        screen.out.flush()?;
    }
    Ok(())
}

/// Waits until a stream has folded so many records.
async fn folded(stack: &Stack, stream: &Stream, events: u64) -> Done<()> {
    let handle = &stack.workers[&stream.kind];
    loop {
        {
            let statuses = handle.statuses.lock().expect("no panic while the map is held");
            let halted =
                statuses.iter().find_map(|(partition, status)| Some((partition, status.halted.as_ref()?)));
            if let Some((partition, (offset, poison))) = halted {
                let hint = "fix the mapping or the reducer, or choose another `onPoison`";
                return Err(Failure::new(
                    Exit::Failure,
                    format!("partition {partition} stopped before offset {offset}: {poison}"),
                )
                .hint(hint));
            }
            let position: i64 = statuses.values().map(|status| status.position.0).sum();
            if u64::try_from(position).unwrap_or(0) >= events {
                return Ok(());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Four commands made from what was folded: the aggregate with the longest history.
async fn suggest(stack: &Stack, stream: &Stream, fed: &Fed) -> Vec<String> {
    let longest = {
        let aggregates = fed.aggregates.lock().expect("no panic while it is held");
        let longest = aggregates.iter().max_by_key(|(id, count)| (**count, std::cmp::Reverse((*id).clone())));
        longest.map(|(id, _)| Arc::clone(id))
    };
    let Some(id) = longest else { return Vec::new() };
    let lookup = &stack.streams.by_type[&stream.kind];
    let Ok(head) = lookup.state(&id, Selector::Head, Freshness::default()).await else { return Vec::new() };
    let head = head.aggregate.version.0;
    let middle = head.div_ceil(2).max(1);
    let time = match lookup.state(&id, Selector::Version(Version(middle)), Freshness::default()).await {
        Ok(answer) => moment::format(answer.aggregate.effective_time),
        Err(_) => return Vec::new(),
    };
    let server = if stack.address.port() == 8080 {
        String::new()
    } else {
        format!(" --server http://{}", stack.address)
    };
    let plain = format!("{}/{id}", stream.kind);
    let address = quoted(&plain);
    // An id may end like a moment.
    let newest = match Address::split(&plain) {
        Ok((_, Moment::Head)) => address.clone(),
        _ => format!("{address} --version {head}"),
    };
    let at = quoted(&format!("{}/{id}@{time}", stream.kind));
    vec![
        "try:".to_owned(),
        format!("  snapfold get {newest}{server}"),
        format!("  snapfold get {at}{server}"),
        format!("  snapfold diff {address} {}..{head}{server}", middle.min(head)),
        format!("  snapfold log {address} -p{server}"),
    ]
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.:@+,%=".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The progress bar: only where stderr is a terminal.
struct Progress {
    bar: ProgressBar,
    written: Arc<crate::store::flush::Written>,
    fed: std::sync::Mutex<Option<Arc<Fed>>>,
}

impl Progress {
    fn start(stack: &Stack) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style =
            ProgressStyle::with_template("{bar:24} {percent:>3}%  {msg}").expect("the template is one");
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Self { bar, written: Arc::clone(&stack.written), fed: std::sync::Mutex::default() }
    }

    fn follow(&self, fed: &Arc<Fed>, input: &Input) {
        match input {
            Input::Bundled(bytes) => self.bar.set_length(bytes.len() as u64),
            Input::File(path) => self.bar.set_length(std::fs::metadata(path).map_or(0, |data| data.len())),
            Input::Pipe => {}
        }
        *self.fed.lock().expect("no panic while it is held") = Some(Arc::clone(fed));
    }

    /// Runs a future and draws meanwhile.
    async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut last = (0, 0.0);
        loop {
            match tokio::time::timeout(Duration::from_millis(200), &mut work).await {
                Ok(done) => return done,
                Err(_) => last = self.draw(last),
            }
        }
    }

    fn draw(&self, (events_before, rate_before): (u64, f64)) -> (u64, f64) {
        let count = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
        let fed = self.fed.lock().expect("no panic while it is held");
        let Some(fed) = fed.as_ref() else { return (events_before, rate_before) };
        let events = count(&fed.events);
        // Smoothed over about a second.
        let rate = 0.8 * rate_before + 0.2 * 5.0 * events.saturating_sub(events_before) as f64;
        self.bar.set_position(count(&fed.read));
        self.bar.set_message(format!(
            "{events} events  {rate:.0}/s  {} snapshots  {} raw -> {} stored",
            count(&self.written.snapshots),
            show_rounded(count(&self.written.raw_bytes)),
            show_rounded(count(&self.written.stored_bytes)),
        ));
        (events, rate)
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes for people: three digits and a unit.
fn show_rounded(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1_000.0 || unit == "GiB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1_024.0;
    }
    format!("{value:.1} TiB")
}
