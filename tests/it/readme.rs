//! The README's commands, run against `dev` with the bundled sample: what it shows is what they print.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running `dev`; ended with it.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The text of the fenced block after a mark.
fn block<'a>(readme: &'a str, mark: &str) -> &'a str {
    let after = readme.split_once(&format!("<!-- {mark} -->\n```\n")).unwrap().1;
    after.split_once("\n```").unwrap().0
}

#[test]
fn the_readme_shows_what_its_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_snapfold"));
    let mut dev = Command::new(binary);
    dev.args(["dev", "--port", "0"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut dev = Dev(dev.spawn().unwrap());
    let lines = BufReader::new(dev.0.stdout.take().unwrap()).lines();
    let tries: Vec<String> = lines.take(5).map(Result::unwrap).collect();
    let server = tries[1].rsplit_once(" --server ").unwrap().1.to_owned();
    let shown = tries.join("\n").replace(&format!(" --server {server}"), "");
    assert_eq!(shown, block(&readme, "dev"), "the README's `dev` prints something else now");

    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut commands = 0;
    let console = format!("{}\n", block(&readme, "console"));
    for part in console.split("$ ").skip(1) {
        let (command, expected) = part.split_once('\n').unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env("PATH", &path).env("SNAPFOLD_SERVER", &server);
        let output = shell.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(printed, expected, "`{command}` prints something else now");
        commands += 1;
    }
    assert_eq!(commands, 5);
}
