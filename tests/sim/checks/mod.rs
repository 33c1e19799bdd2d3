//! Tests of the world itself: that it is deterministic, that it keeps what the ports promise, and that it
//! does happen.
