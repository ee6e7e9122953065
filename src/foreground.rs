//! `appctl run`: the same router and relay without systemd; workers are children, their lines go to standard output.
//!
//! For containers and laptops. It starts no manager of any kind: one process, its workers, nothing left behind.

mod outside;
mod signals;

use crate::config::restart::GROWTH;
use crate::config::router::{ReadyOn, RouterSettings};
use crate::config::value::{Listen, write_span};
use crate::config::{App, Numbering, Runtime};
use crate::router::table::Place;
use crate::router::{Listeners, Router, run};
use crate::system::activation::Listener;
use crate::system::ended::{Exit, How};
use crate::system::place::foreground;
use crate::system::process::{ended, leash, pass_at, take_turns};
use crate::wire::Encoding;
use crate::wire::hello::{Ended, Next};
use crate::worker::environment::{CHANNEL, Identity, numbered, variables, without_channel};
use crate::worker::exec::preferred;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use outside::{Ear, Seat};
use signals::Signals;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::task::LocalSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Waiting connections of a public socket.
const BACKLOG: u32 = 4096;
/// Longest piece of a worker's output that is kept together, bytes.
const LINE_LIMIT: u64 = 64 * 1024;
/// Longest pause before a worker that keeps failing is started again.
const MOST_DELAY: Duration = Duration::from_secs(15);

/// What to run and how.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: String,
    /// Program and arguments, not empty.
    pub program: Vec<OsString>,
    pub runtime: Runtime,
    pub directory: Option<PathBuf>,
    pub environment: Vec<(String, String)>,
    pub numbering: Numbering,
    pub listen: Vec<Listen>,
    /// `workers` in here is how many to run.
    pub settings: RouterSettings,
    pub autorestart: bool,
    /// Before a worker is started again; without `backoff` doubled while it fails before it was ever ready.
    pub restart_delay: Duration,
    /// The pause grows up to this, and is `restart_delay` again after a worker that was ready and stood so long.
    pub backoff: Option<Duration>,
    /// Exit statuses after which a worker stays down and has not failed.
    pub stop_exit_codes: Vec<u8>,
    /// Sent over its channel to a worker that is to stop; then it has [`Self::stop_timeout`] until it gets the signal.
    pub stop_message: Option<String>,
    /// Sent to a worker that is to stop.
    pub stop_signal: Signal,
    /// From the signal to SIGKILL.
    pub stop_timeout: Duration,
    /// Prefix the workers' lines with the time.
    pub time: bool,
    pub lines: Lines,
}

impl Options {
    /// What an app's file says, as far as it makes sense without systemd: users, limits, slices and the pass-through keys
    /// are systemd's business, and this process has one user.
    pub fn of(app: &App, processors: u32) -> Result<Self, ForegroundError> {
        let mut environment = Vec::new();
        for file in &app.environment_files {
            let (path, optional) = file.strip_prefix('-').map_or((file.as_str(), false), |path| (path, true));
            let failed = |source| ForegroundError::EnvironmentFile { path: path.to_owned(), source };
            match dotenvy::from_path_iter(path) {
                Ok(variables) => {
                    for variable in variables {
                        environment.push(variable.map_err(failed)?);
                    }
                }
                Err(error) if optional && error.not_found() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        environment.extend(app.environment.clone());
        let mut settings = app.router.clone();
        settings.workers = app.workers.resolve(processors);
        Ok(Self {
            name: app.name.clone(),
            program: app.exec.iter().map(OsString::from).collect(),
            runtime: app.runtime,
            directory: app.directory.clone(),
            environment,
            numbering: app.numbering.clone(),
            listen: app.listen.clone(),
            settings,
            autorestart: app.restart.policy != "no",
            restart_delay: app.restart.delay,
            backoff: app.restart.backoff,
            stop_exit_codes: app.restart.stop_exit_codes.clone(),
            stop_signal: Signal::from_str(&app.stop.signal)
                .map_err(|_| ForegroundError::Signal(app.stop.signal.clone()))?,
            stop_message: app.stop.message.clone(),
            stop_timeout: app.stop.timeout,
            time: false,
            lines: Lines::Named,
        })
    }
}

/// What becomes of the workers' lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// With index and name before each.
    Named,
    /// As they are.
    Raw,
    /// Each a JSON object, and our own lines too.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum ForegroundError {
    #[error("environment file {path}: {source}")]
    EnvironmentFile { path: String, source: dotenvy::Error },
    #[error("{0} is not a signal that can be sent here")]
    Signal(String),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("cannot start {program}: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves until Ctrl-C or SIGTERM, or, without `autorestart`, until all workers have ended.
pub fn main(options: Options) -> Result<ExitCode, ForegroundError> {
    match options.lines {
        Lines::Json => crate::system::log::init_json(&options.name),
        Lines::Named | Lines::Raw => crate::system::log::init(&options.name),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(options))
}

async fn serve(options: Options) -> Result<ExitCode, ForegroundError> {
    // Before anything is done: one that comes now is not lost.
    let signals = Signals::new()?;
    let public = options.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    // Bound before anything is told: who reads that may ask at once.
    let metrics = options.settings.metrics.as_ref().map(bind).transpose()?;
    for listener in &public {
        tracing::info!("{} serves on {}", options.name, listener.address());
    }
    if let Some(listener) = &metrics {
        tracing::info!("the metrics of {} are on {}", options.name, listener.address());
    }
    // As in the router's unit: woken for every event, it would interrupt the workers when all processors are busy.
    if let Err(error) = take_turns() {
        tracing::debug!(%error, "cannot take turns with the workers");
    }
    let router = Router::new(&options.name, options.settings.clone(), &public);
    router.load_certificates(None);
    router.set_abort(Box::new(|pid| {
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGABRT) {
            tracing::error!("cannot abort pid {pid} [{error}]");
        }
    }));
    let stop = CancellationToken::new();
    // Two of the same name share none; it is for `appctl ping --run`.
    let control =
        foreground(&options.name).inspect_err(|error| tracing::debug!(%error, "nobody can ask how it is")).ok();
    let listeners = Listeners { public, channel: None, control, metrics };
    let routing = tokio::task::spawn_local(run(Rc::clone(&router), listeners, stop.clone()));

    let house = Rc::new(House {
        options,
        router,
        stop: CancellationToken::new(),
        kill: CancellationToken::new(),
        output: Mutex::new(tokio::io::stdout()),
    });
    let workers: Vec<_> = (0..house.options.settings.workers)
        .map(|number| tokio::task::spawn_local(Rc::clone(&house).keep(number)))
        .collect();
    let signals = tokio::task::spawn_local(Rc::clone(&house).heed(signals));

    let mut last = Ok(());
    let mut failed = false;
    for worker in workers {
        match worker.await {
            Ok(Ok(how)) => failed |= how.is_some_and(|how| how.failed()),
            Ok(Err(error)) => {
                // A program that cannot be started at all will not be started the next time either.
                house.stop.cancel();
                last = Err(error);
            }
            Err(error) => last = Err(io::Error::other(error).into()),
        }
    }
    signals.abort();
    stop.cancel();
    if let Ok(Err(error)) = routing.await {
        return Err(error.into());
    }
    remove_paths(house.options.listen.iter().chain(&house.options.settings.metrics));
    last?;
    let asked = house.stop.is_cancelled();
    Ok(if failed && !asked { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What all workers share.
struct House {
    options: Options,
    router: Rc<Router>,
    stop: CancellationToken,
    kill: CancellationToken,
    output: Mutex<tokio::io::Stdout>,
}

impl House {
    /// The first signal stops, a second one kills.
    async fn heed(self: Rc<Self>, mut signals: Signals) {
        for token in [&self.stop, &self.kill] {
            signals.next().await;
            token.cancel();
        }
    }

    /// Runs one slot, again and again. Says how its last worker ended, unless it was told to.
    async fn keep(self: Rc<Self>, number: u32) -> Result<Option<How>, ForegroundError> {
        let slot = (number + 1).to_string();
        let mut delay = self.options.restart_delay;
        let mut first = true;
        loop {
            let started = Instant::now();
            let (mut child, id, pid, _seat) = match self.start(&slot) {
                Ok(started) => started,
                Err(error) if first => return Err(error),
                Err(error) => {
                    tracing::error!("worker {slot}: {error}");
                    delay = self.pause(delay).await;
                    continue;
                }
            };
            first = false;
            let streams = self.carry(&mut child, number);
            let mut ready = false;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status?,
                    () = self.stop.cancelled() => break self.end(&mut child, id, pid).await?,
                    () = self.router.until_ready(id), if !ready => ready = true,
                }
            };
            streams.await;
            let mut how = How::of_child(status);
            let stays = status.code().is_some_and(|code| self.stays_down(code));
            if stays {
                how.result = "success".to_owned();
            }
            let ordered = self.stop.is_cancelled();
            let stood = started.elapsed();
            match self.options.backoff {
                Some(most) if ready && stood > most => delay = self.options.restart_delay,
                None if ready => delay = self.options.restart_delay,
                _ => {}
            }
            let down = stays || !self.options.autorestart;
            let next = if down { Next::Nothing } else { Next::Restart(write_span(delay)) };
            self.router.worker_ended(&slot, &told(&how, pid, ordered, next)).await;
            if ordered || down {
                return Ok(Some(how).filter(|_| !ordered));
            }
            delay = self.pause(delay).await;
            if self.stop.is_cancelled() {
                return Ok(None);
            }
        }
    }

    fn stays_down(&self, code: i32) -> bool {
        self.options.stop_exit_codes.iter().any(|listed| i32::from(*listed) == code)
    }

    /// Waits before the next try; says how long to wait the time after.
    async fn pause(&self, delay: Duration) -> Duration {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.stop.cancelled() => {}
        }
        match self.options.backoff {
            // Whole milliseconds, since they are told.
            Some(most) => Duration::from_millis((delay.as_secs_f64() * GROWTH * 1000.0).round() as u64).min(most),
            None => (delay * 2).clamp(Duration::from_millis(100), MOST_DELAY),
        }
    }

    fn start(&self, slot: &str) -> Result<(Child, u32, i32, Option<Seat>), ForegroundError> {
        let options = &self.options;
        let Some((program, arguments)) = options.program.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is given").into());
        };
        let ear = (options.settings.ready_on == ReadyOn::Notify).then(Ear::open).transpose()?;
        // The worker's number must be in its environment before its process exists.
        let (id, seat, spawned) = if options.runtime.has_channel() {
            let encoding = self.router.agreed(preferred(options.runtime, program));
            let (ours, theirs) = UnixStream::pair()?;
            let id = self.router.attach(OwnedFd::from(ours), slot, 0, encoding, |_, _| Ok(Vec::new()))?;
            let mut command = std::process::Command::new(program);
            command.args(arguments).envs(self.numbered(id, variables(&self.identity(slot, id, encoding))));
            pass_at(&mut command, theirs.as_fd(), CHANNEL);
            (id, None, self.spawn(command, ear.as_ref()))
        } else {
            let mut seat = Seat::make(options.runtime)?;
            let id = self.router.attach_outside(slot, 0, seat.place.clone());
            let mut command = seat.command(program, arguments);
            let port = matches!(seat.place, Place::Port(_));
            let variables = self.numbered(id, without_channel(&self.identity(slot, id, Encoding::Json)));
            command.envs(variables.into_iter().filter(|(name, _)| !(port && name == "PORT")));
            let listener = seat.listener.take();
            if let Some(listener) = &listener {
                pass_at(&mut command, listener.as_fd(), CHANNEL);
            }
            (id, Some(seat), self.spawn(command, ear.as_ref()))
        };
        let pid = spawned.as_ref().ok().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        self.router.set_pid(id, pid);
        if seat.is_some() {
            self.router.serve_outside(id);
        } else {
            self.router.serve_worker(id);
        }
        if let Some(ear) = ear {
            self.listen_for(ear, id, pid);
        }
        match spawned {
            Ok(child) => Ok((child, id, pid, seat)),
            Err(source) => Err(ForegroundError::Spawn { program: program.display().to_string(), source }),
        }
    }

    fn numbered(&self, id: u32, variables: impl IntoIterator<Item = (&'static str, String)>) -> Vec<(String, String)> {
        let own = |name: &str| {
            let set = self.options.environment.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone());
            set.or_else(|| std::env::var(name).ok())
        };
        numbered(variables, &self.options.numbering, self.router.index_of(id).unwrap_or(0), own)
    }

    fn identity<'a>(&'a self, slot: &'a str, id: u32, encoding: Encoding) -> Identity<'a> {
        let index = self.router.index_of(id).unwrap_or(0);
        Identity { app: &self.options.name, slot, id, index, workers: self.options.settings.workers, encoding }
    }

    fn spawn(&self, mut command: std::process::Command, ear: Option<&Ear>) -> io::Result<Child> {
        let options = &self.options;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What appctl itself says of the worker stands.
        let said: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        let own = options.environment.iter().filter(|(name, _)| !said.iter().any(|known| known == name.as_str()));
        command.envs(own.map(|(name, value)| (name, value)));
        if let Some(directory) = &options.directory {
            command.current_dir(directory);
        }
        if let Some(ear) = ear {
            command.env("NOTIFY_SOCKET", &ear.name);
        }
        leash(&mut command);
        Command::from(command).kill_on_drop(true).spawn()
    }

    /// Tells the router when the child says that it is ready; hears it for as long as it lives.
    fn listen_for(&self, ear: Ear, id: u32, pid: i32) {
        let router = Rc::clone(&self.router);
        tokio::task::spawn_local(async move {
            let hear = async {
                loop {
                    if let Err(error) = ear.until_ready().await {
                        return tracing::warn!("cannot hear what a worker says of itself: {error}");
                    }
                    router.notified(id);
                }
            };
            tokio::select! {
                () = hear => {}
                () = ended(u32::try_from(pid).unwrap_or(0)) => {}
            }
        });
    }

    /// Tells a worker to stop, and kills its whole group when it does not.
    async fn end(&self, child: &mut Child, id: u32, pid: i32) -> io::Result<ExitStatus> {
        if let Some(message) = &self.options.stop_message {
            self.router.tell(id, message);
            tokio::select! {
                status = child.wait() => return status,
                () = tokio::time::sleep(self.options.stop_timeout) => {}
                () = self.kill.cancelled() => {}
            }
        }
        let group = Pid::from_raw(pid);
        // It may have ended by itself meanwhile; then there is nobody to tell.
        let _ = killpg(group, self.options.stop_signal);
        tokio::select! {
            status = child.wait() => return status,
            () = tokio::time::sleep(self.options.stop_timeout) => {}
            () = self.kill.cancelled() => {}
        }
        let _ = killpg(group, Signal::SIGKILL);
        child.wait().await
    }

    /// Copies what a worker prints, line by line with its prefix; ends when the worker's streams do.
    fn carry(self: &Rc<Self>, child: &mut Child, number: u32) -> impl Future<Output = ()> + use<> {
        let tasks: Vec<_> = [
            child.stdout.take().map(|out| tokio::task::spawn_local(Rc::clone(self).copy(out, number, "out"))),
            child.stderr.take().map(|err| tokio::task::spawn_local(Rc::clone(self).copy(err, number, "err"))),
        ]
        .into_iter()
        .flatten()
        .collect();
        async move {
            // A grandchild may hold the pipe open after the worker is gone; its lines are not waited for.
            let all = async {
                for task in tasks {
                    if let Ok(Err(error)) = task.await {
                        tracing::warn!("cannot print a worker's output: {error}");
                    }
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
        }
    }

    fn time(&self) -> String {
        let now = || humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        if self.options.time { format!("{}: ", now()) } else { String::new() }
    }

    /// With the keys that PM2 gives it.
    fn json(&self, line: &[u8], number: u32, kind: &str) -> io::Result<Vec<u8>> {
        let text = String::from_utf8_lossy(line);
        let mut json = serde_json::to_vec(&serde_json::json!({
            "message": text.trim_end_matches('\n'),
            "timestamp": humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
            "type": kind,
            "process_id": number,
            "app_name": self.options.name,
        }))?;
        json.push(b'\n');
        Ok(json)
    }

    async fn copy(self: Rc<Self>, stream: impl AsyncRead + Unpin, number: u32, kind: &str) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut reader).take(LINE_LIMIT).read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            let prefix = match self.options.lines {
                Lines::Named => format!("{number}|{}  | {}", self.options.name, self.time()),
                Lines::Raw => self.time(),
                Lines::Json => {
                    line = self.json(&line, number, kind)?;
                    String::new()
                }
            };
            let mut output = self.output.lock().await;
            output.write_all(prefix.as_bytes()).await?;
            output.write_all(&line).await?;
            output.flush().await?;
        }
    }
}

/// What systemd would say of such an end.
fn told(how: &How, pid: i32, ordered: bool, next: Next) -> Ended {
    let (code, status) = match &how.exit {
        Some(Exit::Status(status)) => ("exited", status.to_string()),
        Some(Exit::Signal { name, dumped }) => (if *dumped { "dumped" } else { "killed" }, name.clone()),
        None => ("", String::new()),
    };
    Ended {
        // One that was told to stop has stopped, however it does that.
        result: if ordered { "success".to_owned() } else { how.result.clone() },
        code: code.to_owned(),
        status,
        invocation: None,
        pid: Some(pid).filter(|pid| *pid > 0),
        ordered: Some(ordered),
        next: Some(next),
    }
}

/// A public socket with the options that `APP.socket` would have.
fn bind(listen: &Listen) -> Result<Listener, ForegroundError> {
    let failed = |source| ForegroundError::Listen { address: listen.to_string(), source };
    match listen {
        // All addresses, both families; IPv4 alone where the kernel has no IPv6.
        Listen::Port(port) => bind_tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)))
            .or_else(|error| match error.raw_os_error() {
                Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
                    bind_tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)))
                }
                _ => Err(error),
            })
            .map_err(failed),
        Listen::Address(address) => bind_tcp(*address).map_err(failed),
        Listen::Path(path) => bind_path(path).map_err(failed),
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    // As systemd's socket units have it. Connections inherit this; what comes to a worker by way of a message, and not of
    // its own server, would be without.
    nix::sys::socket::setsockopt(&listener, nix::sys::socket::sockopt::TcpNoDelay, &true)?;
    crate::system::sock::defer_accept(&listener, Duration::from_secs(1))?;
    Ok(Listener::Tcp(listener))
}

fn bind_path(path: &Path) -> io::Result<Listener> {
    let stale = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if stale {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path).map(Listener::Unix)
}

fn remove_paths<'a>(listen: impl Iterator<Item = &'a Listen>) {
    for listen in listen {
        if let Listen::Path(path) = listen
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
}
