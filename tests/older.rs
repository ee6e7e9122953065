//! What programs of earlier commits really said, byte for byte: `fixtures/older/COMMIT`, each made of that commit's source.
//!
//! | file | what |
//! | --- | --- |
//! | `hello.jsonl` | what a worker's unit said to a socket in the place of the router's: each verb, sorted |
//! | `answers.jsonl` | what the router answered to `ready`, to `guard` from another unit, to `drain`, to `dance` and to `attach` |
//! | `status.json` | its answer to `GET /v1/status` |
//! | `log.jsonl` | what it had written down for the next router |
//! | `exec.txt` | the commands of its units, which `cli::inside` reads |
//!
//! `a2772af` and `bacb4e2` are from before anybody said which release it is, `a41227a` is from just after.

use appctl::router::client::Status;
use appctl::router::record::Picture;
use appctl::wire::hello::{Answer, Hello, Release, line, read};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

const UNNAMED: [&str; 2] = ["a2772af", "bacb4e2"];
const NAMED: &str = "a41227a";

fn all() -> impl Iterator<Item = &'static str> {
    UNNAMED.into_iter().chain([NAMED])
}

fn fixture(commit: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/older").join(commit).join(file);
    std::fs::read_to_string(path).unwrap()
}

fn ours() -> Release {
    Release { version: "0.1.0".to_owned(), wire: 1 }
}

/// Every line is read; and what is said in its place now is that line, with the release beside it, which those who do not know
/// of it skip.
fn is_said_and_read<T: Serialize + DeserializeOwned>(commit: &str, file: &str) -> Vec<T> {
    let text = fixture(commit, file);
    let lines = text.lines().map(|old| {
        let said: T = read(old.as_bytes(), &ours()).unwrap_or_else(|error| panic!("{commit}: {old}: {error}"));
        let now = String::from_utf8(line(&said, &ours()).unwrap()).unwrap();
        let release = r#","appctl":{"version":"0.1.0","wire":1}}"#;
        let wanted = old.strip_suffix(if commit == NAMED { release } else { "}" }).unwrap();
        assert_eq!(now, format!("{wanted}{release}\n"), "{commit}");
        said
    });
    lines.collect()
}

#[test]
fn hellos_of_older_workers() {
    for commit in all() {
        let said: Vec<Hello> = is_said_and_read(commit, "hello.jsonl");
        let has = |wanted: fn(&Hello) -> bool| assert!(said.iter().any(wanted), "{commit}");
        has(|hello| matches!(hello, Hello::Attach { reach: None, .. }));
        has(|hello| matches!(hello, Hello::Attach { reach: Some(_), .. }));
        has(|hello| matches!(hello, Hello::Ready { notified: true, .. }));
        has(|hello| matches!(hello, Hello::Guard { .. }));
        has(|hello| matches!(hello, Hello::Drain { message: Some(_), .. }));
        has(|hello| matches!(hello, Hello::Ended { .. }));
    }
}

#[test]
fn answers_of_older_routers() {
    for commit in all() {
        let said: Vec<Answer> = is_said_and_read(commit, "answers.jsonl");
        assert!(matches!(said[0], Answer::Done), "{commit}: {said:?}");
        assert!(
            matches!(&said[1], Answer::Refused { reason } if reason.contains("control group")),
            "{commit}: {said:?}"
        );
        assert!(matches!(&said[3], Answer::Refused { reason } if reason.contains("`dance`")), "{commit}: {said:?}");
        assert!(matches!(said[4], Answer::Attached { id: 4, index: 2, workers: 2, .. }), "{commit}: {said:?}");
    }
}

/// Nothing of `old` is missing in `new`, or another.
#[track_caller]
fn assert_holds(new: &Value, old: &Value) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            for (key, old) in old {
                assert_holds(new.get(key).unwrap_or_else(|| panic!("no {key} in {new:?}")), old);
            }
        }
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            new.iter().zip(old).for_each(|(new, old)| assert_holds(new, old));
        }
        _ => assert_eq!(new, old),
    }
}

#[test]
fn the_state_that_older_routers_tell() {
    for commit in all() {
        let old: Value = serde_json::from_str(&fixture(commit, "status.json")).unwrap();
        let status: Status = serde_json::from_value(old.clone()).unwrap();
        assert_eq!((status.workers.len(), status.ends.len(), status.listening.len()), (2, 1, 2), "{commit}");
        assert_eq!(status.build.is_empty(), commit != NAMED, "{commit}");
        // What an older command looks for it finds.
        assert_holds(&serde_json::to_value(&status).unwrap(), &old);
    }
}

#[test]
fn what_older_routers_leave_to_the_next_one() {
    for commit in all() {
        let log = fixture(commit, "log.jsonl");
        let picture = Picture::read(log.as_bytes(), 1).unwrap();
        assert_eq!((picture.generation, picture.last, picture.workers.len()), (4, 3, 2), "{commit}");
        assert_eq!((picture.ends.len(), picture.secret.as_ref().map(String::len)), (1, Some(64)), "{commit}");
        assert!(picture.nodes.values().all(|nodes| nodes.len() == 2) && picture.nodes.len() == 2, "{commit}");
        assert!(!picture.sessions.is_empty() && picture.sessions.values().all(|id| picture.workers.contains_key(id)));
        // What it does not say is not taken for granted.
        assert!(picture.workers.values().all(|worker| !worker.heard), "{commit}");
        // And back: each line of a kind that it knew has all that was in it then.
        let now = String::from_utf8(picture.log(1)).unwrap();
        let values =
            |text: &str| text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
        let now = values(&now);
        for old in values(&log) {
            let (kind, content) = old.as_object().unwrap().iter().next().unwrap();
            // What came after it may have undone it.
            if ["Open", "Close", "Learnt"].contains(&kind.as_str()) {
                continue;
            }
            let same = now.iter().filter_map(|line| line.get(kind)).find(|line| match kind.as_str() {
                "Worker" => line["id"] == content["id"],
                "Node" => *line == content,
                _ => true,
            });
            assert_holds(same.unwrap_or_else(|| panic!("{commit}: no {old}")), content);
        }
    }
}
