//! `appctl run`: workers as children, their lines, their restarts, their end.

use crate::support::{Cluster, PATIENCE, free_address, signal};
use std::path::Path;
use std::time::Instant;

/// A cluster of a script that the test brings along.
fn script(text: &str, workers: usize, more: &str) -> (Cluster, tempfile::TempDir) {
    let files = tempfile::Builder::new().prefix("with a space").tempdir().unwrap();
    let path = files.path().join("worker file.js");
    std::fs::write(&path, text).unwrap();
    (Cluster::launch(&path, workers, more), files)
}

fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn lines_carry_index_and_name() {
    let (mut cluster, _files) = script(
        "console.log('I am', process.env.NODE_APP_INSTANCE, process.env.name, process.env.instances);
         console.error('and complain');
         require('http').createServer().listen(1);",
        2,
        "",
    );
    // In any order: two workers and two streams each.
    for line in ["0|app  | I am 0 app 2", "1|app  | I am 1 app 2", "0|app  | and complain", "1|app  | and complain"] {
        if !cluster.output.iter().any(|told| told == line) {
            cluster.until(line);
        }
    }
}

/// The scheduling policy of a process: proc_pid_stat(5), field 41.
fn policy(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.split(' ').nth(41 - 3).unwrap().to_owned()
}

#[test]
fn the_router_takes_turns_and_its_workers_do_not() {
    let (mut cluster, _files) =
        script("console.log('pid', process.pid); require('http').createServer().listen(1);", 1, "");
    let line = cluster.until("| pid ");
    let worker = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!((policy(cluster.pid()).as_str(), policy(worker).as_str()), ("3", "0"), "SCHED_BATCH, SCHED_OTHER");
}

#[test]
fn ctrl_c_stops_all_within_the_stop_timeout() {
    let (mut cluster, _files) = script(
        "process.on('SIGTERM', () => console.log('deaf'));
         console.log('pid', process.pid);
         require('http').createServer().listen(1);",
        2,
        "[stop]\ntimeout = \"2s\"",
    );
    cluster.until("is ready");
    cluster.until("is ready");
    let pids = [(); 2].map(|()| cluster.until("| pid ").rsplit(' ').next().unwrap().parse::<i32>().unwrap());
    let started = Instant::now();
    assert!(cluster.stop().success());
    assert!(started.elapsed() < PATIENCE / 2);
    assert!(cluster.output.iter().any(|line| line.contains("deaf")), "it was asked first: {:#?}", cluster.output);
    assert!(!pids.iter().any(|pid| alive(*pid)));
}

#[test]
fn a_worker_that_dies_is_started_again_and_keeps_its_index() {
    let (mut cluster, _files) = script(
        "console.log('pid', process.pid, 'index', process.env.NODE_APP_INSTANCE);
         require('http').createServer((q, r) => r.end(String(process.pid))).listen(1);",
        2,
        "",
    );
    cluster.until("is ready");
    cluster.until("is ready");
    let line = cluster.until("index 1");
    let pid: i32 = line.split_whitespace().nth(3).unwrap_or_default().parse().unwrap_or_else(|_| panic!("{line}"));
    signal(pid, "KILL");
    cluster.until(&format!("worker 2 (pid {pid}) ended: killed by SIGKILL; appctl starts it again in 100ms"));
    let again = cluster.until("index 1");
    assert!(again.starts_with("1|app  | pid "), "{again}");
    cluster.until("worker 2");
}

#[test]
fn without_restarts_the_end_of_the_workers_is_the_end() {
    let (mut cluster, _files) = script("process.exit(3)", 2, "[restart]\npolicy = \"no\"");
    assert_eq!(cluster.wait().code(), Some(1));
}

#[test]
fn a_listed_exit_code_is_no_failure_and_no_reason_to_start_again() {
    let (mut cluster, _files) = script("process.exit(3)", 2, "[restart]\nstop_exit_codes = [3]");
    cluster.until("ended: exit status 3; it stays down");
    assert_eq!(cluster.wait().code(), Some(0));
}

#[test]
fn the_pause_grows_up_to_its_limit() {
    let (mut cluster, _files) = script("process.exit(7)", 1, "[restart]\ndelay = \"100ms\"\nbackoff = \"300ms\"");
    for pause in ["100ms", "150ms", "225ms", "300ms", "300ms"] {
        let line = cluster.until("ended: exit status 7");
        assert!(line.ends_with(&format!("appctl starts it again in {pause}")), "{line}");
    }
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let mut cluster =
        Cluster::launch_text(&format!("exec = [\"/no/such/program\"]\nlisten = [\"{}\"]", free_address()));
    cluster.until("/no/such/program");
    assert_eq!(cluster.wait().code(), Some(1));
}

#[test]
fn a_worker_that_prints_100_megabytes_stops_nobody() {
    let (mut cluster, _files) = script(
        "const http = require('http');
         if (process.env.NODE_APP_INSTANCE === '0') {
           const line = 'x'.repeat(1 << 20) + '\\n';
           let left = 100;
           const more = () => { while (left-- > 0) if (!process.stdout.write(line)) return process.stdout.once('drain', more);
                                console.log('printed all'); };
           more();
         }
         http.createServer((q, r) => r.end('served')).listen(1);",
        2,
        "",
    );
    cluster.until("serves on");
    for _ in 0..20 {
        assert_eq!(cluster.get("/").text(), "served");
    }
    cluster.until("printed all");
    let printed: usize = cluster.output.iter().map(|line| line.matches('x').count()).sum();
    assert!(printed >= 100 << 20, "{printed}");
}

/// A worker that hangs does not notice that its channel is closed.
#[test]
fn nothing_is_left_when_it_is_killed() {
    let (mut cluster, _files) = script("console.log('pid', process.pid); while (true);", 1, "");
    let line = cluster.until("| pid ");
    let pid: i32 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    let worker = appctl::system::process::pidfd(pid).unwrap();
    signal(cluster.pid(), "KILL");
    assert!(appctl::system::process::readable_within(&worker, PATIENCE).unwrap());
}

#[test]
fn a_worker_is_told_to_stop_in_its_own_words() {
    let (mut cluster, _files) = script(
        "process.on('SIGTERM', () => console.log('signalled'));
         process.on('message', (m) => { console.log('told', m); if (m === 'finish up') process.exit(0); });
         require('http').createServer().listen(1);",
        2,
        "[stop]\nmessage = \"finish up\"\ntimeout = \"30s\"",
    );
    cluster.until("is ready");
    cluster.until("is ready");
    assert!(cluster.stop().success());
    let told = cluster.output.iter().filter(|line| line.contains("| told finish up")).count();
    assert_eq!(told, 2, "{:#?}", cluster.output);
    assert!(!cluster.output.iter().any(|line| line.contains("signalled")), "{:#?}", cluster.output);
}
