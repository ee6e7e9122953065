//! A throw-away system: the real systemd, booted in a container on an overlay of this machine's own root (or of the
//! tree that `APPCTL_TEST_TREE` names), taken down when the value is dropped or the test dies, whichever way.
//!
//! The box has a network of its own (loopback only), the built binary as `/usr/bin/appctl` and as both generators, the
//! apps of `tests/apps` under `/srv/apps`, and a Node as `/usr/local/bin/node`. It needs root and systemd-nspawn;
//! without them [`Boxed::boot`] says `skipped: …` and gives `None`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything that should happen may take. Generous: the machine may be slow and shared.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_appctl");
pub(crate) const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

/// Where `tests/run` puts what the apps that are not Node's need: `/srv/languages` in the box.
pub(crate) const LANGUAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/languages");

/// Names boxes uniquely within this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What differs from box to box.
#[derive(Default)]
pub(crate) struct Options {
    files: Vec<(String, String)>,
    binds: Vec<(PathBuf, String)>,
    node: Option<u32>,
    multi_user: bool,
}

impl Options {
    /// Boots to multi-user.target, which starts what is to start at boot, without this machine's own services.
    pub(crate) fn multi_user(mut self) -> Self {
        self.multi_user = true;
        self
    }

    /// A file that is there before the boot.
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// A directory of this machine, read-only at this path.
    pub(crate) fn directory(mut self, path: &Path, inside: &str) -> Self {
        self.binds.push((path.to_owned(), inside.to_owned()));
        self
    }

    /// `/usr/local/bin/node` is this major version, from `.cache/nodes`.
    pub(crate) fn node(mut self, major: u32) -> Self {
        self.node = Some(major);
        self
    }

    /// `None`: it cannot run here; the reason has been printed.
    pub(crate) fn boot(self) -> Option<Boxed> {
        match possible(self.node) {
            Ok(node) => Some(Boxed::start(&self, &node)),
            Err(reason) => {
                skipped(&reason);
                None
            }
        }
    }
}

/// A running system.
pub(crate) struct Boxed {
    leader: u32,
    keeper: Child,
    base: PathBuf,
    name: String,
    /// Control groups of units.
    groups: Mutex<HashMap<String, String>>,
}

impl Boxed {
    pub(crate) fn boot() -> Option<Self> {
        Options::default().boot()
    }

    fn start(options: &Options, node: &Path) -> Self {
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = format!("appctl-box-{process}-{number}");
        // Removed by the keeper.
        let base = TempDir::with_prefix("appctl-box-").unwrap().keep();
        std::fs::create_dir(base.join("mnt")).unwrap();
        stage(&base.join("stage"), options);
        std::fs::write(base.join("stage/etc/hostname"), format!("{name}\n")).unwrap();
        std::fs::write(base.join("stage/etc/machine-id"), format!("{process:024x}{number:08x}\n")).unwrap();
        symlink(tree().unwrap_or_else(|| "/".into()), base.join("lower")).unwrap();

        let notify = hear(&name);
        let mut command = Command::new("setsid");
        command.arg("bash").arg(Path::new(MANIFEST).join("tests/system/boot.sh"));
        command.arg(&name).arg(&base).arg(format!("@{name}"));
        command.arg("--private-network").arg(format!("--bind-ro={BINARY}:/usr/bin/appctl"));
        command.arg(format!("--bind-ro={MANIFEST}/tests/apps:/srv/apps"));
        command.arg(format!("--bind-ro={}:/usr/local/bin/node", node.display()));
        if Path::new(LANGUAGES).exists() {
            command.arg(format!("--bind-ro={LANGUAGES}:/srv/languages"));
        }
        for (path, inside) in &options.binds {
            command.arg(format!("--bind-ro={}:{inside}", path.display()));
        }
        let target = if options.multi_user { "multi-user.target" } else { "basic.target" };
        command.args(["--boot", &format!("systemd.unit={target}")]);
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::inherit()).spawn().unwrap();

        // From here on a panic takes the box down.
        let mut machine = Self { leader: 0, keeper, base, name, groups: Mutex::default() };
        machine.await_ready(&notify);
        machine
    }

    /// `systemctl reboot`; returns when the box is up again, on the same disk.
    pub(crate) fn reboot(&mut self) {
        let notify = hear(&self.name);
        // The answer may be lost with the bus.
        let _ = self.shell("systemctl reboot");
        self.leader = 0;
        self.await_ready(&notify);
    }

    /// All of it ends at once, and is booted again on the same disk.
    pub(crate) fn power_loss(&mut self) {
        let notify = hear(&self.name);
        std::fs::write(self.base.join("again"), "").unwrap();
        let leader = Pid::from_raw(self.leader.try_into().unwrap());
        nix::sys::signal::kill(leader, nix::sys::signal::Signal::SIGKILL).unwrap();
        self.leader = 0;
        self.await_ready(&notify);
    }

    fn await_ready(&mut self, notify: &UnixDatagram) {
        let deadline = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        loop {
            assert!(!self.base.join("ended").exists(), "the box ended while it booted");
            assert!(self.keeper.try_wait().unwrap().is_none(), "the box could not be made");
            assert!(Instant::now() < deadline, "the box did not boot within {LIMIT:?}");
            let Ok(length) = notify.recv(&mut buffer) else { continue };
            for line in String::from_utf8_lossy(&buffer[..length]).lines() {
                if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    self.leader = pid.parse().unwrap();
                }
                // Ready without a leader: a last word of the boot before.
                if line == "READY=1" && self.leader != 0 {
                    return;
                }
            }
        }
    }

    /// A command in the box, as root, outside of any unit.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.leader.to_string(), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"]);
        command.env_clear().envs([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("SYSTEMD_PAGER", ""),
        ]);
        command.args(["timeout", "--kill-after=5", "600", program]).stdin(Stdio::null());
        command
    }

    /// What a line of shell gives.
    pub(crate) fn shell(&self, line: &str) -> Output {
        self.command("bash").args(["-c", line]).output().unwrap()
    }

    /// Standard output of a line of shell that must succeed, without the last newline.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.shell(line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {}\n{error}", output.status);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A file of the box, seen from here.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader))
    }

    /// Writes a file in the box, with its directories.
    pub(crate) fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// One property of a unit.
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        self.ok(&format!("systemctl show --value -p {property} -- '{unit}'"))
    }

    pub(crate) fn is_active(&self, unit: &str) -> bool {
        self.property(unit, "ActiveState") == "active"
    }

    /// Starts an app and waits until all its workers are ready. (`systemctl start` of the router alone does not wait.)
    pub(crate) fn start_app(&self, name: &str, workers: u32) {
        self.ok(&format!("systemctl start {name}.service"));
        self.until(&format!("{workers} workers of {name} are active"), || {
            (1..=workers).all(|slot| self.is_active(&format!("{name}@{slot}.service"))).then_some(())
        });
    }

    /// The main process, if there is one.
    pub(crate) fn main_pid(&self, unit: &str) -> Option<u32> {
        self.property(unit, "MainPID").parse().ok().filter(|pid| *pid > 0)
    }

    /// The processes of a unit, as this machine numbers them, and their command lines.
    pub(crate) fn processes(&self, unit: &str) -> Vec<(Pid, Vec<String>)> {
        let group = self
            .groups
            .lock()
            .unwrap()
            .entry(unit.to_owned())
            .or_insert_with(|| self.property(unit, "ControlGroup"))
            .clone();
        let list =
            std::fs::read_to_string(self.path(&format!("/sys/fs/cgroup{group}/cgroup.procs"))).unwrap_or_default();
        let words = |pid: &str| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split_terminator('\0').map(str::to_owned).collect()
        };
        list.lines().map(|pid| (Pid::from_raw(pid.parse().unwrap()), words(pid))).collect()
    }

    /// Messages only, of what `journalctl` selects by these arguments.
    pub(crate) fn journal(&self, arguments: &str) -> String {
        self.ok(&format!("journalctl --sync; journalctl -q --no-pager -o cat {arguments}"))
    }

    /// Asks until there is an answer; panics after [`LIMIT`].
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, ask: impl FnMut() -> Option<T>) -> T {
        self.until_every(Duration::from_millis(20), what, ask)
    }

    /// The same for what passes quickly.
    #[track_caller]
    pub(crate) fn until_soon<T>(&self, what: &str, ask: impl FnMut() -> Option<T>) -> T {
        self.until_every(Duration::from_millis(1), what, ask)
    }

    #[track_caller]
    fn until_every<T>(&self, pause: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
            std::thread::sleep(pause);
        }
    }

    /// A connection to an address inside.
    pub(crate) fn connect(&self, address: &str) -> TcpStream {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.leader)).unwrap();
        let enter_and_connect = || {
            // The calling thread alone, and it ends here.
            nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            TcpStream::connect(address).unwrap()
        };
        std::thread::scope(|scope| scope.spawn(enter_and_connect).join().unwrap())
    }

    /// The last line that a driver of `tests/apps/clients` prints, which is one JSON value.
    #[track_caller]
    pub(crate) fn drive(&self, driver: &str, arguments: &[&str]) -> Value {
        let mut command = self.command("node");
        let output = command.arg(format!("/srv/apps/clients/{driver}")).args(arguments).output().unwrap();
        let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{driver} {arguments:?}: {}\n{text}{error}", output.status);
        serde_json::from_str(text.lines().last().unwrap_or_default()).expect("the driver's last line is JSON")
    }

    /// What a failed test wants to see.
    fn story(&self) -> String {
        let mut story = String::new();
        let console = std::fs::read_to_string(self.base.join("console")).unwrap_or_default();
        let _ = writeln!(story, "---- console of the box\n{console}");
        if self.leader != 0 {
            let line = "systemctl --failed --no-legend; systemctl list-units --no-legend --all '*app*'; \
                        journalctl --sync; journalctl -q --no-pager -n 150 -o short-precise; \
                        echo '---- of systemd and appctl alone'; \
                        journalctl -q --no-pager -n 300 -o short-precise _PID=1 + _COMM=appctl";
            let output = self.shell(line);
            let _ = writeln!(story, "---- the box\n{}", String::from_utf8_lossy(&output.stdout));
        }
        story
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::stderr().write_all(self.story().as_bytes());
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Where systemd-nspawn and the box's systemd report. Only for the time of a boot: the systemd of a box would stand still
/// once nobody reads here.
fn hear(name: &str) -> UnixDatagram {
    let notify = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
    notify.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    notify
}

/// The root to boot other than this machine's own.
pub(crate) fn tree() -> Option<PathBuf> {
    std::env::var_os("APPCTL_TEST_TREE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What is copied into the writable layer before the boot.
pub(crate) fn stage(stage: &Path, options: &Options) {
    let write = |path: &str, text: &str| {
        let path = stage.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let link = |path: &str, target: &str| {
        let path = stage.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    };
    link("/usr/lib/systemd/system-generators/appctl-generator", "/usr/bin/appctl");
    link("/usr/lib/systemd/user-generators/appctl-generator", "/usr/bin/appctl");
    // The machine's own timers and network have no business here.
    for unit in ["timers.target", "systemd-networkd.service", "systemd-networkd.socket", "ssh.socket"] {
        link(&format!("/etc/systemd/system/{unit}"), "/dev/null");
    }
    let root = tree().unwrap_or_else(|| "/".into());
    let wanted = std::fs::read_dir(root.join("etc/systemd/system/multi-user.target.wants"));
    for entry in wanted.into_iter().flatten().filter(|_| options.multi_user) {
        let unit = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("/etc/systemd/system/{unit}");
        if !stage.join(&path[1..]).exists() && unit.ends_with(".service") {
            link(&path, "/dev/null");
        }
    }
    let journal = "[Journal]\nStorage=volatile\nRuntimeMaxUse=256M\nRateLimitIntervalSec=0\n";
    write("/etc/systemd/journald.conf.d/box.conf", journal);
    for (path, text) in &options.files {
        write(path, text);
    }
    std::fs::set_permissions(stage, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The Node to use, or why no box can be had.
fn possible(node: Option<u32>) -> Result<PathBuf, String> {
    root()?;
    for (program, package) in
        [("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux"), ("dbus-daemon", "dbus")]
    {
        if find(program).is_none() {
            return Err(format!("{program} is missing; install {package}"));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let Some(unified) = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, path, "cgroup2", ..] => Some(path),
        _ => None,
    }) else {
        return Err("no cgroup2 hierarchy is mounted; mount one".to_owned());
    };
    let probe = Path::new(unified).join(format!(
        "appctl-probe-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    ));
    if let Err(error) = std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)) {
        return Err(format!("cannot make a cgroup below {unified} ({error}); run in a privileged container"));
    }
    if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        return Err("may not make a mount namespace; run in a privileged container".to_owned());
    }
    self::node(node)
}

/// What every booted system needs: root's rights, and the tree that is to be booted.
pub(crate) fn root() -> Result<(), String> {
    let output = Command::new("id").arg("-u").output().map_err(|error| error.to_string())?;
    if output.stdout.trim_ascii() != b"0" {
        return Err("needs root (it boots a system); run tests/run as root".to_owned());
    }
    if let Some(tree) = tree().filter(|tree| !tree.join("usr/lib/systemd/systemd").exists()) {
        return Err(format!("{} holds no systemd; make it with tests/run", tree.display()));
    }
    Ok(())
}

/// The Node to use, of that major version or of whichever there is.
pub(crate) fn node(major: Option<u32>) -> Result<PathBuf, String> {
    let cached = |major: u32| Path::new(MANIFEST).join(format!(".cache/nodes/{major}/bin/node"));
    match major {
        Some(major) if cached(major).exists() => Ok(cached(major)),
        Some(major) => Err(format!("Node {major} is missing in .cache/nodes; get it with tests/run")),
        None if cached(20).exists() => Ok(cached(20)),
        None => find("node").ok_or_else(|| "node is missing; install nodejs, or get it with tests/run".to_owned()),
    }
}

/// Says so past the test harness, which hides what a passed test prints. `tests/run` counts these lines.
pub(crate) fn skipped(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stderr().write_all(format!("\nskipped: {name}: {reason}\n").as_bytes());
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.exists())?;
    std::fs::canonicalize(found).ok()
}
