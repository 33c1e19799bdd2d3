//! Compression of bodies and footers: one [`Encoder`] per (type, record kind, settings), one [`decode`] for
//! all.
//!
//! Invariants:
//! - `decode` is bomb-safe for every algorithm: output never exceeds the claimed length, the claim never
//!   exceeds [`RAW_LEN_MAX`], memory grows only as output really appears, and input must be used up exactly;
//! - what compression does not make smaller, or is shorter than the threshold, is stored plain;
//! - zstd frames keep their magic (so that the `zstd` tool reads them) and carry no content size, checksum or
//!   dictionary id: length, CRC and dictionary digest are in the pack's footer.
//!
//! COST: an `Encoder` keeps its zstd context and digested dictionary, which is most of the price of a small
//! body.

use crate::codec::dictionary::Dictionary;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ids::Digest;
use std::cell::RefCell;
use std::io::{Read, Write};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, DCtx, compress_bound, get_error_name};

/// Bytes that one body, or one block of bodies, may have uncompressed.
pub const RAW_LEN_MAX: usize = 128 << 20;

/// Bytes a decoder allocates before any output has been seen.
const FIRST_CAPACITY: usize = 64 << 10;

/// What zstd calls `ZSTD_error_dstSize_tooSmall`; the code itself is not a stable number.
const ZSTD_WANTS_ROOM: &str = "Destination buffer is too small";

/// How bytes are compressed. The codes are stored, so they never change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// Stored as they are.
    None = 0,
    /// Zstandard (RFC 8878), with a dictionary where there is one.
    #[default]
    Zstd = 1,
    /// gzip (RFC 1952).
    Gzip = 2,
    /// Brotli (RFC 7932).
    Brotli = 3,
    /// LZ4 block format, without a frame.
    Lz4 = 4,
}

impl Algorithm {
    /// Every algorithm, in the order of the codes.
    pub const ALL: [Self; 5] = [Self::None, Self::Zstd, Self::Gzip, Self::Brotli, Self::Lz4];

    /// The stored code.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The algorithm with this stored code; unknown codes are corrupt.
    pub fn from_code(code: u8) -> Result<Self> {
        let known = Self::ALL.get(usize::from(code)).copied();
        known.ok_or_else(|| Error::corrupt(format!("compression code `{code}` is unknown")))
    }

    /// The name in configuration and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Brotli => "brotli",
            Self::Lz4 => "lz4",
        }
    }

    /// The algorithm of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// What level 1 to 9 means to this codec. Level 3 is the hot path, 9 the slowest that pays. LZ4 has one
    /// level.
    fn native_level(self, level: u8) -> i32 {
        const ZSTD: [i32; 9] = [1, 2, 3, 4, 6, 9, 12, 16, 19];
        const BROTLI: [i32; 9] = [1, 3, 4, 5, 6, 7, 8, 9, 11];
        let step = usize::from(level.clamp(1, 9)) - 1;
        match self {
            Self::Zstd => ZSTD[step],
            Self::Brotli => BROTLI[step],
            Self::Gzip => step as i32 + 1,
            Self::None | Self::Lz4 => 0,
        }
    }
}

/// How one stream's bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The codec.
    pub algorithm: Algorithm,
    /// 1 (fastest) to 9 (smallest); values outside are clamped.
    pub level: u8,
    /// Bodies shorter than this many bytes are stored plain.
    pub threshold: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self { algorithm: Algorithm::Zstd, level: 3, threshold: 64 }
    }
}

/// Bytes as they are stored, and what [`decode`] needs to know about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The codec that was used; [`Algorithm::None`] where compression did not help.
    pub algorithm: Algorithm,
    /// The dictionary that was used.
    pub dictionary: Option<Digest>,
    /// Length before compression.
    pub raw_len: usize,
    /// The stored bytes.
    pub bytes: Vec<u8>,
}

/// Compresses many bodies with the same settings and dictionary.
pub struct Encoder {
    compression: Compression,
    dictionary: Option<Digest>,
    zstd: Option<Compressor<'static>>,
    /// COST: output is compressed into this and then copied: zstd wants more room than it uses.
    room: Vec<u8>,
}

impl Encoder {
    /// An encoder for `compression`. A dictionary is used by zstd only and ignored by the other codecs.
    pub fn new(compression: Compression, dictionary: Option<&Dictionary>) -> Result<Self> {
        if compression.algorithm != Algorithm::Zstd {
            return Ok(Self { compression, dictionary: None, zstd: None, room: Vec::new() });
        }
        let level = Algorithm::Zstd.native_level(compression.level);
        let bytes = dictionary.map_or(&[][..], Dictionary::bytes);
        let mut zstd = Compressor::with_dictionary(level, bytes).map_err(internal)?;
        let off = [
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        off.into_iter().try_for_each(|parameter| zstd.set_parameter(parameter)).map_err(internal)?;
        let dictionary = dictionary.map(Dictionary::id);
        Ok(Self { compression, dictionary, zstd: Some(zstd), room: Vec::new() })
    }

    /// The stored form of `raw`: compressed if that is shorter, plain otherwise.
    pub fn encode(&mut self, raw: &[u8]) -> Result<Encoded> {
        if raw.len() > RAW_LEN_MAX {
            let detail = format!("a body of `{}` bytes is over the limit of `{RAW_LEN_MAX}`", raw.len());
            return Err(Error::new(ErrorKind::Invalid, "bad-body", detail));
        }
        let plain = || Encoded {
            algorithm: Algorithm::None,
            dictionary: None,
            raw_len: raw.len(),
            bytes: raw.to_vec(),
        };
        if raw.len() < self.compression.threshold || self.compression.algorithm == Algorithm::None {
            return Ok(plain());
        }
        let bytes = self.compress(raw)?;
        if bytes.len() >= raw.len() {
            return Ok(plain());
        }
        let algorithm = self.compression.algorithm;
        Ok(Encoded { algorithm, dictionary: self.dictionary, raw_len: raw.len(), bytes })
    }

    fn compress(&mut self, raw: &[u8]) -> Result<Vec<u8>> {
        let algorithm = self.compression.algorithm;
        let level = algorithm.native_level(self.compression.level);
        match (algorithm, &mut self.zstd) {
            (Algorithm::Zstd, Some(zstd)) => {
                self.room.clear();
                self.room.reserve(compress_bound(raw.len()));
                zstd.compress_to_buffer(raw, &mut self.room).map_err(internal)?;
                Ok(self.room[..].into())
            }
            (Algorithm::Gzip, _) => gzip(raw, level.unsigned_abs()),
            (Algorithm::Brotli, _) => brotli(raw, level),
            (Algorithm::Lz4, _) => Ok(lz4_flex::block::compress(raw)),
            (Algorithm::None | Algorithm::Zstd, _) => Ok(raw.to_vec()),
        }
    }
}

fn internal(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, "corrupt", format!("compress: {error}"))
}

fn gzip(raw: &[u8], level: u32) -> Result<Vec<u8>> {
    // Neither a file name nor a time: equal bytes give equal bytes.
    let mut encoder = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(raw).map_err(internal)?;
    encoder.finish().map_err(internal)
}

fn brotli(raw: &[u8], level: i32) -> Result<Vec<u8>> {
    // The window is what a decoder allocates first, so it is no larger than the body needs.
    let window = (usize::BITS - raw.len().leading_zeros()).clamp(10, 22);
    let params = brotli::enc::BrotliEncoderParams {
        quality: level,
        lgwin: i32::try_from(window).expect("at most 22"),
        size_hint: raw.len(),
        ..Default::default()
    };
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut &raw[..], &mut out, &params).map_err(internal)?;
    Ok(out)
}

/// The `raw_len` bytes that were compressed to `bytes`. Fails unless they decode to exactly that many bytes
/// and nothing is left over. Memory is bounded by `raw_len`, itself at most [`RAW_LEN_MAX`], and grows only
/// with output.
pub fn decode(
    algorithm: Algorithm,
    bytes: &[u8],
    raw_len: usize,
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    decode_into(&mut raw, algorithm, bytes, raw_len, dictionary)?;
    Ok(raw)
}

/// What [`decode`] gives, in place of what is in `raw`; if it fails, nothing can be said of `raw`.
pub fn decode_into(
    raw: &mut Vec<u8>,
    algorithm: Algorithm,
    bytes: &[u8],
    raw_len: usize,
    dictionary: Option<&Dictionary>,
) -> Result<()> {
    if raw_len > RAW_LEN_MAX {
        return Err(Error::corrupt(format!(
            "`{raw_len}` raw bytes claimed, over the limit of `{RAW_LEN_MAX}`"
        )));
    }
    raw.clear();
    let decoded = match algorithm {
        Algorithm::None => {
            raw.extend_from_slice(&bytes[..bytes.len().min(raw_len)]);
            Some(()).filter(|()| bytes.len() == raw_len)
        }
        Algorithm::Zstd => unzstd(raw, bytes, raw_len, dictionary),
        Algorithm::Gzip => ungzip(bytes, raw_len).map(|bytes| *raw = bytes),
        Algorithm::Brotli => unbrotli(bytes, raw_len).map(|bytes| *raw = bytes),
        Algorithm::Lz4 => unlz4(bytes, raw_len).map(|bytes| *raw = bytes),
    };
    decoded.filter(|()| raw.len() == raw_len).ok_or_else(|| {
        let (name, stored) = (algorithm.name(), bytes.len());
        Error::corrupt(format!("`{stored}` bytes of {name} do not decode to `{raw_len}` bytes"))
    })
}

thread_local! {
    /// COST: a context has some 150 KiB of tables; to make and clear one for each body costs more than a
    /// small body.
    static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

fn unzstd(raw: &mut Vec<u8>, bytes: &[u8], raw_len: usize, dictionary: Option<&Dictionary>) -> Option<()> {
    CONTEXT.with_borrow_mut(|context| unzstd_with(context, raw, bytes, raw_len, dictionary))
}

/// Each call starts anew: nothing of a former body, or of a failure, stays in the context.
fn unzstd_with(
    context: &mut DCtx<'_>,
    raw: &mut Vec<u8>,
    bytes: &[u8],
    raw_len: usize,
    dictionary: Option<&Dictionary>,
) -> Option<()> {
    // One-shot decoding needs no window, only room for the output. A false claim gets only as much room as a
    // smaller buffer has been seen to overflow.
    let mut capacity = raw_len.min(FIRST_CAPACITY.max(bytes.len().saturating_mul(16)));
    loop {
        raw.clear();
        raw.reserve_exact(capacity);
        let written = match dictionary {
            Some(dictionary) => context.decompress_using_ddict(raw, bytes, dictionary.decoder().as_ddict()),
            None => context.decompress(raw, bytes),
        };
        match written {
            Ok(_) => return Some(()),
            Err(code) if capacity < raw_len && get_error_name(code) == ZSTD_WANTS_ROOM => {
                capacity = raw_len.min(capacity.saturating_mul(4));
            }
            Err(_) => return None,
        }
    }
}

fn ungzip(bytes: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    let mut rest = bytes;
    let mut raw = Vec::with_capacity(raw_len.min(FIRST_CAPACITY));
    let decoder = flate2::bufread::GzDecoder::new(&mut rest);
    // One byte more than claimed: enough to see a claim that is too small, and to reach gzip's own checksum.
    decoder.take(raw_len as u64 + 1).read_to_end(&mut raw).ok()?;
    rest.is_empty().then_some(raw)
}

fn unbrotli(bytes: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    use brotli::enc::StandardAlloc;
    use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
    // `new_strict`: no large windows, so the decoder's own buffer is at most 16 MiB.
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut raw = vec![0; raw_len.min(FIRST_CAPACITY)];
    let (mut left, mut read, mut written, mut total) = (bytes.len(), 0, 0, 0);
    loop {
        let mut room = raw.len() - written;
        let outcome = BrotliDecompressStream(
            &mut left,
            &mut read,
            bytes,
            &mut room,
            &mut written,
            &mut raw,
            &mut total,
            &mut state,
        );
        match outcome {
            BrotliResult::ResultSuccess if left == 0 => break,
            BrotliResult::NeedsMoreOutput if raw.len() < raw_len => {
                raw.resize(raw_len.min(raw.len().saturating_mul(4)), 0);
            }
            _ => return None,
        }
    }
    raw.truncate(written);
    Some(raw)
}

fn unlz4(bytes: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    // One byte of LZ4 stands for at most 255 bytes, so a larger claim is false.
    if raw_len > bytes.len().saturating_mul(255) {
        return None;
    }
    let mut raw = vec![0; raw_len];
    let written = lz4_flex::block::decompress_into(bytes, &mut raw).ok()?;
    (written == raw_len).then_some(raw)
}

#[cfg(test)]
mod tests;
