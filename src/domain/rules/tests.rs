//! Rules fold as API.md section 3 says, atomically, and their problems point at their place.
