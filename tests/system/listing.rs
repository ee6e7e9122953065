//! How quickly `appctl list` answers: issue 5, line 3.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::boxed::{Boxed, LANGUAGES, Options, skipped};

const RUST: &str = "/srv/languages/rust-ws/debug/rust-ws";
const ROUNDS: usize = 15;

fn app(workers: u32, port: u16) -> String {
    format!(
        "exec = [\"{RUST}\"]\nruntime = \"socket\"\nworkers = {workers}\nlisten = [\"{port}\"]\nstart = \"manual\"\n"
    )
}

/// Half of the runs of each took less, the two in turns: other load meets both.
fn medians(machine: &Boxed, one: &str, other: &str) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS * 2 {
        // Without a shell, and with the same way into the box.
        let words: Vec<&str> = [one, other][round % 2].split(' ').collect();
        let mut command = machine.command(words[0]);
        let began = Instant::now();
        let output = command.args(&words[1..]).output().unwrap();
        times[round % 2].push(began.elapsed());
        assert!(output.status.success(), "{words:?}");
    }
    times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    })
}

#[test]
fn list_answers_at_once_with_fifty_workers() {
    if !std::path::Path::new(LANGUAGES).join("rust-ws/debug/rust-ws").exists() {
        return skipped("no rust-ws; tests/run makes it");
    }
    let options = Options::default().file("/etc/appctl/big.toml", &app(40, 8080));
    let files = (0..5).map(|at| (format!("/etc/appctl/small{at}.toml"), app(2, 8081 + at)));
    let Some(machine) = files.fold(options, |options, (path, text)| options.file(&path, &text)).boot() else { return };
    for name in ["big", "small0", "small1", "small2", "small3", "small4"] {
        machine.ok(&format!("appctl --quiet start {name}"));
    }
    let apps: Value = serde_json::from_str(&machine.ok("appctl list --json")).unwrap();
    let workers: Vec<&Value> =
        apps.as_array().unwrap().iter().flat_map(|app| app["workers"].as_array().unwrap()).collect();
    assert_eq!(workers.len(), 50);
    for worker in &workers {
        assert_eq!(worker["state"], "ready", "{worker}");
        assert!(worker["memory_bytes"].as_u64() > Some(10_000) && worker["uptime_seconds"].is_u64(), "{worker}");
    }
    // What the router's clocks say comes with the second look at them.
    let cpu = machine.until("the use of processors is known", || {
        let apps: Value = serde_json::from_str(&machine.ok("appctl list big --json")).unwrap();
        apps[0]["workers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|worker| worker["cpu_percent"].as_f64())
            .collect::<Option<Vec<_>>>()
    });
    assert!(cpu.iter().all(|percent| (0.0..100.0).contains(percent)), "{cpu:?}");

    let [nothing, _] = medians(&machine, "true", "true");
    let [list, units] = medians(&machine, "appctl list", "systemctl list-units");
    let (list, units) = (list.saturating_sub(nothing), units.saturating_sub(nothing));
    println!("appctl list {list:?}, systemctl list-units {units:?}, beyond {nothing:?} for nothing at all");
    println!("ratio {:.2}", list.as_secs_f64() / units.as_secs_f64());
    // Without optimization it takes several times as long. It never waits for time to pass.
    let slack = if cfg!(debug_assertions) { 12.0 } else { 3.0 };
    assert!(list < units.mul_f64(slack) + Duration::from_millis(20), "{list:?}, systemctl list-units {units:?}");
}
