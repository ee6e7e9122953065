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
        let mut command = machine.command("setsid");
        command.args(["--ctty", "--wait", "appctl"]).args(arguments);
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let ends = openpty(&size, None).unwrap();
        // Or who is on it would keep it open himself.
        for end in [&ends.master, &ends.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let end = || Stdio::from(ends.slave.try_clone().unwrap());
        let child = command.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = File::from(ends.master);
        let (output, reader) = read(&master);
        let screen = vt100::Parser::new(NonZero::new(ROWS).unwrap(), NonZero::new(COLUMNS).unwrap(), 0);
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
