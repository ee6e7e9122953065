//! What apps show of themselves by @pm2/io, tx2 and pmx, unmodified, and what the router makes of a worker that lies.

use crate::metrics::{Metrics, Page};
use crate::support::{Cluster, PATIENCE};
use std::time::{Duration, Instant};

fn start(package: &str, workers: usize, more: &str) -> Option<(Cluster, Metrics)> {
    let (metrics, line) = Metrics::new();
    let more = format!("[environment]\nPACKAGE = \"{package}\"\n[router]\n{line}\n{more}");
    Some((Cluster::start("pmx/app.js", workers, &more)?, metrics))
}

fn sample(worker: usize, metric: &str, unit: &str) -> String {
    format!("appctl_app_metric{{worker={worker},metric={metric},unit={unit}}}")
}

#[track_caller]
fn until(metrics: &Metrics, what: &str, mut holds: impl FnMut(&Page) -> bool) -> Page {
    let end = Instant::now() + PATIENCE;
    loop {
        let page = metrics.page();
        if holds(&page) {
            return page;
        }
        assert!(Instant::now() < end, "{what}: {page:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn metrics_of_every_package_are_on_the_page() {
    for package in ["@pm2/io", "tx2", "pmx"] {
        for serialization in ["advanced", "json"] {
            let Some((_cluster, metrics)) = start(package, 2, &format!("serialization = \"{serialization}\"")) else {
                return;
            };
            // Which worker has which index is not said.
            let users = |page: &Page, value: f64| {
                [1, 2].iter().any(|it| page.get(&sample(*it, "Users", "users")) == Some(&value))
            };
            until(&metrics, package, |page| users(page, 10.0) && users(page, 11.0));
            metrics.until(&sample(1, "Downloads", ""), 6.0);
            if package == "@pm2/io" {
                metrics.until(&sample(2, "Latency", "ms"), 40.0);
                until(&metrics, "a meter", |page| {
                    page.get(&sample(1, "Requests", "req/s")).is_some_and(|it| *it > 0.0)
                });
                let page = metrics.page();
                assert!(page[&sample(1, "Used Heap Size", "MiB")] > 1.0, "a text that is a number");
                assert!(!page.contains_key(&sample(1, "Mood", "")), "what is no number is not there");
            }
            if package == "pmx" {
                assert!(metrics.page().contains_key(&sample(1, "Loop delay", "ms")), "a number with its unit");
            }
            assert_eq!(metrics.page()["appctl_app_metrics_left_out{worker=1}"], 0.0);
        }
    }
}

#[test]
fn an_exception_that_is_reported_is_one_line_with_its_stack() {
    for package in ["@pm2/io", "tx2"] {
        let Some((mut cluster, _)) = start(package, 1, "") else { return };
        assert_eq!(cluster.get("/report").status, 200);
        let line = cluster.until("worker 1 reports an exception");
        // tx2 sends no name.
        assert!(line.contains("Error: something is wrong"), "{line}");
        assert!(cluster.until("at Server.<anonymous>").contains("app.js:"));
        assert_eq!(cluster.get("/").status, 200);
    }
}

#[test]
fn a_worker_that_floods_costs_itself() {
    let Some((mut cluster, metrics)) = start("tx2", 2, "") else { return };
    metrics.until(&sample(1, "Downloads", ""), 6.0);
    metrics.until(&sample(2, "Downloads", ""), 6.0);
    let before = metrics.page()["process_resident_memory_bytes"];
    assert_eq!(cluster.get("/flood").status, 200);
    cluster.until("not all that its app tells of itself is shown");
    // The others' clients do not wait for it, nor those who ask the router.
    for _ in 0..20 {
        assert_eq!(cluster.get("/").status, 200);
    }
    let page = until(&metrics, "many metrics", |page| {
        let of = |key: &str, worker: usize| key.starts_with(&format!("appctl_app_metric{{worker={worker},"));
        let counts = [1, 2].map(|worker| page.keys().filter(|key| of(key, worker)).count());
        assert!(counts.iter().all(|count| *count <= 256), "{counts:?}");
        let flooded = counts.iter().any(|count| *count > 100);
        assert!(!flooded || counts.iter().any(|count| *count < 10), "its own alone: {counts:?}");
        flooded
    });
    assert!(!page.keys().any(|key| key.contains('\u{1b}') || key.len() > 300), "{page:?}");
    let grown = page["process_resident_memory_bytes"] - before;
    println!("resident memory: {before} + {grown} bytes");
    assert!(grown < 64e6, "{grown} bytes more");
    cluster.stop();
    let exceptions = cluster.output.iter().filter(|line| line.contains("reports an exception")).count();
    println!("{exceptions} of 5000 exceptions are told");
    assert!((1..100).contains(&exceptions), "{exceptions} of 5000 exceptions");
    assert!(!cluster.output.iter().any(|line| line.contains('\u{1b}')), "nothing for a terminal");
    let warnings = cluster.output.iter().filter(|line| line.contains("not all that its app tells")).count();
    assert_eq!(warnings, 1, "{:?}", cluster.output);
}
