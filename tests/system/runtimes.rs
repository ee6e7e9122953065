//! Workers under Bun and Deno: issue 4, line 4.

use crate::boxed::{MANIFEST, Options, skipped};
use crate::reload::{FILE, Load, active, code, text};

/// 100 sessions on 3 workers, and a reload that no request notices.
fn serves_and_reloads(runtime: &str, program: &str, flags: &str) {
    let installed = std::path::Path::new(MANIFEST).join("tests/apps").join(program);
    if !installed.exists() {
        return skipped(&format!("no {}: run npm ci in tests/apps/runtimes", installed.display()));
    }
    let file = |version: &str| {
        format!(
            "exec = \"/srv/apps/{program} {flags} worker.js\"\nruntime = \"{runtime}\"\ndirectory = \"/srv/apps/chat\"\n\
             workers = 3\nlisten = [\"8080\"]\ndrain = \"1s\"\n[reload]\nsettle = \"500ms\"\n\
             [environment]\nVERSION = \"{version}\"\n"
        )
    };
    let Some(machine) = Options::default().file(FILE, &file("1")).boot() else { return };
    machine.ok("appctl start app");
    assert_eq!(active(&machine).len(), 3);
    let mut load = Load::start(&machine, &["--each", "34", "--width", "2"]);
    assert_eq!(load.report()["versions"], serde_json::json!({ "1": 102 }));
    for version in ["2", "3"] {
        machine.write(FILE, &file(version));
        let output = machine.shell("appctl reload app");
        assert_eq!(code(&output), 0, "{}", text(&output));
        let report = load.report();
        println!("{runtime}: {report}");
        Load::nothing_failed(&report);
        assert!(report["most_drops"].as_u64().is_some_and(|n| n <= 1), "{report}");
        assert_eq!(report["versions"], serde_json::json!({ version: 102 }), "{report}");
    }
    assert_eq!(machine.property("app.service", "NRestarts"), "0");
}

#[test]
fn bun_serves_a_hundred_sessions_and_reloads() {
    serves_and_reloads("bun", "runtimes/node_modules/@oven/bun-linux-x64-baseline/bin/bun", "");
}

#[test]
fn deno_serves_a_hundred_sessions_and_reloads() {
    let deno = "runtimes/node_modules/@deno/linux-x64-glibc/deno";
    serves_and_reloads("deno", deno, "run -A --unstable-detect-cjs");
}
