//! `appctl dashboard`: what `monit` shows, as a page for a browser on this machine. Nothing can be changed by it.
//!
//! Other users of the machine can reach any port of loopback, and pages of strangers that the operator's browser shows can,
//! too. So the address that is printed has a token, good for one visit: who comes with it gets a cookie, which all else
//! asks for, and requests for other hosts than this one (DNS rebinding) are refused.

mod events;
mod serve;

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::rc::Rc;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{DONE, Failure};
use super::ids;
use super::names::Asked;
use super::print::Printer;
use super::selector::wanted;
use events::Facts;
use serve::Page;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names of apps, `all` or /regex/; none means all
    names: Vec<String>,
    /// A port of loopback; 0: any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Only print the address, start no browser
    #[arg(long)]
    no_open: bool,
}

pub(super) async fn run(arguments: &Arguments, asked: Asked, printer: &Printer) -> Result<u8, Failure> {
    // What is wrong is said here as by any other command, not on the page.
    let now = ids::look(&wanted(&arguments.names, asked).await?, asked).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("cannot listen on {address}: {error}\nLeave --port out for one that is free."))
    })?;
    let address = listener.local_addr().map_err(anyhow::Error::from)?;
    let facts = Rc::new(Facts::new(arguments.names.clone(), asked, now));
    let page = Rc::new(Page::new(address, facts)?);
    let url = page.url();
    printer.data(&url);
    printer.note("It can be opened once; Ctrl-C ends it.");
    if !arguments.no_open && std::io::stdout().is_terminal() && has_screen() {
        // Without one the address is there to be copied.
        let browser = tokio::process::Command::new("xdg-open")
            .arg(&url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        drop(browser);
    }
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(anyhow::Error::from)?;
    let ended = futures_util::future::select_all(ends.iter_mut().map(|end| Box::pin(end.recv())));
    let local = tokio::task::LocalSet::new();
    tokio::select! {
        _ = ended => Ok(DONE),
        never = local.run_until(serve::serve(page, listener)) => match never {},
    }
}

/// Whether windows can be shown, so that a browser can.
fn has_screen() -> bool {
    ["WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
