//! What a shell is told when it completes.

use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_appctl");

/// A root with two apps, whose files are where the program looks.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for directory in ["etc/appctl", ".config/appctl"] {
        let directory = root.path().join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("shop.toml"), "exec = 'node /srv/worker.js'\nworkers = 2\n").unwrap();
        std::fs::write(directory.join("chat.toml"), "exec = 'node /srv/worker.js'\n").unwrap();
    }
    root
}

/// Standard output, line by line.
#[track_caller]
fn lines(command: &mut Command, root: &tempfile::TempDir) -> Vec<String> {
    let output =
        command.env("APPCTL_ROOT", root.path()).env("HOME", root.path()).current_dir(root.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What stands typed, the last word of it incomplete, and what may come.
const CASES: [(&[&str], &[&str]); 6] = [
    (&["rel"], &["reload"]),
    (&["reload", ""], &["chat", "shop", "all"]),
    (&["stop", "chat", "sh"], &["shop"]),
    (&["restart", "shop@"], &["shop@1", "shop@2"]),
    (&["scale", "s"], &["shop"]),
    (&["reload", "--ab"], &["--abort"]),
];

#[test]
fn bash_completes_commands_flags_and_names() {
    let root = root();
    for (typed, expected) in CASES {
        let words: Vec<String> = typed.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "PATH={directory}:$PATH; source <(appctl completion bash); COMP_WORDS=(appctl {words}); COMP_CWORD={at}; \
             COMP_TYPE=9; COMPREPLY=(); _clap_complete_appctl appctl '{last}' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            directory = std::path::Path::new(BINARY).parent().unwrap().display(),
            words = words.join(" "),
            at = typed.len(),
            last = typed.last().unwrap(),
        );
        let found = lines(Command::new("bash").args(["-c", &script]), &root);
        let found: Vec<&str> =
            found.iter().map(|word| word.trim()).filter(|word| !word.starts_with('-') || typed.len() == 2).collect();
        for word in expected {
            assert!(found.contains(word), "{typed:?}: {word} is not in {found:?}");
        }
        assert!(found.iter().all(|word| word.starts_with(typed.last().unwrap())), "{typed:?}: {found:?}");
        assert!(!found.contains(&"router"), "{found:?}");
    }
}

#[test]
fn zsh_and_fish_are_told_the_same() {
    let root = root();
    for (typed, expected) in CASES {
        for shell in ["zsh", "fish"] {
            let mut command = Command::new(BINARY);
            command.env("APPCTL_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", typed.len().to_string());
            let found = lines(command.args(["--", "appctl"]).args(typed), &root);
            for word in expected {
                let told = found.iter().any(|line| line.split(['\t', ':']).next() == Some(word));
                assert!(told, "{shell} {typed:?}: {word} is not in {found:?}");
            }
            assert!(found.iter().all(|word| word.starts_with(typed.last().unwrap())), "{shell} {typed:?}: {found:?}");
        }
    }
}

#[test]
fn scripts_are_sound() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Command::new(BINARY).args(["completion", shell]).output().unwrap();
        assert!(script.status.success() && script.stdout.len() > 100, "{shell}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &script.stdout).unwrap();
        match Command::new(shell).arg("-n").arg(file.path()).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => crate::support::skip(&format!("{shell} cannot be run ({error}); tests/run installs it")),
        }
    }
    let wrong = Command::new(BINARY).args(["completion", "tcsh"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("bash, zsh, fish"));
}

#[test]
fn help_in_a_pipe_is_text() {
    let root = root();
    let help = |words: &[&str]| lines(Command::new(BINARY).arg("help").args(words), &root).join("\n");
    assert!(help(&[]).contains("startOrReload"));
    let start = help(&["start"]);
    assert!(
        start.contains("--restart-delay") && start.contains("Examples:\n  appctl start worker.js -i max"),
        "{start}"
    );
    assert_eq!(help(&["ls"]), help(&["list"]));
    let keys = help(&["appctl.toml"]);
    assert!(keys.contains("\n  limits.memory_reload\n") && !keys.contains("\\f"), "{keys}");
    assert!(help(&["save"]).is_empty());
    for (word, said) in [("strat", "Did you mean `appctl help start`?"), ("xyzzy", "`appctl --help` lists")] {
        let output = Command::new(BINARY).args(["help", word]).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && err.contains(said), "{err}");
    }
}
