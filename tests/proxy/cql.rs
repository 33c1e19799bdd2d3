//! Frames of the native protocol (version 4) between the driver and the server, and what may happen to one
//! that runs a prepared statement: it is answered with an error, its connection breaks, or nobody answers;
//! each of them before the server got it or after. Connections that ask for events are left alone, because
//! the driver looks after itself there. Statements that write to one table can be held, so that whoever waits
//! for them can be killed just there. Used by tests of the library as well as by `tests/it`.
//!
//! Why not `scylla-proxy`: a dev-dependency cannot be left out of the bare build, and it brings tokio.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const HEADER_BYTES: usize = 9;
const REGISTER: u8 = 0x0b;
const PREPARE: u8 = 0x09;
const RESULT: u8 = 0x08;
const EXECUTE: u8 = 0x0a;
const ERROR: u8 = 0x00;

/// What happens to a statement.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// The driver gets this body of an `ERROR` frame.
    Answered(Vec<u8>),
    /// The connection ends.
    Broken,
    /// Nobody answers.
    Silent,
}

/// Whether the server gets the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

#[derive(Default)]
struct Plan {
    /// Statements that pass first.
    skip: usize,
    fate: Option<(Fate, Moment)>,
    met: usize,
}

/// Statements that wait until they are let go.
#[derive(Default)]
struct Gate {
    /// What prepared statements say, by their ids.
    texts: Mutex<BTreeMap<Vec<u8>, String>>,
    /// Which statements are held, and when; nothing where all may pass.
    holds: Mutex<Option<(String, Moment)>>,
    held: Mutex<usize>,
    /// Changes when those that are held may go on.
    let_go: watch::Sender<usize>,
}

/// A proxy in front of one node.
pub(crate) struct Proxy {
    pub(crate) address: String,
    plan: Arc<Mutex<Plan>>,
    gate: Arc<Gate>,
}

/// The two ends of one connection, and the streams whose answers are not what the server says.
struct Connection {
    plan: Arc<Mutex<Plan>>,
    gate: Arc<Gate>,
    to_driver: tokio::sync::Mutex<OwnedWriteHalf>,
    spoilt: Mutex<BTreeSet<[u8; 2]>>,
    /// Streams whose answers are held.
    held: Mutex<BTreeSet<[u8; 2]>>,
    /// Statements that are being prepared, by their streams.
    preparing: Mutex<BTreeMap<[u8; 2], String>>,
}

impl Proxy {
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let gate = Arc::new(Gate::default());
        let ours = (Arc::clone(&plan), Arc::clone(&gate));
        tokio::spawn(async move {
            while let Ok((driver, _)) = listener.accept().await {
                let Ok(node) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(connection(driver, node, ours.clone()));
            }
        });
        Self { address, plan, gate }
    }

    /// From now on, statements that insert into this table wait: those that the server has not got, or their
    /// answers.
    pub(crate) fn hold(&self, table: &str, moment: Moment) {
        *self.gate.held.lock().unwrap() = 0;
        *self.gate.holds.lock().unwrap() = Some((format!(".{table} ("), moment));
    }

    /// How many wait, or have waited since the last [`Self::hold`].
    pub(crate) fn held(&self) -> usize {
        *self.gate.held.lock().unwrap()
    }

    /// From now on, no other statement is held.
    pub(crate) fn hold_no_more(&self) {
        *self.gate.holds.lock().unwrap() = None;
    }

    /// Lets all go on that wait, also where nobody waits for their answers any more.
    pub(crate) fn let_go(&self) {
        self.gate.let_go.send_modify(|times| *times += 1);
    }

    /// From now on, all statements but the first `skip` meet this.
    pub(crate) fn spoil(&self, skip: usize, fate: Fate, moment: Moment) {
        *self.plan.lock().unwrap() = Plan { skip, fate: Some((fate, moment)), met: 0 };
    }

    /// From now on, everything passes. Tells how many statements met their fate.
    pub(crate) fn pass(&self) -> usize {
        std::mem::take(&mut *self.plan.lock().unwrap()).met
    }
}

impl Plan {
    fn next(&mut self) -> Option<(Fate, Moment)> {
        let fate = self.fate.clone()?;
        if let Some(skip) = self.skip.checked_sub(1) {
            self.skip = skip;
            return None;
        }
        self.met += 1;
        Some(fate)
    }
}

impl Gate {
    /// Whether a statement is to be held at this moment.
    fn holds(&self, frame: &[u8], moment: Moment) -> bool {
        let holds = self.holds.lock().unwrap();
        let Some((table, at)) = &*holds else { return false };
        let texts = self.texts.lock().unwrap();
        let Some(text) = short_bytes(&frame[HEADER_BYTES..]).and_then(|id| texts.get(id)) else {
            return false;
        };
        *at == moment && text.starts_with("INSERT") && text.contains(table.as_str())
    }

    async fn passed(&self) {
        let mut let_go = self.let_go.subscribe();
        *self.held.lock().unwrap() += 1;
        // The sender lives as long as the gate.
        let _ = let_go.changed().await;
    }
}

/// A text or an id with its length before it.
fn short_bytes(body: &[u8]) -> Option<&[u8]> {
    let (len, rest) = body.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

async fn connection(driver: TcpStream, node: TcpStream, (plan, gate): (Arc<Mutex<Plan>>, Arc<Gate>)) {
    let ((from_driver, to_driver), (from_node, to_node)) = (driver.into_split(), node.into_split());
    let to_driver = tokio::sync::Mutex::new(to_driver);
    let connection = Connection {
        plan,
        gate,
        to_driver,
        spoilt: Mutex::default(),
        held: Mutex::default(),
        preparing: Mutex::default(),
    };
    // Whichever ends first ends both.
    tokio::select! {
        _ = connection.requests(from_driver, to_node) => {}
        _ = connection.answers(from_node) => {}
    }
}

async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER_BYTES];
    from.read_exact(&mut frame).await?;
    let bytes = u32::from_be_bytes(*frame.last_chunk().expect("a header ends with the length")) as usize;
    frame.resize(HEADER_BYTES + bytes, 0);
    from.read_exact(&mut frame[HEADER_BYTES..]).await?;
    Ok(frame)
}

fn stream(frame: &[u8]) -> [u8; 2] {
    [frame[2], frame[3]]
}

impl Connection {
    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut is_spared = false;
        loop {
            let frame = frame(&mut from).await?;
            is_spared |= frame[4] == REGISTER;
            self.note(&frame).await;
            let is_statement = frame[4] == EXECUTE && !is_spared;
            let fate = if is_statement { self.plan.lock().unwrap().next() } else { None };
            match fate {
                None => to.write_all(&frame).await?,
                Some((_, Moment::After)) => {
                    self.spoilt.lock().unwrap().insert(stream(&frame));
                    to.write_all(&frame).await?;
                }
                Some((fate, Moment::Before)) => self.meet(fate, stream(&frame)).await?,
            }
        }
    }

    /// Looks at what the driver asks; comes back once the statement may go on.
    async fn note(&self, frame: &[u8]) {
        let body = &frame[HEADER_BYTES..];
        match frame[4] {
            PREPARE => {
                let text = String::from_utf8_lossy(body.get(4..).unwrap_or_default()).into_owned();
                self.preparing.lock().unwrap().insert(stream(frame), text);
            }
            EXECUTE if self.gate.holds(frame, Moment::Before) => self.gate.passed().await,
            EXECUTE if self.gate.holds(frame, Moment::After) => {
                self.held.lock().unwrap().insert(stream(frame));
            }
            _ => {}
        }
    }

    /// Learns the id of a statement.
    fn prepared(&self, frame: &[u8]) {
        let Some(text) = self.preparing.lock().unwrap().remove(&stream(frame)) else { return };
        let body = &frame[HEADER_BYTES..];
        if frame[4] == RESULT && body.starts_with(&[0, 0, 0, 4]) {
            let id = short_bytes(&body[4..]).unwrap_or_default().to_vec();
            self.gate.texts.lock().unwrap().insert(id, text);
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf) -> io::Result<()> {
        loop {
            let frame = frame(&mut from).await?;
            self.prepared(&frame);
            if self.held.lock().unwrap().remove(&stream(&frame)) {
                self.gate.passed().await;
            }
            let fate = if self.spoilt.lock().unwrap().remove(&stream(&frame)) {
                self.plan.lock().unwrap().fate.clone()
            } else {
                None
            };
            match fate {
                None => self.to_driver.lock().await.write_all(&frame).await?,
                Some((fate, _)) => self.meet(fate, stream(&frame)).await?,
            }
        }
    }

    async fn meet(&self, fate: Fate, stream: [u8; 2]) -> io::Result<()> {
        match fate {
            Fate::Answered(body) => {
                let mut frame = vec![0x84, 0, stream[0], stream[1], ERROR];
                frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
                frame.extend_from_slice(&body);
                self.to_driver.lock().await.write_all(&frame).await
            }
            Fate::Broken => Err(io::ErrorKind::ConnectionReset.into()),
            Fate::Silent => Ok(()),
        }
    }
}
