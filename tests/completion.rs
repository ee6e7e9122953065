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

/// What makes a shell print the candidates for the words typed, by its own completion script: each shell itself is asked,
/// where its interface allows that, and else its completion function is called with what the shell would give it.
fn question(shell: &str, typed: &[&str]) -> String {
    let words = typed.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    match shell {
        "bash" => format!(
            "source <(appctl completion bash); COMP_WORDS=(appctl {words}); COMP_CWORD={at}; COMP_TYPE=9; COMPREPLY=(); \
             _clap_complete_appctl appctl '{last}' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            at = typed.len(),
            last = typed.last().unwrap(),
        ),
        // The word after _describe's title names an array.
        "zsh" => format!(
            "compdef() {{ }}; _describe() {{ shift 2; print -rl -- ${{(P)1}} }}; source <(appctl completion zsh); \
             words=(appctl {words}); CURRENT={at}; _clap_dynamic_completer_appctl",
            at = typed.len() + 1,
        ),
        _ => format!("appctl completion fish | source; complete --do-complete 'appctl {}'", typed.join(" ")),
    }
}

#[test]
fn shells_complete_commands_flags_and_names() {
    let root = root();
    let directory = std::path::Path::new(BINARY).parent().unwrap().display();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    for shell in ["fish", "zsh", "bash"] {
        // Without what the administrator has for every shell.
        let plain = match shell {
            "bash" => "--norc",
            "zsh" => "--no-rcs",
            _ => "--no-config",
        };
        if Command::new(shell).args(["-c", ":"]).output().is_err() {
            println!("skipped: {shell} is not installed");
            continue;
        }
        for (typed, expected) in CASES {
            let mut command = Command::new(shell);
            let found = lines(command.args([plain, "-c", &question(shell, typed)]).env("PATH", &path), &root);
            // With what it is for behind it.
            let found: Vec<&str> = found.iter().filter_map(|line| line.trim().split(['\t', ':']).next()).collect();
            for word in expected {
                assert!(found.contains(word), "{shell} {typed:?}: {word} is not in {found:?}");
            }
            assert!(!found.contains(&"router"), "{shell}: {found:?}");
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
        // Where that shell is installed.
        if let Ok(output) = Command::new(shell).arg("-n").arg(file.path()).output() {
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
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
