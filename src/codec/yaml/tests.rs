//! YAML text to spanned trees, and problems that point at their place.
