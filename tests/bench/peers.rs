//! The peers: each with workers of its own, started for one shape of load, and ended with it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::proc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// No proxy at all: the clients know the workers' ports.
    Nobody,
    Appctl,
    /// appctl, whose workers have the older @socket.io/sticky, which lets clients keep their connections.
    OldSticky,
    /// appctl routing request by request.
    Routed,
    Nginx,
    Haproxy,
    Official,
    Pm2,
    /// No proxy, broadcasts through Redis.
    Redis,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Nobody,
        Self::Appctl,
        Self::OldSticky,
        Self::Routed,
        Self::Nginx,
        Self::Haproxy,
        Self::Official,
        Self::Pm2,
        Self::Redis,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Appctl => "appctl",
            Self::OldSticky => "appctl-sticky1",
            Self::Routed => "appctl-routed",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Official => "official",
            Self::Pm2 => "pm2",
            Self::Redis => "redis",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Appctl | Self::OldSticky | Self::Routed)
    }
}

/// A program that may not be there, as `tests/bench/run` found it.
pub(crate) fn tool(name: &str) -> Result<Command> {
    let variable = format!("BENCH_{}", name.to_uppercase());
    match std::env::var(&variable) {
        Ok(path) if !path.is_empty() => {
            let mut command = Command::new(path);
            if let Ok(libraries) = std::env::var("BENCH_LIBRARIES") {
                command.env("LD_LIBRARY_PATH", libraries);
            }
            Ok(command)
        }
        _ => bail!("{name} is not there"),
    }
}

pub(crate) fn bench_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench")
}

/// A running peer. All its processes are ended when it is dropped.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    /// Where clients connect; they are spread over several.
    pub(crate) targets: Vec<SocketAddr>,
    children: Vec<Child>,
    /// What is between clients and workers.
    middle: Vec<i32>,
    /// Whom we did not start ourselves: PM2's daemon.
    others: Vec<i32>,
    /// A proxy that starts when these listen: it would count failures of theirs before.
    later: Option<(Command, Vec<SocketAddr>)>,
    /// `pm2 start`, which ends when all is started, and where it leaves the daemon's process number.
    command: Option<(i32, PathBuf)>,
    scratch: tempfile::TempDir,
    log: PathBuf,
}

/// How to start one.
pub(crate) struct Plan<'a> {
    pub(crate) plain: bool,
    pub(crate) broadcast: bool,
    pub(crate) workers: usize,
    /// What its processes print goes there.
    pub(crate) log: &'a Path,
}

impl Peer {
    /// Starts it; its workers may not be there yet.
    pub(crate) fn start(kind: Kind, plan: &Plan<'_>) -> Result<Self> {
        ensure!(plan.workers > 0, "no workers");
        fs::File::create(plan.log)?;
        let mut peer = Self {
            kind,
            targets: Vec::new(),
            children: Vec::new(),
            middle: Vec::new(),
            others: Vec::new(),
            later: None,
            command: None,
            scratch: tempfile::Builder::new().prefix("appctl-bench-").tempdir()?,
            log: plan.log.to_owned(),
        };
        match kind {
            Kind::Nobody => peer.targets = peer.workers(plan, None)?,
            Kind::Appctl | Kind::OldSticky | Kind::Routed => peer.appctl(plan)?,
            Kind::Nginx => peer.nginx(plan)?,
            Kind::Haproxy => peer.haproxy(plan)?,
            Kind::Official => peer.official(plan)?,
            Kind::Pm2 => peer.pm2(plan)?,
            Kind::Redis => peer.redis(plan)?,
        }
        Ok(peer)
    }

    /// The processes between clients and workers, as they are now.
    pub(crate) fn middle(&self) -> Vec<i32> {
        match self.kind {
            // Their children are of their own kind; those of the others are the workers.
            Kind::Nginx | Kind::Haproxy => proc::tree(&self.middle),
            _ => self.middle.clone(),
        }
    }

    pub(crate) fn roots(&self) -> Vec<i32> {
        self.children.iter().map(|child| child.id() as i32).chain(self.others.iter().copied()).collect()
    }

    /// Goes on with the start. Fails if a process of it has ended, with what was printed last.
    pub(crate) fn check(&mut self) -> Result<()> {
        let listening = |workers: &[SocketAddr]| workers.iter().all(|worker| TcpStream::connect(worker).is_ok());
        if let Some((command, _)) = self.later.take_if(|(_, workers)| listening(workers)) {
            self.middle = vec![self.spawn(command)?];
        }
        if let Some((_, file)) = &self.command
            && self.others.is_empty()
            && let Ok(text) = fs::read_to_string(file)
            && let Ok(pid) = text.trim().parse()
        {
            // The daemon is nobody's child: it is ours to end from the moment that it is there.
            (self.others, self.middle) = (vec![pid], vec![pid]);
        }
        for place in 0..self.children.len() {
            let child = &mut self.children[place];
            if let Some(status) = child.try_wait()? {
                let is_command = self.command.as_ref().is_some_and(|(pid, _)| *pid == child.id() as i32);
                if is_command && status.success() && !self.others.is_empty() {
                    self.command = None;
                    self.children.remove(place).wait()?;
                    break;
                }
                bail!("{} ended ({status}): {}", self.kind.name(), last_lines(&self.log));
            }
        }
        Ok(())
    }

    /// Whether a part of it has not started yet.
    pub(crate) fn is_starting(&self) -> bool {
        self.later.is_some() || self.command.is_some()
    }

    fn spawn(&mut self, mut command: Command) -> Result<i32> {
        let log = fs::File::options().append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for us; we end them.
        command.process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let pid = child.id() as i32;
        self.children.push(child);
        Ok(pid)
    }

    /// Workers that listen themselves, each on a port of its own.
    fn workers(&mut self, plan: &Plan<'_>, redis: Option<SocketAddr>) -> Result<Vec<SocketAddr>> {
        let mut addresses = Vec::new();
        for _ in 0..plan.workers {
            let address = free_address();
            let mut command = worker(plan);
            command.arg("worker.js").env("PORT", address.port().to_string());
            if let Some(redis) = redis {
                command.env("ADAPTER", "redis").env("REDIS_PORT", redis.port().to_string());
            }
            self.spawn(command)?;
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn appctl(&mut self, plan: &Plan<'_>) -> Result<()> {
        let address = free_address();
        let app = bench_directory().join("app");
        let mut environment = format!("NODE_ENV = \"production\"\nPORT = {}\n", address.port());
        if plan.plain {
            environment.push_str("MODE = \"plain\"\n");
        } else {
            environment.push_str("ADAPTER = \"cluster\"\n");
            environment.push_str(match self.kind {
                // The router finds the sessions itself.
                Kind::Routed => "",
                Kind::OldSticky => "STICKY = 1\n",
                _ => "STICKY = 2\n",
            });
        }
        // More lines for the table, to try things out.
        let mut router = format!("[router]\n{}\n", std::env::var("BENCH_ROUTER").unwrap_or_default());
        if self.kind == Kind::Routed {
            router.push_str("shared = \"always\"\n");
        }
        let text = format!(
            "exec = [\"node\", \"worker.js\"]\ndirectory = {app:?}\nworkers = {}\nlisten = [\"{address}\"]\n\
             {router}[environment]\n{environment}",
            plan.workers
        );
        let file = self.scratch.path().join("bench.toml");
        fs::write(&file, text)?;
        let check = Command::new(env!("CARGO_BIN_EXE_appctl")).arg("check").arg(&file).output()?;
        ensure!(check.status.success(), "not in this appctl: {}", first_line(&check.stdout));
        let mut command = Command::new(env!("CARGO_BIN_EXE_appctl"));
        command.arg("run").arg(&file);
        self.middle = vec![self.spawn(command)?];
        self.targets = vec![address];
        Ok(())
    }

    fn nginx(&mut self, plan: &Plan<'_>) -> Result<()> {
        let mut command = tool("nginx")?;
        let address = free_address();
        let workers = self.workers(plan, None)?;
        let directory = self.scratch.path();
        let servers: String = workers.iter().map(|worker| format!("    server {worker};\n")).collect();
        let sticky = if plan.plain { "" } else { "    hash $remote_addr consistent;\n" };
        let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("  {name}_temp_path {}/{name};\n", directory.display()))
            .concat();
        let text = format!(
            "{user}worker_processes auto;\ndaemon off;\npid {}/pid;\nerror_log stderr error;\n\
             events {{ worker_connections 16384; }}\n\
             http {{\n  access_log off;\n  server_tokens off;\n{temporary}\
             \x20 map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
             \x20 upstream nodes {{\n{sticky}{servers}    keepalive 64;\n    keepalive_requests 1000000;\n  }}\n\
             \x20 server {{\n    listen {address} backlog=4096;\n    keepalive_requests 1000000;\n    location / {{\n\
             \x20     proxy_pass http://nodes;\n      proxy_http_version 1.1;\n\
             \x20     proxy_set_header Host $host;\n\
             \x20     proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
             \x20     proxy_set_header Upgrade $http_upgrade;\n\
             \x20     proxy_set_header Connection $connection_upgrade;\n\
             \x20     proxy_read_timeout 1h;\n    }}\n  }}\n}}\n",
            directory.display()
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, text)?;
        command.arg("-p").arg(directory).arg("-c").arg(&file).arg("-e").arg("stderr");
        self.later = Some((command, workers));
        self.targets = vec![address];
        Ok(())
    }

    fn haproxy(&mut self, plan: &Plan<'_>) -> Result<()> {
        let mut command = tool("haproxy")?;
        let address = free_address();
        let workers = self.workers(plan, None)?;
        let sticky = if plan.plain { "" } else { "  cookie SERVERID insert indirect nocache\n" };
        let servers: String = workers
            .iter()
            .enumerate()
            .map(|(number, worker)| {
                let cookie = if plan.plain { String::new() } else { format!(" cookie w{number}") };
                format!("  server w{number} {worker}{cookie}\n")
            })
            .collect();
        let text = format!(
            "global\n  maxconn 8000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  \
             timeout server 1h\n  timeout tunnel 1h\n  option http-keep-alive\n  option forwardfor\n  http-reuse always\n\
             listen bench\n  bind {address} backlog 4096\n  balance roundrobin\n{sticky}{servers}"
        );
        let file = self.scratch.path().join("haproxy.cfg");
        fs::write(&file, text)?;
        command.arg("-db").arg("-f").arg(&file);
        self.later = Some((command, workers));
        self.targets = vec![address];
        Ok(())
    }

    fn official(&mut self, plan: &Plan<'_>) -> Result<()> {
        let address = free_address();
        let mut command = worker(plan);
        command.arg("primary.js").env("PORT", address.port().to_string()).env("WORKERS", plan.workers.to_string());
        if !plan.plain {
            command.env("STICKY", "2").env("ADAPTER", "cluster");
        }
        self.middle = vec![self.spawn(command)?];
        self.targets = vec![address];
        Ok(())
    }

    fn pm2(&mut self, plan: &Plan<'_>) -> Result<()> {
        let directory = bench_directory().join("pm2");
        let program = directory.join("node_modules/@socket.io/pm2/bin/pm2");
        ensure!(program.exists(), "@socket.io/pm2 is not there");
        let address = free_address();
        let sticky = free_address();
        let home = self.scratch.path().join("pm2");
        let mut command = worker(plan);
        command.arg(program).args(["start", "worker.js", "--name", "bench", "-i", &plan.workers.to_string()]);
        command
            .env("PM2_HOME", &home)
            .env("PM2_PORT", sticky.port().to_string())
            .env("PM2_DISABLE_VERSION_CHECK", "true");
        command.env("NODE_OPTIONS", format!("--require={}", directory.join("loopback.js").display()));
        if plan.plain {
            command.env("PORT", address.port().to_string());
        } else {
            command.env("STICKY", "1").env("ADAPTER", "cluster");
        }
        self.targets = vec![if plan.plain { address } else { sticky }];
        let pid = self.spawn(command)?;
        self.command = Some((pid, home.join("pm2.pid")));
        Ok(())
    }

    fn redis(&mut self, plan: &Plan<'_>) -> Result<()> {
        ensure!(plan.broadcast, "Redis is no way in");
        let mut command = tool("redis")?;
        let address = free_address();
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &address.port().to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.arg("--dir").arg(self.scratch.path());
        self.middle = vec![self.spawn(command)?];
        self.targets = self.workers(plan, Some(address))?;
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for pid in proc::tree(&self.roots()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

fn worker(plan: &Plan<'_>) -> Command {
    let mut command = Command::new("node");
    command.current_dir(bench_directory().join("app")).env("NODE_ENV", "production");
    for variable in ["STICKY", "ADAPTER", "MODE", "PORT", "REDIS_PORT", "NODE_OPTIONS"] {
        command.env_remove(variable);
    }
    if plan.plain {
        command.env("MODE", "plain");
    }
    command
}

/// A port of loopback that nobody uses: below those that the kernel gives to clients, and another one each time.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or("").to_owned()
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}
