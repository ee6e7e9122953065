//! A throw-away system with a kernel of its own, User-mode Linux: it has the cgroup controllers that a container may
//! lack, so that limits are in force. It is slow: all that is to be tried belongs into one boot.
//!
//! The root is as in [`crate::boxed`]. It needs root, and the kernel that `tests/run` fetches into `.cache/uml`.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::boxed::{self, Options};

/// The whole of it, boot and job, on a slow machine.
const LIMIT: Duration = Duration::from_secs(360);
/// The job's own, so that there is a story to tell when it hangs.
const JOB_LIMIT: &str = "300";
const MEMORY: &str = "1G";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What a job left in `/results`: file name → text.
pub(crate) type Results = BTreeMap<String, String>;

/// Boots, runs a script as a unit, and halts. An error is why it cannot run here.
///
/// The script runs in `/results`, in bash, with `set -x` into the file `log` there.
pub(crate) fn run(options: Options, script: &str) -> Result<Results, String> {
    let (kernel, node) = possible()?;
    Ok(boot(options, script, &kernel, &node))
}

/// The system while it runs; taken down when dropped.
struct Machine {
    keeper: Child,
    base: PathBuf,
}

fn boot(options: Options, script: &str, kernel: &Path, node: &Path) -> Results {
    let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    // Removed by the keeper.
    let base = TempDir::with_prefix("appctl-uml-").unwrap().keep();
    let job = "[Unit]\nAfter=basic.target dbus.service\nWants=dbus.service\n\
               [Service]\nType=oneshot\nExecStart=-/bin/bash -c 'exec bash -x /job >log 2>&1'\nWorkingDirectory=/results\n\
               Environment=HOME=/root LC_ALL=C.UTF-8 SYSTEMD_PAGER= PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\n\
               ExecStopPost=-/bin/bash -c 'journalctl --sync; journalctl -q --no-pager -o short-precise >journal 2>&1'\n\
               ExecStopPost=/bin/systemctl poweroff -ff\n";
    let options = options
        .file("/job", script)
        .file("/etc/systemd/system/job.service", &format!("{job}TimeoutStartSec={JOB_LIMIT}\n"))
        .file("/etc/hostname", "uml\n")
        .file("/etc/machine-id", &format!("{process:024x}{number:08x}\n"));
    boxed::stage(&base.join("stage"), &options);
    std::fs::create_dir(base.join("mnt")).unwrap();
    std::fs::create_dir(base.join("results")).unwrap();
    std::fs::create_dir(base.join("bind")).unwrap();
    symlink(boxed::tree().unwrap_or_else(|| "/".into()), base.join("lower")).unwrap();
    symlink(boxed::BINARY, base.join("bind/+usr+bin+appctl")).unwrap();
    symlink(Path::new(boxed::MANIFEST).join("tests/apps"), base.join("bind/+srv+apps")).unwrap();
    symlink(node, base.join("bind/+usr+local+bin+node")).unwrap();

    let mut command = Command::new("setsid");
    command.arg("bash").arg(Path::new(boxed::MANIFEST).join("tests/system/uml.sh")).arg(&base).arg(kernel);
    command.args([&format!("mem={MEMORY}"), "quiet", "systemd.show_status=no"]);
    command.args(["systemd.unit=basic.target", "systemd.wants=job.service"]);
    let keeper = command.stdin(Stdio::piped()).stdout(Stdio::inherit()).spawn().unwrap();
    let mut machine = Machine { keeper, base };
    let deadline = Instant::now() + LIMIT;
    while !machine.base.join("ended").exists() {
        assert!(machine.keeper.try_wait().unwrap().is_none(), "the system could not be made");
        assert!(Instant::now() < deadline, "the system did not end within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let results = machine.results();
    assert!(results.contains_key("journal"), "the job did not come to its end");
    let base = machine.base.clone();
    drop(machine);
    assert!(!base.exists(), "{} is left behind", base.display());
    results
}

impl Machine {
    fn results(&self) -> Results {
        let files = std::fs::read_dir(self.base.join("results")).unwrap().map(Result::unwrap);
        let text = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        files.map(|file| (file.file_name().to_string_lossy().into_owned(), text(file.path()))).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = std::fs::read_to_string(self.base.join("console")).unwrap_or_default();
            eprintln!("---- console of the system\n{console}");
            for (name, text) in self.results() {
                eprintln!("---- {name}\n{text}");
            }
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Kernel and Node, or why it cannot run.
fn possible() -> Result<(PathBuf, PathBuf), String> {
    boxed::root()?;
    if std::env::consts::ARCH != "x86_64" {
        return Err(format!("User-mode Linux runs on x86_64 only, this is {}", std::env::consts::ARCH));
    }
    let kernel = Path::new(boxed::MANIFEST).join(".cache/uml/usr/bin/linux.uml");
    if !kernel.exists() {
        return Err("there is no User-mode Linux in .cache/uml; get it with tests/run, on Debian".to_owned());
    }
    let spaces = Command::new("unshare").args(["--mount", "--pid", "--fork", "--mount-proc", "true"]).status();
    if !spaces.is_ok_and(|status| status.success()) {
        return Err("may not make namespaces; run in a privileged container".to_owned());
    }
    Ok((kernel, boxed::node(None)?))
}
