//! One entry of the log of lineages, as it is written down.

use crate::codec::wire::from_hex;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::ids::{Digest, LedgerId, Lineage};

const FORMAT: &str = "snapfold lineage 1";
/// Of entries that a snapfold which knows of no drops must not read past: it says so itself.
const FORMAT_OF_DROPS: &str = "snapfold lineage 2";

/// What an entry says of its lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Records are folded into it from here on.
    Active,
    /// A refold writes it; the one before stays active.
    Prepared,
    /// It is not there any more, and its number is nobody's: what is stored of it is garbage.
    Dropped(LedgerId),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Topic name.
    pub topic: String,
    /// Kafka's id of the topic.
    pub topic_id: u128,
    /// What its records are folded with from here on.
    pub fingerprint: Digest,
    /// The lineage of (topic id, fingerprint).
    pub lineage: Lineage,
    /// Partitions of the topic; none where that was not noted.
    pub partitions: Option<u32>,
    /// What its records are mapped to events with; none where that was not noted.
    pub mapping: Option<Digest>,
    /// What it says of the lineage.
    pub role: Role,
}

impl Activation {
    /// Lines of words, so that it can be read without a tool; the last is the CRC32C of those before it.
    pub(super) fn encode(&self) -> String {
        let Self { topic, topic_id, fingerprint, lineage, partitions, mapping, role } = self;
        let format = if matches!(role, Role::Dropped(_)) { FORMAT_OF_DROPS } else { FORMAT };
        let mut lines = format!(
            "{format}\ntopic {topic}\ntopic-id {topic_id:032x}\nfingerprint {fingerprint}\nlineage {lineage}\n"
        );
        if let Some(partitions) = partitions {
            lines.push_str(&format!("partitions {partitions}\n"));
        }
        if let Some(mapping) = mapping {
            lines.push_str(&format!("mapping {mapping}\n"));
        }
        match role {
            Role::Active => {}
            Role::Prepared => lines.push_str("state prepared\n"),
            Role::Dropped(at) => lines.push_str(&format!("state dropped\nat {at}\n")),
        }
        let checksum = crc32c::crc32c(lines.as_bytes());
        format!("{lines}crc32c {checksum:08x}\n")
    }

    /// None for anything but what [`Self::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let value = |key: &str| {
            let of_key = |line: &str| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
            text.split('\n').skip(1).find_map(of_key)
        };
        let role = match value("state").as_deref() {
            None => Role::Active,
            Some("dropped") => Role::Dropped(LedgerId(from_hex(&value("at")?)?)),
            Some(_) => Role::Prepared,
        };
        let decoded = Self {
            topic: value("topic")?,
            topic_id: u128::from_str_radix(&value("topic-id")?, 16).ok()?,
            fingerprint: digest(&value("fingerprint")?)?,
            lineage: Lineage(value("lineage")?.parse().ok()?),
            partitions: value("partitions").map(|count| count.parse().ok()).unwrap_or_default(),
            mapping: value("mapping").and_then(|text| digest(&text)),
            role,
        };
        (decoded.encode() == text).then_some(decoded)
    }
}

fn digest(text: &str) -> Option<Digest> {
    from_hex(text).map(Digest)
}

/// Why an entry cannot be read.
pub(super) fn damaged(bytes: &[u8]) -> Error {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match std::str::from_utf8(first) {
        Ok(format)
            if format != FORMAT && format != FORMAT_OF_DROPS && format.starts_with("snapfold lineage ") =>
        {
            Error::new(
                ErrorKind::Invalid,
                "lineage-changed",
                format!("it is a `{format}`, this version reads `{FORMAT_OF_DROPS}`: use the newer snapfold"),
            )
        }
        _ => Error::corrupt("it disagrees with its checksum: restore it from a backup"),
    }
}
