//! What tests of the library share: the real servers, which `tests/servers/server` installs and starts.

use std::process::Command;

/// The address of a server, which is started unless it runs.
pub(crate) fn server(name: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/server");
    let output = Command::new(script).args(["start", name]).output().expect("bash is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("an address").trim().to_owned()
}
