//! Handovers to real Node workers: every client reaches the request that it made.

use crate::support::{Cluster, head, read_response, signal};
use std::io::Write;

/// The worker that answers a session's requests.
fn worker_of(cluster: &Cluster, sid: &str) -> (i32, String) {
    let answer = cluster.get(&format!("/who?sid={sid}"));
    let who: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    (who["pid"].as_i64().unwrap() as i32, who["index"].as_str().unwrap().to_owned())
}

/// A worker is stopped; packets of 64 KiB and 200 KiB are relayed to it while 1,000 connections are handed to it. The
/// channel fills up, frames straddle every read boundary, and the handovers wait. When it goes on, each client gets the
/// answer to its own request.
fn back_pressure(pair: &str, serialization: &str) {
    const CONNECTIONS: usize = 1000;
    let more = format!("[environment]\nPAIR = \"{pair}\"\n[router]\nserialization = \"{serialization}\"");
    let Some(cluster) = Cluster::start("chat/worker.js", 2, &more) else { return };
    let mut sessions = vec![cluster.session()];
    let stopped = worker_of(&cluster, &sessions[0]);
    let talker = loop {
        let sid = cluster.session();
        if worker_of(&cluster, &sid) != stopped {
            break sid;
        }
        sessions.push(sid);
    };
    signal(stopped.0, "STOP");
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        if number % 100 == 0 {
            // Relayed to the stopped worker, between the handovers.
            for size in [64 * 1024, 200 * 1024, 64 * 1024 - 150] {
                let packet = format!("42[\"all\",\"{}\"]", "x".repeat(size));
                assert_eq!(cluster.send(&talker, &packet), 200);
            }
        }
        let mut client = cluster.connect();
        client.write_all(&head("GET", &format!("/path?n={number}&sid={}", sessions[0]), 0)).unwrap();
        clients.push(client);
    }
    // Connections are taken in order: once this one is answered, all before it are on their way.
    assert_eq!(cluster.get(&format!("/path?n=x&sid={talker}")).text(), "x");
    signal(stopped.0, "CONT");
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = read_response(client);
        assert_eq!((answer.status, answer.text()), (200, number.to_string()));
    }
    assert_eq!(worker_of(&cluster, &sessions[0]), stopped, "the worker has not been replaced");
}

#[test]
fn handover_under_back_pressure_in_advanced_mode() {
    back_pressure("new", "advanced");
}

#[test]
fn handover_under_back_pressure_in_json_mode() {
    back_pressure("old", "json");
}
