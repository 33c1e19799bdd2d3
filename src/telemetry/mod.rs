//! What the process tells about itself. Nothing here knows what is told: others pass plain numbers and texts.
//!
//! | file | owns |
//! |---|---|
//! | `metrics.rs` | every metric in one table, the recorder, the scrape |
//! | `logging.rs` | log lines: format, level, where they go |
//! | `stopwatch.rs` | how long something took, for people |

pub mod logging;
pub mod metrics;
pub mod stopwatch;
