//! Making a pack of blocks from records that come in footer order: each body is written straight into its
//! block, and each block is compressed, decoded again and compared as soon as it is long enough.
//!
//! Invariant: records of different *lanes* never share a block, and frames are numbered by their first entry.
//!
//! COST: one block per lane is open; of a record that is in a closed block only its row is left.

use super::facts::Mark;
use super::header::Header;
use super::merkle;
use super::rows::{Body, Rows, lay_out};
use super::writer::check;
use crate::codec::compress::{Algorithm, Compression, Encoded, Encoder, RAW_LEN_MAX, decode_into};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::record::RecordMeta;

/// Uncompressed bytes at which a block ends.
pub const BLOCK_LEN: usize = 16 << 10;

/// Collects the blocks of one pack.
pub struct BlockWriter {
    header: Header,
    encoder: Encoder,
    rows: Rows,
    /// By number; none while the block is open.
    frames: Vec<Option<Encoded>>,
    lanes: Vec<Lane>,
    /// The block that was closed last.
    closed: Lane,
    identity: Vec<u8>,
}

/// A block: the open one of a lane, or one as it reads back.
#[derive(Default)]
struct Lane {
    frame: usize,
    raw: Vec<u8>,
    bodies: Vec<BlockBody>,
}

/// A body in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockBody {
    /// Its first byte in the block.
    pub start: u32,
    /// Its bytes.
    pub len: u32,
    /// CRC32C over the record's identity and its body.
    pub crc: u32,
}

/// A block that is closed.
#[derive(Debug)]
pub struct Block<'a> {
    /// Number of its frame.
    pub frame: usize,
    /// What its frame decodes to.
    pub raw: &'a [u8],
    /// Its bodies, in the order in which they were added.
    pub bodies: &'a [BlockBody],
}

/// A pack of blocks, ready to be stored.
#[derive(Clone, Debug)]
pub struct BlockPack {
    /// The whole object.
    pub bytes: Vec<u8>,
    /// Where its frames are, by number.
    pub frames: Vec<FramePlace>,
}

/// Where a frame is in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// Its first byte.
    pub offset: u64,
    /// Its bytes as stored.
    pub len: u32,
    /// Its bytes uncompressed.
    pub raw_len: u32,
    /// How it is compressed.
    pub algorithm: Algorithm,
}

impl BlockWriter {
    /// An empty pack with this many lanes, and room for the rows of so many records.
    ///
    /// # Errors
    /// `Internal` if the codec does not take its settings.
    pub fn new(header: Header, compression: Compression, lanes: usize, records: usize) -> Result<Self> {
        Ok(Self {
            header,
            encoder: Encoder::new(compression, None)?,
            rows: Rows::with_capacity(records),
            frames: Vec::new(),
            lanes: std::iter::repeat_with(Lane::default).take(lanes).collect(),
            closed: Lane::default(),
            identity: Vec::new(),
        })
    }

    /// Adds the record that comes next in footer order; `write` appends its body. True if the block of its
    /// lane is long enough to be closed.
    ///
    /// # Errors
    /// `Invalid` if the record cannot be stored in a pack, `Internal` if it comes out of order; the pack is
    /// of no use then.
    pub fn add(
        &mut self,
        lane: usize,
        meta: &RecordMeta,
        write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<bool> {
        check(meta)?;
        let lane = &mut self.lanes[lane];
        if lane.bodies.is_empty() {
            lane.frame = self.frames.len();
            self.frames.push(None);
        }
        let start = lane.raw.len();
        write(&mut lane.raw)?;
        if lane.raw.len() > RAW_LEN_MAX {
            let detail = format!("a body of `{}` bytes is over the limit", lane.raw.len() - start);
            return Err(Error::new(ErrorKind::Invalid, "bad-body", detail));
        }
        merkle::identity(&mut self.identity, &meta.id);
        let body = Body::new(&self.identity, &lane.raw[start..]);
        self.rows.push(meta, None, lane.frame, &body)?;
        lane.bodies.push(BlockBody { start: start as u32, len: body.len as u32, crc: body.crc });
        Ok(lane.raw.len() >= BLOCK_LEN)
    }

    /// Says which low watermarks hold once the pack is durable.
    pub fn mark(&mut self, marks: Vec<Mark>) {
        self.rows.mark(marks);
    }

    /// Closes the open block of a lane, if there is one, and decodes it again.
    ///
    /// # Errors
    /// `Internal` if it does not decode to what was written.
    pub fn close(&mut self, lane: usize) -> Result<Option<Block<'_>>> {
        let (lane, closed) = (&mut self.lanes[lane], &mut self.closed);
        if lane.bodies.is_empty() {
            return Ok(None);
        }
        let frame = self.encoder.encode(&lane.raw)?;
        decode_into(&mut closed.raw, frame.algorithm, &frame.bytes, frame.raw_len, None)?;
        if closed.raw != lane.raw {
            return Err(Error::new(ErrorKind::Internal, "corrupt", "a block does not decode to what it was"));
        }
        self.frames[lane.frame] = Some(frame);
        lane.raw.clear();
        closed.bodies.clear();
        std::mem::swap(&mut closed.bodies, &mut lane.bodies);
        Ok(Some(Block { frame: lane.frame, raw: &closed.raw, bodies: &closed.bodies }))
    }

    /// The object.
    ///
    /// # Errors
    /// `Invalid` if it has too many entries.
    ///
    /// # Panics
    /// If a block is open.
    pub fn finish(mut self) -> Result<BlockPack> {
        let frames: Vec<&Encoded> =
            self.frames.iter().map(|frame| frame.as_ref().expect("every block was closed")).collect();
        let laid = lay_out(&mut self.header, &frames, &self.rows)?;
        let place = |(frame, offset): (&&Encoded, u64)| FramePlace {
            offset,
            len: frame.bytes.len() as u32,
            raw_len: frame.raw_len as u32,
            algorithm: frame.algorithm,
        };
        let frames = frames.iter().zip(laid.offsets).map(place).collect();
        Ok(BlockPack { bytes: laid.bytes, frames })
    }
}
