//! `appctl monit` on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::boxed::{Boxed, LIMIT, Options};

const ROWS: u16 = 30;
const COLUMNS: u16 = 100;
const APP: &str =
    "const server = require('http').createServer((q, r) => { console.log('asked for ' + q.url); r.end('fine'); });
server.listen(3000);";

fn boot(workers: usize) -> Option<Boxed> {
    let file = format!("exec = [\"node\", \"/srv/fine.js\"]\nworkers = {workers}\nlisten = [\"8080\"]\n");
    let machine = Options::default().file("/etc/appctl/app.toml", &file).file("/srv/fine.js", APP).boot()?;
    machine.ok("appctl start app");
    Some(machine)
}

/// Ends when the flag is set.
type Reader = (Arc<AtomicBool>, JoinHandle<()>);

/// A program on a terminal.
struct Terminal {
    master: Option<File>,
    /// Ours, to ask how the terminal is set.
    slave: Option<OwnedFd>,
    reader: Option<Reader>,
    child: Child,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Terminal {
    /// `appctl` with these arguments, in a session of its own whose terminal it is.
    fn new(machine: &Boxed, arguments: &[&str]) -> Self {
        Self::of_size(machine, (COLUMNS, ROWS), arguments)
    }

    fn of_size(machine: &Boxed, (columns, rows): (u16, u16), arguments: &[&str]) -> Self {
        let mut command = machine.command("setsid");
        command.args(["--ctty", "--wait", "appctl"]).args(arguments);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let ends = openpty(&size, None).unwrap();
        // Or who is on it would keep it open himself.
        for end in [&ends.master, &ends.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let end = || Stdio::from(ends.slave.try_clone().unwrap());
        let child = command.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = File::from(ends.master);
        let (output, reader) = read(&master);
        let screen = vt100::Parser::new(NonZero::new(rows).unwrap(), NonZero::new(columns).unwrap(), 0);
        Self { master: Some(master), slave: Some(ends.slave), reader: Some(reader), child, output, screen }
    }

    fn press(&mut self, keys: &str) {
        self.master.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen shows it.
    fn until(&mut self, what: &str, shows: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = self.screen.screen().contents();
            if shows(&text) {
                return text;
            }
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.screen.process(&bytes),
                Err(_) => panic!("{what}: never, the screen is\n{text}"),
            }
        }
    }

    /// The terminal has broken no row that was too long for it.
    #[track_caller]
    fn assert_no_row_is_broken(&self) {
        let screen = self.screen.screen();
        let broken: Vec<u16> = (0..screen.size().0.get()).filter(|row| screen.row_wrapped(*row)).collect();
        assert!(broken.is_empty(), "rows {broken:?} of\n{}", screen.contents());
    }

    /// The window is closed.
    fn close(&mut self) {
        let (stop, reader) = self.reader.take().unwrap();
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        drop((self.master.take(), self.slave.take()));
    }

    fn ended(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The terminal is as it was: another line discipline would make the next shell unusable.
    fn assert_given_back(&mut self) {
        while let Ok(bytes) = self.output.try_recv() {
            self.screen.process(&bytes);
        }
        assert!(!self.screen.screen().alternate_screen(), "the other screen is still shown");
        assert!(!self.screen.screen().hide_cursor(), "the cursor is hidden");
        let flags = tcgetattr(self.slave.as_ref().unwrap()).unwrap().local_flags;
        assert!(flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG), "{flags:?}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a terminal.
fn read(master: &File) -> (Receiver<Vec<u8>>, Reader) {
    let (sender, output) = channel();
    let (stop, mut master) = (Arc::new(AtomicBool::new(false)), master.try_clone().unwrap());
    let stopped = Arc::clone(&stop);
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 65536];
        while !stopped.load(Ordering::Relaxed) {
            // Not for ever: an open descriptor in here would keep the terminal open.
            if poll(&mut [PollFd::new(master.as_fd(), PollFlags::POLLIN)], 50_u16) == Ok(0) {
                continue;
            }
            // EIO: nobody has the other end any more.
            let Ok(count @ 1..) = master.read(&mut piece) else { return };
            if sender.send(piece[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    (output, (stop, reader))
}

fn monit(machine: &Boxed) -> Terminal {
    let mut terminal = Terminal::new(machine, &["monit"]);
    terminal.until("both workers are seen", |text| text.matches(" ready ").count() == 2);
    terminal
}

/// The process of monit itself, not those that started it.
fn pid_of_monit(machine: &Boxed) -> String {
    machine.ok("pgrep -x -f 'appctl monit'")
}

#[test]
fn it_shows_what_is_there_and_does_what_it_is_told() {
    let Some(machine) = boot(2) else { return };
    let mut terminal = monit(&machine);
    let text = terminal.until("memory or processor time", |text| text.contains('%'));
    assert!(text.contains("1 app, 2 workers"), "{text}");
    // The log of the one that is chosen, as it comes.
    terminal.press("j");
    for _ in 0..4 {
        machine.ok("curl -sf http://127.0.0.1:8080/one");
    }
    terminal.until("the log of worker 1", |text| text.contains("log app@1") && text.contains("asked for /one"));
    // Not without a yes.
    terminal.press("r");
    terminal.until("a question", |text| text.contains("Reload app"));
    terminal.press("n");
    terminal.until("no question", |text| !text.contains("Reload app"));
    let before = machine.main_pid("app@1.service");
    terminal.press("r");
    terminal.until("a question", |text| text.contains("Reload app"));
    terminal.press("y");
    terminal.until("its word", |text| text.contains("app reloaded: 2 new workers"));
    assert_ne!(machine.main_pid("app@1.service"), before);
    terminal.press("s");
    terminal.until("a question", |text| text.contains("How many workers"));
    terminal.press("3\r");
    terminal.until("three workers", |text| text.contains("3 workers") && text.matches(" ready ").count() == 3);
    terminal.press("q");
    assert!(terminal.ended().success());
    terminal.assert_given_back();
    assert!(machine.is_active("app.service"));
}

#[test]
fn the_terminal_is_given_back_at_every_end() {
    let Some(machine) = boot(2) else { return };
    for signal in ["TERM", "INT", "HUP"] {
        let mut terminal = monit(&machine);
        machine.ok(&format!("kill -{signal} {}", pid_of_monit(&machine)));
        terminal.ended();
        terminal.assert_given_back();
    }
    let mut terminal = monit(&machine);
    terminal.press("\u{3}");
    assert!(terminal.ended().success());
    terminal.assert_given_back();
    // The window was closed: nobody is left to look.
    let mut terminal = monit(&machine);
    terminal.close();
    machine.until("it has ended", || (!machine.shell("pgrep -x -f 'appctl monit'").status.success()).then_some(()));
}

#[test]
fn what_it_cannot_do_it_says() {
    let Some(machine) = boot(2) else { return };
    let output = machine.shell("appctl monit </dev/null");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("appctl list"), "{output:?}");
    let mut terminal = Terminal::new(&machine, &["monit", "nobody"]);
    assert_eq!(terminal.ended().code(), Some(4));
    terminal.until("why", |text| text.contains("nobody"));
    terminal.assert_given_back();
}

/// On terminals of any width: no row is cut or wrapped, and what fails says why.
#[test]
fn every_terminal_is_wide_enough() {
    const LOOP: &str = "setTimeout(() => { throw new Error('no database here'); }, 300);";
    let file = "exec = [\"node\", \"/srv/fine.js\"]\nworkers = 3\nlisten = [\"8080\"]\nlimits.memory = \"512M\"\n";
    let looping = "exec = [\"node\", \"/srv/loop.js\"]\nruntime = \"none\"\nrestart.delay = \"1s\"\n";
    let options = Options::default().file("/etc/appctl/app.toml", file).file("/srv/fine.js", APP);
    let options = options.file("/etc/appctl/looping.toml", looping).file("/srv/loop.js", LOOP);
    let Some(machine) = options.boot() else { return };
    machine.ok("appctl start app");
    machine.ok("systemctl start looping.service looping@1.service || true");
    let status = machine.until("it is known to fail", || {
        let status = machine.ok("appctl status looping || true");
        (status.contains("fails again and again") && status.contains("Last ends:")).then_some(status)
    });
    assert!(status.contains("in the last minute") && status.contains("    | Error: no database here"), "{status}");
    for width in [30, 40, 60, 80, 120, 200] {
        let mut terminal = Terminal::of_size(&machine, (width, 36), &["monit"]);
        let text = terminal.until("all of it", |text| {
            text.contains("STATE") && text.matches(" ready").count() >= 3 && text.contains("q quit")
        });
        seen(&format!("monit {width}"), &text);
        terminal.assert_no_row_is_broken();
        assert_eq!(text.contains("MEMORY"), text.contains("M  ") || text.contains("M\n"), "{text}");
        // The whole app's log is that of its router's row.
        terminal.until("its log", |text| text.contains(" log app, ") && text.contains(" app["));
        terminal.press("q");
        terminal.ended();
        // Rows: titles, the router, three workers, and one of an app that has no address.
        let mut terminal = Terminal::of_size(&machine, (width, 40), &["list"]);
        let text = terminal.until("the last row", |text| text.lines().any(|line| line.contains("looping  1")));
        seen(&format!("list {width}"), &text);
        terminal.assert_no_row_is_broken();
        assert_eq!(text.lines().filter(|line| !line.trim().is_empty()).count(), 6, "{text}");
        let mut terminal = Terminal::of_size(&machine, (width, 60), &["status", "app"]);
        let text = terminal.until("the last line", |text| text.contains("app/control"));
        seen(&format!("status {width}"), &text);
        // A path is one word, and wider than that with what it is.
        if width > 30 {
            terminal.assert_no_row_is_broken();
        }
        assert!(text.contains("program: node /srv/fine.js") && text.contains("limits: memory 512M"), "{text}");
    }
    let listed = machine.shell("runuser -u nobody -- appctl list");
    assert!(String::from_utf8_lossy(&listed.stderr).contains("only the routers know"), "{listed:?}");
    let pinged = machine.shell("runuser -u nobody -- appctl ping");
    assert!(
        String::from_utf8_lossy(&pinged.stdout).contains("app: runs, and answers root and the group appctl alone"),
        "{pinged:?}"
    );
}

/// With `PICTURES=DIRECTORY` screens are left there.
fn seen(name: &str, text: &str) {
    if let Some(directory) = std::env::var_os("PICTURES") {
        std::fs::write(std::path::Path::new(&directory).join(format!("{name}.txt")), text).unwrap();
    }
}
