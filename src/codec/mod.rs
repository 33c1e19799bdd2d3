//! Bytes to domain and back: JSON, YAML, event records, snapshot bodies, packs, compression.
//! Pure: no I/O, no tasks.
