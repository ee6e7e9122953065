//! The router as the systemd service `APP.service`: sockets in, READY, STATUS, WATCHDOG out, and a clean end on SIGTERM.

use super::{Legacy, Listeners, Router, run};
use crate::config::router::RouterSettings;
use crate::system::bus::Manager;
use crate::system::{activation, log, notify};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

/// From the first line to READY, seconds; then SIGALRM ends it and systemd tries again.
const START_LIMIT: u32 = 60;
/// How often STATUS= may change.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the router of `app` until SIGTERM or SIGINT. `manager`: whose unit it is.
pub fn main(app: &str, settings: RouterSettings, manager: Manager) -> ExitCode {
    log::init(app);
    // The unit has no limit of its own, because it would hold for the reload too.
    nix::unistd::alarm::set(START_LIMIT);
    let sockets = match activation::take() {
        Ok(taken) => taken,
        Err(error) => {
            tracing::error!(APP = app, %error, "cannot take over the sockets: {error}");
            return ExitCode::FAILURE;
        }
    };
    for address in &sockets.kept {
        tracing::warn!(
            APP = app,
            %address,
            "systemd has closed {address}, as if the file no longer had it: it is served on; `appctl restart {app}` goes by the file"
        );
    }
    if let Err(error) = sockets.keep() {
        tracing::warn!(APP = app, %error, "systemd does not keep the listening sockets: {error}");
    }
    if sockets.channel.is_none() {
        tracing::error!(
            APP = app,
            "there is no channel socket: start this as a systemd service, with {app}-channel.socket"
        );
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(APP = app, %error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let listeners = Listeners {
        public: sockets.public,
        channel: sockets.channel,
        control: sockets.control,
        metrics: sockets.metrics,
    };
    let legacy = Legacy::sort(sockets.stored);
    match LocalSet::new().block_on(&runtime, serve((app, manager), settings, listeners, legacy)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(APP = app, %error, "the router failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(
    (app, manager): (&str, Manager),
    settings: RouterSettings,
    listeners: Listeners,
    mut legacy: Legacy,
) -> std::io::Result<()> {
    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = stop.clone();
    let router = Router::new(app, settings, &listeners.public);
    router.set_journal(manager);
    let rolling = Rc::clone(&router);
    tokio::task::spawn_local(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        notify::stopping();
        rolling.until_no_rollout().await;
        stopping.cancel();
    });
    let addresses: Vec<_> = listeners.public.iter().map(|listener| listener.address().to_string()).collect();
    tracing::info!(
        APP = app,
        "routing {}",
        if addresses.is_empty() { "nothing public".into() } else { addresses.join(", ") }
    );
    router.recover(&mut legacy);
    router.load_certificates(legacy.certificates.take());
    router.serve_taken_over(legacy);
    tokio::task::spawn_local(report(Rc::clone(&router)));
    run(router, listeners, stop).await
}

/// Says READY, then keeps STATUS= true and the watchdog quiet.
async fn report(router: Rc<Router>) {
    let mut said = router.status_line();
    notify::ready(&said);
    nix::unistd::alarm::cancel();
    let watchdog = notify::watchdog_interval();
    let mut tick = tokio::time::interval(watchdog.map_or(STATUS_INTERVAL, |limit| limit.min(STATUS_INTERVAL)));
    loop {
        tick.tick().await;
        if watchdog.is_some() {
            notify::watchdog();
        }
        let line = router.status_line();
        if line != said {
            notify::status(&line);
            said = line;
        }
    }
}
