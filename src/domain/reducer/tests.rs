//! Presets fold, and what they refuse leaves the state alone.
