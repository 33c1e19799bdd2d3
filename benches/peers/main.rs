//! What `benches/peers/run`, `travel` and `takeover` need of Rust: topics of events, the raw consumer that
//! is the limit of every contestant, what the others ended with, and answers. See docs/benchmarks.md.
//!
//! | verb | does |
//! |---|---|
//! | `topic BROKERS TOPIC EVENTS AGGREGATES PARTITIONS` | makes the topic and fills it, unless it is there |
//! | `raw BROKERS TOPIC` | takes every record and only counts and adds up: the limit |
//! | `lag BROKERS TOPIC GROUP` | prints how many records the group has not committed |
//! | `changelog BROKERS TOPIC STEP` | prints the newest value of every STEP-th aggregate in a changelog |
//! | `states URL AGGREGATES STEP` | prints what snapfold answers for the same aggregates |
//! | `latency URL FILE QUESTIONS` | asks for what `states` printed: at the head, by version, by time |
//! | `delete BROKERS TOPIC...` | deletes topics |
//! | `histories BROKERS TOPIC AGGREGATES EACH LENGTH...` | makes a topic of long and short ones |
//! | `ask URL ID VERSION...` | asks for versions of an aggregate |
//! | `replay BROKERS TOPIC PARTITION VERSION...` | reads and folds the partition up to each version |
//! | `first BROKERS TOPIC AGGREGATES PARTITIONS` | makes a topic with the first event of each aggregate |
//! | `takeover BROKERS TOPIC URL AGGREGATES PARTITIONS ...` | goes on with events, kills, and asks |
//! | `forget BROKERS TOPIC` | has the broker delete all records of the topic |
//!
//! `takeover` also takes RATE, BEFORE and AFTER (seconds), PID and the PARTITIONs of whom it kills.
//! Lines are `ID<tab>JSON`, sorted by id.

#[path = "../fold/events.rs"]
#[expect(dead_code, reason = "other benches use other events")]
mod events;

mod answers;
mod histories;
mod takeover;
mod topic;

use std::process::exit;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["topic", brokers, name, events, aggregates, partitions] => {
            topic::fill(brokers, name, number(events), number(aggregates), number(partitions));
        }
        ["raw", brokers, name] => topic::take_all(brokers, name),
        ["lag", brokers, name, group] => println!("{}", topic::lag(brokers, name, group)),
        ["changelog", brokers, name, step] => topic::newest(brokers, name, number(step)),
        ["delete", brokers, ref names @ ..] => topic::delete(brokers, names),
        ["states", url, aggregates, step] => answers::states(url, number(aggregates), number(step)),
        ["latency", url, file, questions] => answers::latency(url, file, number(questions)),
        ["histories", brokers, name, aggregates, each, ref lengths @ ..] => {
            histories::fill(brokers, name, &numbers(lengths), number(aggregates), number(each));
        }
        ["ask", url, id, ref versions @ ..] => histories::ask(url, id, &numbers(versions)),
        ["replay", brokers, name, partition, ref versions @ ..] => {
            histories::replay(brokers, name, number(partition), &numbers(versions));
        }
        ["first", brokers, name, aggregates, partitions] => {
            takeover::first(brokers, name, number(aggregates), number(partitions));
        }
        ["takeover", brokers, name, url, aggregates, partitions, rate, before, after, pid, ref of @ ..] => {
            let of: Vec<i32> = of.iter().map(|word| number(word)).collect();
            let (aggregates, partitions) = (number(aggregates), number(partitions));
            let (rate, seconds) = (number(rate), (number(before), number(after)));
            let plan = takeover::Plan { aggregates, partitions, rate, seconds, pid, of: &of };
            takeover::run(brokers, name, url, &plan);
        }
        ["forget", brokers, name] => topic::forget(brokers, name),
        // `cargo bench` without arguments: the script is what measures.
        [] => println!("nothing is measured here: run `benches/peers/run`"),
        _ => fail("no such verb with such arguments: benches/peers/main.rs lists them"),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| fail(&format!("`{word}` is not a number that fits")))
}

fn numbers(words: &[&str]) -> Vec<u64> {
    words.iter().map(|word| number(word)).collect()
}

/// Ends the process, which the script then tells.
fn fail(why: &str) -> ! {
    eprintln!("peers: {why}");
    exit(1);
}

/// Number of an aggregate, by its id.
fn numbered(id: &[u8]) -> Option<usize> {
    std::str::from_utf8(id.strip_prefix(b"order-")?).ok()?.parse().ok()
}
