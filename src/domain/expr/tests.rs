//! Expressions against hand-made cases and against jaq.
