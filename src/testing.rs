//! What tests of the library share: the real servers, which `tests/servers/server` installs and starts, and the
//! proxy that makes requests to them fail.

use std::process::Command;

#[path = "../tests/proxy/mod.rs"]
pub(crate) mod proxy;

/// The address of a server, which is started unless it runs.
pub(crate) fn server(name: &str) -> String {
    servers("start", name).trim().to_owned()
}

/// Ends a server at once; its data stay.
pub(crate) fn kill_server(name: &str) {
    servers("kill", name);
}

fn servers(verb: &str, name: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/server");
    let output = Command::new(script).args([verb, name]).output().expect("bash is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("an address")
}
