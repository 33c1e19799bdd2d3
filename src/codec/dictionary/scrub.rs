//! What may go into a dictionary under `strict` privacy: nothing that only a few aggregates say.
//!
//! A dictionary is kept as long as a pack needs it and outlives erasures, so it must not hold anybody's data.
//!
//! A *token* is the content of a JSON string, a JSON number, or, outside JSON documents, a longest run of
//! bytes that are not control characters. A token is *common* if the samples of at least [`AGGREGATES_MIN`]
//! aggregates have it. All other tokens are replaced before training, byte by byte, by random bytes of the
//! same class; then the result is searched for every rare token of [`TOKEN_LEN_MIN`] bytes and more. Whatever
//! lies within a rare token is within replaced bytes, so no part of it survives either, unless it is also
//! part of a common token.
//!
//! The random bytes are seeded by the digest of all samples: repeatable, and no oracle for guessing one of
//! them.

use memchr::memmem;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ops::Range;

/// Aggregates that must share a token before a dictionary may hold it.
pub const AGGREGATES_MIN: usize = 5;

/// Shortest token that the finished dictionary is searched for. Shorter ones are replaced as well, but would
/// be found by chance.
pub const TOKEN_LEN_MIN: usize = 6;

/// Shortest text that counts as a JSON document, so that brackets in plain text do not cut it into tokens.
const DOCUMENT_LEN_MIN: usize = 16;

/// Deepest JSON document that is read as one; limits on events are below it.
const DEPTH_MAX: usize = 256;

/// One sample: whose it is, and its bytes.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) aggregate: u64,
    pub(super) bytes: Box<[u8]>,
}

/// The tokens of `bytes`, in order and without overlap.
pub(super) fn tokens(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut run = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if matches!(byte, b'{' | b'[') {
            let mut inner = Vec::new();
            match document(&bytes[at..], &mut inner) {
                Ok(len) => {
                    push(&mut tokens, run..at);
                    tokens.extend(inner.into_iter().map(|token| token.start + at..token.end + at));
                    at += len;
                    run = at;
                }
                // Not JSON: all that looked like it belongs to the run. Longer tokens are rarer, so this errs
                // safely.
                Err(len) => at += len.max(1),
            }
        } else if byte < b' ' || byte == 0x7f {
            push(&mut tokens, run..at);
            at += 1;
            run = at;
        } else {
            at += 1;
        }
    }
    push(&mut tokens, run..at);
    tokens
}

fn push(tokens: &mut Vec<Range<usize>>, token: Range<usize>) {
    if !token.is_empty() {
        tokens.push(token);
    }
}

/// Reads a JSON document (or the start of one that the sample cuts off): its length, and its tokens into
/// `tokens`. `Err` is the length up to the first byte that is no JSON.
fn document(bytes: &[u8], tokens: &mut Vec<Range<usize>>) -> Result<usize, usize> {
    let mut open = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        at += 1;
        match bytes[start] {
            close @ (b'{' | b'[') if open.len() < DEPTH_MAX => open.push(close + 2),
            close @ (b'}' | b']') if open.last() == Some(&close) => {
                open.pop();
            }
            b'"' => {
                at += string_len(&bytes[at..]).ok_or(start)?;
                push(tokens, start + 1..at);
                at = (at + 1).min(bytes.len());
            }
            b'-' | b'0'..=b'9' => {
                let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                at += bytes[at..].iter().take_while(|byte| is_number(byte)).count();
                push(tokens, start..at);
            }
            b't' | b'f' | b'n' => {
                let literal = ["true", "false", "null"]
                    .into_iter()
                    .find(|word| bytes[start..].starts_with(word.as_bytes()));
                at = start + literal.ok_or(start)?.len();
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => return Err(start),
        }
        if open.is_empty() {
            break;
        }
    }
    if at < DOCUMENT_LEN_MIN { Err(at) } else { Ok(at) }
}

/// Length of a string's content up to its closing quote or the end; none if it holds a control character.
fn string_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            0..=0x1f => return None,
            _ => at += 1,
        }
    }
    Some(bytes.len())
}

/// Which tokens are common, over samples of which those of one aggregate follow on each other.
pub(super) struct Census<'a> {
    samples: &'a [Sample],
    seen: HashMap<&'a [u8], (u64, usize)>,
}

impl<'a> Census<'a> {
    pub(super) fn new(samples: &'a [Sample]) -> Self {
        let mut seen: HashMap<&[u8], (u64, usize)> = HashMap::new();
        for sample in samples {
            for token in tokens(&sample.bytes) {
                let (last, count) = seen.entry(&sample.bytes[token]).or_insert((sample.aggregate, 1));
                if *last != sample.aggregate {
                    (*last, *count) = (sample.aggregate, *count + 1);
                }
            }
        }
        Self { samples, seen }
    }

    fn is_common(&self, token: &[u8]) -> bool {
        self.seen.get(token).is_some_and(|(_, count)| *count >= AGGREGATES_MIN)
    }

    /// Some of the samples one after the other, every rare token replaced, and their lengths.
    pub(super) fn scrubbed(&self, some: &[Sample], salt: u64) -> (Vec<u8>, Vec<usize>) {
        let mut random = Random::seeded(some, salt);
        let mut out = Vec::new();
        for sample in some {
            let start = out.len();
            out.extend_from_slice(&sample.bytes);
            for token in tokens(&sample.bytes) {
                if !self.is_common(&sample.bytes[token.clone()]) {
                    replace(&mut out[start + token.start..start + token.end], &mut random);
                }
            }
        }
        (out, some.iter().map(|sample| sample.bytes.len()).collect())
    }

    /// A rare token that stands in `dictionary`, if there is one.
    pub(super) fn leak(&self, dictionary: &[u8]) -> Option<&'a [u8]> {
        let mut rare: HashMap<&[u8], Vec<&'a [u8]>> = HashMap::new();
        for (token, (_, count)) in &self.seen {
            if *count < AGGREGATES_MIN && token.len() >= TOKEN_LEN_MIN {
                rare.entry(&token[..TOKEN_LEN_MIN]).or_default().push(token);
            }
        }
        let windows = dictionary.windows(TOKEN_LEN_MIN).enumerate();
        let candidates = windows.filter_map(|(at, window)| Some((at, rare.get(window)?)));
        let mut found = candidates.flat_map(|(at, tokens)| tokens.iter().map(move |token| (at, *token)));
        found
            .find(|(at, token)| dictionary[*at..].starts_with(token) && !self.is_part_of_common(token))
            .map(|(_, token)| token)
    }

    /// Enough aggregates say it after all, within longer tokens.
    fn is_part_of_common(&self, token: &[u8]) -> bool {
        let token = memmem::Finder::new(token);
        let says = |sample: &&Sample| token.find(&sample.bytes).is_some();
        let mut aggregates: Vec<u64> =
            self.samples.iter().filter(says).map(|sample| sample.aggregate).collect();
        aggregates.dedup();
        aggregates.len() >= AGGREGATES_MIN
    }
}

/// Replaces each byte by another one of its class. Separators stay, unless there is nothing else.
fn replace(token: &mut [u8], random: &mut Random) {
    let has_content = token.iter().any(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80);
    for byte in token {
        let class = match *byte {
            b'0'..=b'9' => b'0'..=b'9',
            b'a'..=b'z' => b'a'..=b'z',
            b'A'..=b'Z' => b'A'..=b'Z',
            0x80.. => 0x80..=0xbf,
            _ if has_content => continue,
            _ => b' '..=b'/',
        };
        *byte = random.other(*byte, *class.start(), *class.end());
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014), seeded by content.
struct Random(u64);

impl Random {
    fn seeded(samples: &[Sample], salt: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"snapfold.dictionary.v1");
        hash.update(salt.to_be_bytes());
        samples.iter().for_each(|sample| hash.update(&sample.bytes));
        let digest: [u8; 32] = hash.finalize().into();
        Self(digest[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A byte of `first..=last` that is not `byte`.
    fn other(&mut self, byte: u8, first: u8, last: u8) -> u8 {
        let drawn = first + (self.next() % u64::from(last - first)) as u8;
        if drawn == byte { last } else { drawn }
    }
}
