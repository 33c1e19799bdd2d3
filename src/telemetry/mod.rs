//! What the process tells about itself. Nothing here knows what is told: others pass plain numbers and texts.
//!
//! | file | owns |
//! |---|---|
//! | `metrics.rs` | every metric in one table, the recorder, the scrape |
//! | `logging.rs` | log lines: format, level, where they go |
//! | `process.rs` | what this process uses of its machine |
//! | `stopwatch.rs` | how long something took, for people |

pub mod logging;
pub mod metrics;
pub mod process;
pub mod stopwatch;
