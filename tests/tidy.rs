//! The house rules that neither rustc nor clippy checks: who imports whom, what stays pure, how long a file
//! may be, which words we avoid. Reads files, never links the crate. No rule without examples that break it.

#[path = "tidy/find.rs"]
mod find;
#[path = "tidy/seed.rs"]
mod seed;

use std::collections::BTreeMap;
use std::path::Path;

use find::{
    at, broken_links, code, dead_files, each, imports, lines, placed, purity, synonyms, unfinished, waives,
};

/// Path from the root, with `/`, to text. A rule sees only this, so a few example files make a repository.
type Repo = BTreeMap<String, String>;
type Files = &'static [(&'static str, &'static str)];
/// Line (from 1) and what is wrong there.
type Finding = (usize, String);

struct Rule {
    name: &'static str,
    find: fn(&Repo) -> Vec<String>,
    /// Each file alone must break the rule.
    bad: Files,
    /// All of them together must keep it.
    good: Files,
}

/// Folder (or file) under `src`, and what it may import besides itself. Nobody imports `sim`.
const LAYERS: &[(&str, &str)] = &[
    ("domain", ""),
    ("codec", "domain"),
    ("config", "domain codec"),
    ("telemetry", ""),
    ("clock", "domain"),
    ("compute", ""),
    ("testing", ""),
    ("store", "domain codec config telemetry clock compute testing"),
    ("kafka", "domain codec config telemetry clock compute testing"),
    ("reconstruct", "domain codec config telemetry clock compute store kafka"),
    ("sim", "domain codec clock compute store reconstruct"),
    ("worker", "domain codec config telemetry clock compute store kafka reconstruct"),
    ("lookup", "domain codec config telemetry clock compute store kafka reconstruct"),
    ("upkeep", "domain codec config telemetry clock compute store kafka reconstruct"),
    ("http", "domain codec config telemetry clock compute worker lookup upkeep"),
    (
        "cli",
        "domain codec config telemetry clock compute testing store kafka reconstruct worker lookup upkeep http",
    ),
];
/// What the simulator drives: no clock, randomness, thread or I/O of its own (docs/adr/0001).
const PURE: &[&str] = &["src/domain/", "src/codec/", "src/store/", "src/reconstruct/"];
/// Parts of a pure folder that do I/O; they exist only with the feature `runtime`.
const ADAPTERS: &[&str] =
    &["src/store/index/scylla", "src/store/index/embedded", "src/store/blobs/s3", "src/store/blobs/local"];
const IMPURE: &str = "SystemTime Instant rand tokio tracing println eprintln";
const IMPURE_STD: &str = "fs net thread env process";
const UNORDERED: &str = "HashMap HashSet RandomState";
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "for now", "FIXME", "XXX"];
const SYNONYMS: &str = "entity entities manager managers helper helpers util utils";
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp", "/bash")];
/// Words that make the next identifier a name of our own choice.
const NAMING: &str = "fn struct enum trait type mod const static let mut as";

const RULES: &[Rule] = &[
    Rule {
        name: "imports go left only, and siblings never import each other",
        find: |repo| each(repo, "src/", imports),
        bad: &[
            ("src/domain/a.rs", "use crate::codec::json;"),
            ("src/codec/a.rs", "fn f() { crate::store::put() }"),
            ("src/store/mod.rs", "use crate::{domain::ids, kafka};"),
            ("src/worker/a/b.rs", "use super::super::super::lookup;"),
            ("src/telemetry/a.rs", "use crate::domain::ids;"),
            ("src/http/a.rs", "use crate::{\n    domain::{ids, error},\n    store,\n};"),
            ("src/cli/a.rs", "use crate::sim;"),
            ("src/cli/b.rs", "use crate::*;"),
            ("src/misc/a.rs", "use crate::domain;"),
        ],
        good: &[
            ("src/codec/a.rs", "use crate::domain::ids; use super::store; // crate::store\n"),
            ("src/domain/a.rs", "use crate::domain::ids; const S: &str = \"crate::store\";"),
            ("src/lib.rs", "pub use crate::store::SnapshotStore;"),
        ],
    },
    Rule {
        name: "domain, codec and the protocol are pure",
        find: |repo| each(repo, "src/", purity),
        bad: &[
            ("src/domain/a.rs", "use std::fs;"),
            ("src/codec/a.rs", "use std::{\n    io, net::TcpStream};"),
            ("src/store/packer.rs", "fn f() { std::thread::yield_now() }"),
            ("src/reconstruct/mod.rs", "use std::time::{Duration, Instant};"),
            ("src/store/mod.rs", "async fn f() { tokio::task::yield_now().await }"),
            ("src/domain/b.rs", "use std::collections::{BTreeMap, HashMap};"),
            ("src/codec/b.rs", "fn f() { rand::random() }"),
        ],
        good: &[
            ("src/codec/a.rs", "use std::{io, fmt}; use std::collections::HashMap; // an Instant\n"),
            ("src/domain/a.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use std::thread; }"),
            ("src/domain/a/tests.rs", "use std::thread;"),
            ("src/store/blobs/local.rs", "use std::fs;"),
        ],
    },
    Rule {
        name: "a file has at most 530 lines",
        find: |repo| {
            each(repo, "", |_, text| at(text.lines().nth(530).map(|_| (530, "the file goes on".into()))))
        },
        bad: &[("src/domain/a.rs", repeated(&[b'\n'; 531]))],
        good: &[("src/domain/a.rs", repeated(&[b'\n'; 530]))],
    },
    Rule {
        name: "a line has at most 110 characters, 170 with a text that rustfmt cannot break",
        find: |repo| {
            each(repo, "", |_, text| {
                lines(text, |line| line.chars().count() > if line.contains('"') { 170 } else { 110 })
            })
        },
        bad: &[("tests/a.rs", repeated(&[b'x'; 111]))],
        good: &[("tests/a.rs", repeated(&[b'x'; 110]))],
    },
    Rule {
        name: "a file starts by saying what it owns",
        find: |repo| {
            each(repo, "", |_, text| at((!text.starts_with("//! ")).then(|| (1, "no `//!`".into()))))
        },
        bad: &[("src/a.rs", "use std::fmt;\n//! Late.\n"), ("tests/a.rs", ""), ("tests/b.rs", "// Plain.\n")],
        good: &[("src/a.rs", "//! Owns a.\n")],
    },
    Rule {
        name: "nothing is left unfinished",
        find: |repo| {
            each(repo, "", |path, text| lines(text, |line| path != "tests/tidy.rs" && unfinished(line)))
        },
        bad: &[
            ("src/a.rs", "fn f() { todo!() }"),
            ("src/b.rs", "fn f() { unimplemented!(\"x\") }"),
            ("tests/c.rs", "// Good enough for now."),
            ("src/d.rs", "// FIXME"),
            ("src/e.rs", "// XXX: really?"),
        ],
        good: &[("src/a.rs", "// for nowhere\nfn f() { for now in times {} }\nconst T: &str = \"XXXXXX\";")],
    },
    Rule {
        name: "names use the words of docs/GLOSSARY.md",
        find: |repo| each(repo, "", synonyms),
        bad: &[
            ("src/a.rs", "struct SnapshotManager;"),
            ("src/b.rs", "fn f(entity_id: u64) {}"),
            ("src/c.rs", "fn test_helper() {}"),
            ("tests/d.rs", "mod utils;"),
            ("src/util/e.rs", "fn f() {}"),
            ("src/f.rs", "use std::fmt as utils;"),
        ],
        good: &[("src/a.rs", "use rdkafka::util::Timeout; // a helper\nfn commonly(utility: u8) {}")],
    },
    Rule {
        name: "a waiver is an `expect` with a reason",
        find: |repo| each(repo, "", |_, text| lines(&code(text), waives)),
        bad: &[
            ("src/a.rs", "#[allow(dead_code)]"),
            ("tests/b.rs", "#![allow(clippy::all)]"),
            ("src/c.rs", "#[cfg_attr(test, allow(unused))]"),
        ],
        good: &[(
            "src/a.rs",
            "#[expect(dead_code, reason = \"why\")]\nfn f() { policy.allow(x) } // #[allow(x)]",
        )],
    },
    Rule {
        name: "every source file is part of the crate",
        find: dead_files,
        bad: &[("src/domain/orphan.rs", "//! Orphan."), ("tests/it/orphan.rs", "//! Orphan.")],
        good: &[
            ("src/lib.rs", "pub mod a;\n#[cfg(test)]\nmod d;"),
            ("src/a/mod.rs", "pub(crate) mod b;"),
            ("src/a/b.rs", "mod c;"),
            ("src/a/b/c.rs", ""),
            ("src/d.rs", ""),
            ("tests/it/main.rs", "mod e;"),
            ("tests/it/e.rs", "#[path = \"f/g.rs\"]\nmod h;"),
            ("tests/it/f/g.rs", "#[path = \"../../h/mod.rs\"]\nmod i;"),
            ("tests/h/mod.rs", ""),
        ],
    },
    Rule {
        name: "no path of somebody's machine",
        find: |repo| {
            let here = |line: &str| MACHINE_PATHS.iter().any(|path| line.contains(path));
            repo.iter().flat_map(|(path, text)| placed(path, lines(text, here))).collect()
        },
        bad: &[
            ("README.md", concat!("see /wo", "rk/main")),
            ("a.sh", concat!("cd /ro", "ot/x")),
            ("b.txt", concat!("/tmp", "/bash_jobs")),
        ],
        good: &[("README.md", "the framework, its root, /tmp/x")],
    },
    Rule {
        name: "relative links resolve",
        find: broken_links,
        bad: &[("README.md", "[a](docs/none.md)"), ("docs/a.md", "![b](../../out.png) [c](#here)")],
        good: &[
            (
                "README.md",
                "[a](docs/a.md#top) [b](https://example.org) [c](docs) `[d](none)`\n```\n[e](none)\n```",
            ),
            ("docs/a.md", "[up](../README.md) [here](#top) [mail](mailto:a@example.org)"),
        ],
    },
    Rule {
        name: "the changelog has a place for what is coming",
        find: |repo| {
            let found =
                repo.get("CHANGELOG.md").is_some_and(|text| text.lines().any(|l| l == "## Unreleased"));
            if found { vec![] } else { vec!["CHANGELOG.md: no line `## Unreleased`".into()] }
        },
        bad: &[("CHANGELOG.md", "# Changelog\nUnreleased\n"), ("README.md", "## Unreleased\n")],
        good: &[("CHANGELOG.md", "# Changelog\n\n## Unreleased\n")],
    },
];

#[test]
fn every_rule_finds_each_of_its_bad_examples_and_none_of_its_good_ones() {
    let repo =
        |files: &[(&str, &str)]| files.iter().map(|&(path, text)| (path.into(), text.into())).collect();
    for rule in RULES {
        assert!(!rule.bad.is_empty() && !rule.good.is_empty(), "`{}` has no examples", rule.name);
        for example in rule.bad {
            assert!(!(rule.find)(&repo(&[*example])).is_empty(), "`{}` misses {example:?}", rule.name);
        }
        assert_eq!((rule.find)(&repo(rule.good)), Vec::<String>::new(), "`{}` is too strict", rule.name);
    }
}

#[test]
fn comments_and_literals_are_no_code_and_lines_keep_their_numbers() {
    let text = "a // b\n/* c\n*/ d \"e\\\"\n\" 'f' '\\'' &'g r#\"h\" i\"# br\"j\" k";
    let kept: Vec<String> = code(text).lines().map(|line| line.replace(' ', "")).collect();
    assert_eq!(kept, ["a", "", "d", "&'gbrk"]);
}

#[test]
fn the_repository_keeps_the_house_rules() {
    let repo = repository();
    let told =
        |rule: &Rule| (rule.find)(&repo).into_iter().map(|at| format!("\n{at} ({})", rule.name)).collect();
    let findings: Vec<String> = RULES.iter().flat_map(|rule| -> Vec<String> { told(rule) }).collect();
    assert!(findings.is_empty(), "{}", findings.concat());
}

fn repository() -> Repo {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut repo = Repo::new();
    read_into(&mut repo, root, root);
    assert!(repo.contains_key("src/lib.rs") && repo.contains_key("tests/tidy.rs"), "read the wrong folder");
    repo
}

/// Reads what git would track: not `.git`, not the top-level folders that `.gitignore` names; only text.
/// Inputs of the fuzzer are nobody's text.
fn read_into(repo: &mut Repo, root: &Path, folder: &Path) {
    let ignored = std::fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    for entry in std::fs::read_dir(folder).expect("read a folder of the repository") {
        let path = entry.expect("read a folder of the repository").path();
        let inner = path.strip_prefix(root).expect("inside the root").to_string_lossy().replace('\\', "/");
        if inner == ".git"
            || inner == "fuzz/corpus"
            || ignored.lines().any(|line| line.strip_prefix('/') == Some(&inner))
        {
        } else if path.is_dir() {
            read_into(repo, root, &path);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            repo.insert(inner, text);
        }
    }
}

const fn repeated<const N: usize>(bytes: &[u8; N]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => "",
    }
}
