//! Frames of the native protocol (version 4) between the driver and the server, and what may happen to one
//! that runs a prepared statement: it is answered with an error, its connection breaks, or nobody answers;
//! each of them before the server got it or after. Connections that ask for events are left alone, because
//! the driver looks after itself there.
//!
//! Why not `scylla-proxy`: a dev-dependency cannot be left out of the bare build, and it brings tokio.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

const HEADER_BYTES: usize = 9;
const REGISTER: u8 = 0x0b;
const EXECUTE: u8 = 0x0a;
const ERROR: u8 = 0x00;

/// What happens to a statement.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// The driver gets this body of an `ERROR` frame.
    Answered(Vec<u8>),
    /// The connection ends.
    Broken,
    /// Nobody answers.
    Silent,
}

/// Whether the server gets the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
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

/// A proxy in front of one node.
pub(super) struct Proxy {
    pub(super) address: String,
    plan: Arc<Mutex<Plan>>,
}

/// The two ends of one connection, and the streams whose answers are not what the server says.
struct Connection {
    plan: Arc<Mutex<Plan>>,
    to_driver: tokio::sync::Mutex<OwnedWriteHalf>,
    spoilt: Mutex<BTreeSet<[u8; 2]>>,
}

impl Proxy {
    pub(super) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let ours = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((driver, _)) = listener.accept().await {
                let Ok(node) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(connection(driver, node, Arc::clone(&ours)));
            }
        });
        Self { address, plan }
    }

    /// From now on, all statements but the first `skip` meet this.
    pub(super) fn spoil(&self, skip: usize, fate: Fate, moment: Moment) {
        *self.plan.lock().unwrap() = Plan { skip, fate: Some((fate, moment)), met: 0 };
    }

    /// From now on, everything passes. Tells how many statements met their fate.
    pub(super) fn pass(&self) -> usize {
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

async fn connection(driver: TcpStream, node: TcpStream, plan: Arc<Mutex<Plan>>) {
    let ((from_driver, to_driver), (from_node, to_node)) = (driver.into_split(), node.into_split());
    let to_driver = tokio::sync::Mutex::new(to_driver);
    let connection = Connection { plan, to_driver, spoilt: Mutex::default() };
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

    async fn answers(&self, mut from: OwnedReadHalf) -> io::Result<()> {
        loop {
            let frame = frame(&mut from).await?;
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
