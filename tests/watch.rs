//! `appctl watch` where the kernel lets it watch few directories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

/// In a user namespace of its own, whose limit is its own too.
#[test]
fn too_many_directories_are_told_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    for name in 0..9 {
        std::fs::create_dir(directory.path().join(name.to_string())).unwrap();
    }
    let line = "echo 5 >/proc/sys/user/max_inotify_watches && exec \"$0\" watch --path=\"$1\" app";
    let within = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).args(words);
        command
    };
    let possible = within(&["test", "-w", "/proc/sys/user/max_inotify_watches"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces here; allow unprivileged ones, or run as root");
        return;
    }
    let mut command = within(&["sh", "-c", line, env!("CARGO_BIN_EXE_appctl")]);
    command.arg(directory.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("fs.inotify.max_user_watches") && text.contains("ignore = ["), "{text}");
}
