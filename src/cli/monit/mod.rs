//! `appctl monit`: apps and workers on the whole terminal, as long as somebody looks.

mod model;
mod screen;
mod view;

use std::io::{self, IsTerminal};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::exit::{DONE, Failure};
use super::follow::{Entry, Follower};
use super::ids;
use super::names::Asked;
use super::print::Printer;
use super::selector::wanted;
use model::{Model, Wish};
use screen::{Input, Screen};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Soon after what was just done.
const SOON: Duration = Duration::from_millis(300);
/// Between two drawings, however fast a worker writes.
const DRAW_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all` or /regex/; none means all
    names: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "monit needs a terminal: `appctl list` prints once, `appctl list --json` for programs".into(),
        ));
    }
    let mut model = Model::default();
    // Before the screen is taken: what is wrong is said as by any other command.
    let mut wish = model.take(ids::look(&wanted(&arguments.names, asked).await?, asked).await?);
    let trouble = |error: io::Error| Failure::failed(format!("cannot use this terminal: {error}"));
    let colour = printer.colours();
    let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
        .into_iter()
        .map(signal)
        .collect::<io::Result<Vec<_>>>()
        .map_err(trouble)?;
    let mut screen = Screen::enter().map_err(trouble)?;
    let mut inputs = screen::inputs();
    let (told, mut commands) = tokio::sync::mpsc::unbounded_channel();
    let mut follower: Option<Follower> = None;
    let mut looks = tokio::time::interval_at(Instant::now() + SOON, INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn: Option<Instant> = None;
    let mut dirty = true;
    loop {
        match wish.take() {
            Some(Wish::Quit) => return Ok(DONE),
            Some(Wish::Follow) => follower = follow(&mut model),
            Some(Wish::Command(arguments)) => {
                let told = told.clone();
                tokio::spawn(async move {
                    let _ = told.send(last_line_of(arguments).await);
                });
            }
            None => {}
        }
        let draw_at = drawn.map_or_else(Instant::now, |drawn| drawn + DRAW_INTERVAL);
        let [end, hangup, interrupt] = &mut ends[..] else { return Err(Failure::failed("no signals")) };
        tokio::select! {
            _ = end.recv() => return Ok(DONE),
            _ = hangup.recv() => return Ok(DONE),
            _ = interrupt.recv() => return Ok(DONE),
            input = inputs.recv() => match input {
                None | Some(Input::End) => return Ok(DONE),
                Some(Input::Key(key)) => {
                    wish = model.key(key);
                    // A key is answered at once.
                    drawn = None;
                    dirty = true;
                }
                Some(Input::Resized) => dirty = true,
                Some(Input::Suspend) => {
                    screen.suspend().map_err(trouble)?;
                    dirty = true;
                }
            },
            Some(last) = commands.recv() => {
                model.ended(last);
                looks.reset_after(SOON);
                dirty = true;
            }
            line = next_line(&mut follower) => {
                match line {
                    Ok(entry) => model.wrote(entry),
                    Err(problem) => {
                        model.wrote(problem);
                        follower = None;
                    }
                }
                dirty = true;
            }
            _ = looks.tick() => {
                // Apps come and go.
                let looked = match wanted(&arguments.names, asked).await {
                    Ok(wanted) => ids::look(&wanted, asked).await,
                    Err(failure) => Err(failure),
                };
                match looked {
                    Ok(apps) => wish = model.take(apps),
                    Err(failure) => model.stale = Some(first_line(&failure.to_string()).to_owned()),
                }
                dirty = true;
            }
            () = tokio::time::sleep_until(draw_at), if dirty => {
                screen.terminal.draw(|frame| view::draw(frame, &mut model, colour)).map_err(trouble)?;
                drawn = Some(Instant::now());
                dirty = false;
            }
        }
    }
}

/// The log of the one that is chosen.
fn follow(model: &mut Model) -> Option<Follower> {
    let row = model.chosen()?;
    match Follower::of(row.app, row.unit) {
        Ok(follower) => Some(follower),
        Err(error) => {
            model.wrote(Entry::problem(format!("cannot run journalctl: {error}")));
            None
        }
    }
}

async fn next_line(follower: &mut Option<Follower>) -> Result<Entry, Entry> {
    match follower {
        Some(follower) => follower.line().await,
        None => std::future::pending().await,
    }
}

/// Runs appctl; the last line that it says.
async fn last_line_of(arguments: Vec<String>) -> String {
    // The very program that runs here, be it replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.args(&arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    match command.output().await {
        Ok(output) => {
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            let wrong = said.lines().find(|line| line.starts_with("error: "));
            let last = wrong.or_else(|| said.lines().rev().find(|line| !line.trim().is_empty()));
            last.map_or_else(|| format!("appctl {}: {}", arguments.join(" "), output.status), str::to_owned)
        }
        Err(error) => format!("cannot run appctl: {error}"),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
