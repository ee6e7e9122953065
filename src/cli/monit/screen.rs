//! The terminal: taken, given back whatever happens, and read.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::model::Key;

/// What comes from the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Key(Key),
    /// Its size is another.
    Resized,
    /// Ctrl-Z
    Suspend,
    /// Ctrl-C, or the terminal is gone.
    End,
}

/// The terminal in its own screen, in raw mode. Dropped, it is as it was before; a panic gives it back, too.
pub(super) struct Screen {
    pub(super) terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()? })
    }

    /// As Ctrl-Z does in other programs: returns when the shell lets us go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        let _ = self.terminal.show_cursor();
        ratatui::try_restore()?;
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTSTP)?;
        self.terminal = ratatui::try_init()?;
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// Keys and ends, read by threads that live as long as the process.
pub(super) fn inputs() -> mpsc::UnboundedReceiver<Input> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let hangup = sender.clone();
    std::thread::spawn(move || {
        // A hang-up is told whatever is asked for (poll(2)); the reader of keys would not see it.
        let stdin = io::stdin();
        let mut waiting = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
        while poll(&mut waiting, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
        let _ = hangup.send(Input::End);
    });
    std::thread::spawn(move || {
        loop {
            let input = match event::read() {
                Ok(event) => input(&event),
                Err(_) => Some(Input::End),
            };
            let Some(input) = input else { continue };
            if sender.send(input).is_err() || input == Input::End {
                return;
            }
        }
    });
    receiver
}

fn input(event: &Event) -> Option<Input> {
    let key = match event {
        Event::Resize(..) => return Some(Input::Resized),
        Event::Key(KeyEvent { kind: KeyEventKind::Release, .. }) => return None,
        Event::Key(key) => key,
        _ => return None,
    };
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Input::End),
            KeyCode::Char('z') => Some(Input::Suspend),
            _ => None,
        };
    }
    Some(Input::Key(match key.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Char(character) => Key::Char(character),
        _ => return None,
    }))
}
