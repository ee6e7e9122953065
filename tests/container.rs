//! `appctl run` as the first process of a container: its own process numbers, a root that is read-only, no /run to
//! write to, no systemd and no journal. What `packaging/container` describes.

use crate::support::{Cluster, free_address, signal, skip};
use std::net::SocketAddr;
use std::process::Command;

const RECIPE: &str = include_str!("../packaging/container/Containerfile");

/// The words of an instruction of the recipe, the last list in its line.
fn words(instruction: &str) -> Vec<String> {
    let line = RECIPE.lines().find(|line| line.starts_with(instruction)).unwrap();
    let words: Vec<String> = serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap();
    let program = |word: String| if word == "appctl" { env!("CARGO_BIN_EXE_appctl").to_owned() } else { word };
    words.into_iter().map(program).collect()
}

/// What a container's runtime does, as far as it matters here.
const CONTAINER: &str = "mount --make-rprivate / && mount -t tmpfs -o ro none /run && \
                         mount -o remount,bind,ro / && cd / && exec \"$@\"";

/// Answers with what the paths name; `/orphan` leaves a child without a parent, `/processes` tells numbers, states, parents.
const APP: &str = r#"
const { spawn } = require("child_process"), fs = require("fs");
const stat = (pid) => { try { return fs.readFileSync(`/proc/${pid}/stat`, "utf8"); } catch { return ""; } };
const processes = () => fs.readdirSync("/proc").filter(Number).map((pid) => stat(pid).replace(/^.*\) /s, "").split(" ").slice(0, 2))
  .filter((one) => one.length === 2).map(([state, parent]) => state + parent);
process.on("SIGTERM", () => { console.log("finishing"); setTimeout(() => process.exit(0), Number(process.env.LAST || 0)); });
require("http").createServer((request, response) => {
  if (request.url === "/orphan") spawn("sh", ["-c", "sh -c 'sleep 0.1; exit 3' & exit 0"], { stdio: "ignore", detached: true });
  if (request.url === "/exit") process.exit(7);
  response.end(request.url === "/processes" ? processes().join(" ") : String(process.pid));
}).listen(1);
console.log("mine"); console.error("complaint");
"#;

/// `None`: it cannot run here.
fn container(workers: u32, more: &str, flags: &[&str]) -> Option<(Cluster, i32)> {
    container_with(&[], workers, more, flags)
}

/// `namespaces`: those that it has for itself beside processes and mounts.
fn container_with(namespaces: &[&str], workers: u32, more: &str, flags: &[&str]) -> Option<(Cluster, i32)> {
    if !Command::new("unshare")
        .args(["--pid", "--mount", "--fork", "true"])
        .output()
        .is_ok_and(|it| it.status.success())
    {
        skip("may not make a process namespace: needs root");
        return None;
    }
    // The container sees it, and cannot write there.
    let files = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (script, file) = (files.path().join("worker.js"), files.path().join("app.toml"));
    std::fs::write(&script, APP).unwrap();
    let address: SocketAddr = free_address();
    let text = format!("exec = [\"node\", {script:?}]\nworkers = {workers}\nlisten = [\"{address}\"]\n{more}\n");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]);
    command.args(namespaces).args(["bash", "-c", CONTAINER, "bash"]);
    command.args(words("ENTRYPOINT")).args(flags).arg(file);
    command.env_remove("XDG_RUNTIME_DIR");
    let mut cluster = Cluster::spawn(command, files);
    cluster.address = address;
    cluster.until("serves on");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", cluster.pid())).unwrap();
    let first = children.trim().parse().unwrap();
    Some((cluster, first))
}

/// A command in the container.
fn inside(first: i32, words: &[String]) -> std::process::Output {
    let mut command = Command::new("nsenter");
    command.args(["-t", &first.to_string(), "--pid", "--mount", "--net", "--root", "--"]).args(words).output().unwrap()
}

#[test]
fn the_first_process_of_a_container_stops_all_in_peace() {
    assert!(RECIPE.lines().any(|line| line == "STOPSIGNAL SIGTERM"));
    for name in ["TERM", "INT", "QUIT", "HUP"] {
        let Some((cluster, first)) = container(2, "", &[]) else { return };
        let mut cluster = cluster.until_ready(2);
        assert_ne!(cluster.get("/").text(), "1", "PID 1 is ours");
        signal(first, name);
        assert_eq!(cluster.wait().code(), Some(0), "{name}");
        assert_eq!(
            cluster.output.iter().filter(|line| line.contains("finishing")).count(),
            2,
            "{name}: {:?}",
            cluster.output
        );
    }
}

#[test]
fn a_second_signal_kills() {
    let Some((cluster, first)) = container(1, "[stop]\ntimeout = \"1h\"\n[environment]\nLAST = \"3600000\"", &[])
    else {
        return;
    };
    let mut cluster = cluster.until_ready(1);
    signal(first, "TERM");
    cluster.until("finishing");
    signal(first, "TERM");
    assert_eq!(cluster.wait().code(), Some(0));
}

#[test]
fn the_exit_code_is_the_apps_failure() {
    let Some((cluster, _)) = container(1, "[restart]\npolicy = \"no\"", &[]) else { return };
    let mut cluster = cluster.until_ready(1);
    let mut request = cluster.connect();
    std::io::Write::write_all(&mut request, b"GET /exit HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    cluster.until("ended: exit status 7");
    assert_eq!(cluster.wait().code(), Some(1));
}

#[test]
fn orphans_of_workers_are_taken_leave_of() {
    let Some((cluster, _)) = container(1, "", &[]) else { return };
    let cluster = cluster.until_ready(1);
    for _ in 0..20 {
        cluster.get("/orphan");
    }
    // Each is an orphan at once, and ends a tenth of a second later.
    let until = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let processes = cluster.get("/processes").text();
        let orphans = processes.split(' ').filter(|one| one.ends_with('1') && one.len() == 2).count();
        // The one that does the work is the only child that stays.
        if orphans == 1 && !processes.contains('Z') {
            return;
        }
        assert!(std::time::Instant::now() < until, "{processes}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_health_check_asks_whether_a_worker_is_ready() {
    // The socket that is asked belongs to the network: other tests have theirs.
    let Some((cluster, first)) = container_with(&["--net"], 1, "", &[]) else { return };
    let mut cluster = cluster.until_ready(1);
    let ask = || inside(first, &words("HEALTHCHECK"));
    let healthy = ask();
    let text = String::from_utf8_lossy(&healthy.stdout).into_owned();
    assert!(healthy.status.success() && text.contains("app: pong ("), "{text}");
    // One that cannot be started again.
    std::fs::write(files_of(&cluster), "process.exit(7)").unwrap();
    let worker = inside(first, &["bash", "-c", "grep -l ^node /proc/[0-9]*/cmdline"].map(str::to_owned));
    let worker = String::from_utf8_lossy(&worker.stdout).into_owned();
    let worker = worker.split('/').nth(2).unwrap().to_owned();
    inside(first, &["bash".to_owned(), "-c".to_owned(), format!("kill -KILL {worker}")]);
    cluster.until("ended: exit status 7");
    let ill = ask();
    let text = String::from_utf8_lossy(&ill.stdout).into_owned();
    assert_eq!((ill.status.code(), text.trim()), (Some(1), "app: no worker is ready"));
    signal(first, "TERM");
    assert_eq!(cluster.wait().code(), Some(0));
}

/// The script of a cluster.
fn files_of(cluster: &Cluster) -> std::path::PathBuf {
    cluster.files().join("worker.js")
}

#[test]
fn lines_are_named_bare_or_json() {
    for (flags, lines) in [(&[][..], ["0|app  | mine", "0|app  | complaint"]), (&["--raw"][..], ["mine", "complaint"])]
    {
        let Some((cluster, first)) = container(1, "", flags) else { return };
        let mut cluster = cluster.until_ready(1);
        cluster.until_all(&lines);
        for line in lines {
            assert!(cluster.output.iter().any(|told| told == line), "{line}: {:?}", cluster.output);
        }
        signal(first, "TERM");
        cluster.wait();
    }
    let Some((cluster, first)) = container(1, "", &["--json"]) else { return };
    let mut cluster = cluster.until_ready(1);
    cluster.until_all(&["mine", "complaint"]);
    signal(first, "TERM");
    cluster.wait();
    let lines: Vec<serde_json::Value> = cluster
        .output
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let has = |kind: &str, message: &str| {
        lines.iter().any(|line| {
            line["type"] == kind && line["message"].as_str().unwrap().contains(message) && line["app_name"] == "app"
        })
    };
    assert!(has("out", "mine") && has("err", "complaint") && has("appctl", "serves on"), "{lines:#?}");
}
