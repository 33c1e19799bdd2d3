//! `Text`: the text type of documents. Member names, most strings and most decimals are short, so up to 24
//! bytes are held in place: a small document is a handful of allocations, not one for every word in it.

pub use compact_str::CompactString as Text;

/// Bytes that a text holds outside of itself.
pub(super) fn heap_bytes(text: &Text) -> usize {
    if text.is_heap_allocated() { text.capacity() } else { 0 }
}
