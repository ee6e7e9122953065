//! What the router counts, and the page that tells it to Prometheus.

mod serve;
mod text;

pub(super) use serve::{page, serve};
use text::CONTENT_TYPE;

use super::Router;
use super::refuse::Refusal;
use super::table::{Phase, WorkerId};
use super::tally::{Codes, Counter, Histogram};
use crate::system::memory;
use crate::system::process::usage;
use crate::wire::shape;
use std::cell::OnceCell;
use std::time::{Duration, SystemTime};
use text::{Kind, Page};

/// Counters that belong to no worker. Those of a worker are in its [`Tally`](super::tally::Tally).
#[derive(Debug)]
pub(super) struct Metrics {
    /// Connections that were accepted.
    pub(super) accepted: Counter,
    refused: [Counter; Refusal::KINDS],
    /// Of those that were no good requests: what was wrong.
    malformed: [Counter; shape::COUNT],
    closed: [Counter; Closing::NAMES.len()],
    again: [Counter; Again::NAMES.len()],
    /// Sessions that were not known: registered in time, or not.
    unknown: [Counter; 2],
    unknown_wait: Histogram,
    /// The router's own answers to requests that were routed one by one.
    pub(super) own: Codes,
    /// Lines of the access log that the journal had no room for.
    pub(super) log_lost: Counter,
    /// Where the page is served.
    address: OnceCell<String>,
    started: SystemTime,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            refused: Default::default(),
            malformed: Default::default(),
            closed: Default::default(),
            again: Default::default(),
            unknown: Default::default(),
            unknown_wait: Histogram::default(),
            own: Codes::default(),
            log_lost: Counter::default(),
            address: OnceCell::new(),
            started: SystemTime::now(),
        }
    }
}

/// Why a connection was closed without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// Nothing had come from it in `head_timeout`.
    Silent,
    /// It was idle between two requests for `keepalive_timeout`.
    Idle,
    /// Its place was needed.
    Evicted,
    /// It read nothing of its answer for `send_timeout`.
    SlowReader,
    /// It sent nothing of a body for `body_timeout`, and its answer had begun.
    SlowBody,
    /// Its address has far more connections than `address_limit`.
    Crowd,
    /// Its TLS handshake did not come to its end.
    Handshake,
}

impl Closing {
    const NAMES: [&str; 7] =
        ["silent", "idle", "evicted", "send_timeout", "body_timeout", "address_limit", "tls_handshake"];
}

/// Why something was given to another worker, or once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The worker did not take the connection.
    Refused,
    /// It ended before it had taken it.
    Gone,
    /// It ended a kept connection before it had answered the request.
    Broken,
}

impl Again {
    const NAMES: [&str; 3] = ["refused", "worker_gone", "connection_broken"];
}

impl Metrics {
    /// Where the page is served, beside the control socket.
    pub(super) fn address(&self) -> Option<String> {
        self.address.get().cloned()
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused[refusal.kind()].count();
        if let Refusal::Malformed(reason) = refusal {
            self.malformed[shape::of(reason)].count();
        }
    }

    pub(super) fn closed(&self, why: Closing) {
        self.closed[why as usize].count();
    }

    pub(super) fn again(&self, why: Again) {
        self.again[why as usize].count();
    }

    /// A session that was not known: how long it was waited for, and whether it was registered by then.
    pub(super) fn waited(&self, long: Duration, registered: bool) {
        self.unknown[usize::from(!registered)].count();
        self.unknown_wait.note(long);
    }
}

impl Router {
    /// What became of a handover that began at `begun`.
    pub(super) fn count_handover(&self, id: WorkerId, taken: Option<bool>, begun: Duration) {
        let table = self.table.borrow();
        let (Some(worker), Some(taken)) = (table.worker(id), taken) else { return };
        if taken {
            worker.tally.taken.count();
        } else {
            worker.tally.refused.count();
        }
        let (now, took) = (self.now(), self.now().saturating_sub(begun));
        worker.tally.ack.note(took);
        worker.tally.lag.note(took, now);
    }

    /// A connection is closed without a word: nothing comes of it.
    pub(super) fn closes<T>(&self, why: Closing) -> Option<T> {
        self.metrics.closed(why);
        None
    }

    /// A worker's answer to a request that was routed here.
    pub(super) fn count_answer(&self, id: WorkerId, status: u16) {
        if let Some(worker) = self.table.borrow().worker(id) {
            worker.tally.codes.count(status);
        }
    }

    /// A broadcast packet `from` a worker, or to it.
    pub(super) fn count_packet(&self, id: WorkerId, from: bool, bytes: usize) {
        if let Some(worker) = self.table.borrow().worker(id) {
            worker.tally.frames[usize::from(!from)].count();
            worker.tally.bytes[usize::from(!from)].add(bytes as u64);
        }
    }

    /// All of it, in Prometheus' text format.
    pub(super) fn metrics_page(&self) -> String {
        let mut page = Page::new(&self.app);
        self.write_connections(&mut page);
        self.write_refusals(&mut page);
        self.write_certificates(&mut page);
        self.write_workers(&mut page);
        self.write_slots(&mut page);
        self.write_apps_own(&mut page);
        self.write_usage(&mut page);
        self.write_process(&mut page);
        page.into_text()
    }

    fn write_connections(&self, page: &mut Page) {
        let metrics = &self.metrics;
        page.family("appctl_connections_total", Kind::Counter, "Connections accepted from clients.");
        page.sample(&[], metrics.accepted.get());
        page.family(
            "appctl_open_connections",
            Kind::Gauge,
            "Client connections that the router holds, by what they do.",
        );
        page.sample(&[("state", "waiting")], self.waiting.get());
        page.sample(&[("state", "routed")], self.proxy_connections());
        page.sample(&[("state", "tunnel")], self.tunnels());
        page.family(
            "appctl_redispatches_total",
            Kind::Counter,
            "Connections and requests that were given to a worker once more, by reason.",
        );
        for (name, counter) in Again::NAMES.iter().zip(&metrics.again) {
            page.sample(&[("reason", name)], counter.get());
        }
        page.family(
            "appctl_unknown_sessions_total",
            Kind::Counter,
            "Requests with a session that no worker had registered, by what came of the wait.",
        );
        for (name, counter) in ["registered", "unknown"].iter().zip(&metrics.unknown) {
            page.sample(&[("outcome", name)], counter.get());
        }
        page.family(
            "appctl_unknown_session_wait_seconds",
            Kind::Histogram,
            "How long requests waited for the registration of their session.",
        );
        page.histogram(&[], &metrics.unknown_wait);
        page.family(
            "appctl_access_log_lost_total",
            Kind::Counter,
            "Lines of the access log that were dropped because the journal was busy.",
        );
        page.sample(&[], metrics.log_lost.get());
    }

    fn write_refusals(&self, page: &mut Page) {
        let metrics = &self.metrics;
        page.family(
            "appctl_refused_total",
            Kind::Counter,
            "Requests and connections that the router answered itself with an error, by reason; no_worker: none was ready in \
             time, worker_broke_off: the worker ended the connection before its answer.",
        );
        for (kind, counter) in Refusal::all().iter().zip(&metrics.refused) {
            page.sample(&[("reason", kind.name()), ("code", kind.code().as_str())], counter.get());
        }
        page.family(
            "appctl_malformed_total",
            Kind::Counter,
            "Requests that were refused as malformed, by what was wrong; cut_off: the head ended in the middle, other: what \
             has no name of its own.",
        );
        for (name, counter) in shape::names().zip(&metrics.malformed) {
            page.sample(&[("shape", name)], counter.get());
        }
        page.family(
            "appctl_closed_total",
            Kind::Counter,
            "Connections that the router closed without an answer, by reason.",
        );
        for (name, counter) in Closing::NAMES.iter().zip(&metrics.closed) {
            page.sample(&[("reason", name)], counter.get());
        }
    }

    /// Where TLS is.
    fn write_certificates(&self, page: &mut Page) {
        page.family(
            "appctl_certificate_not_after_seconds",
            Kind::Gauge,
            "When each certificate that is served ends, seconds since 1970.",
        );
        for certificate in self.certificates() {
            let file = certificate.cert.display().to_string();
            page.sample(&[("address", &certificate.address), ("cert", &file)], certificate.not_after);
        }
    }

    /// What the workers are doing now.
    fn write_workers(&self, page: &mut Page) {
        let table = self.table.borrow();
        page.family("appctl_workers", Kind::Gauge, "Workers by state.");
        for phase in [Phase::Starting, Phase::Ready, Phase::Draining] {
            page.sample(&[("state", phase.as_str())], table.count(phase));
        }
        page.family("appctl_workers_wanted", Kind::Gauge, "Workers that there should be.");
        page.sample(&[], self.wanted.get());
        type Figure = fn(&super::table::Worker) -> usize;
        let figures: [(&'static str, &str, Figure); 3] = [
            ("appctl_sessions", "Sessions of each worker, and other keys that sticky binds to it.", |worker| {
                worker.sessions.len() + worker.keys
            }),
            ("appctl_handovers_pending", "Connections handed over and not acknowledged yet.", |worker| worker.pending),
            ("appctl_requests_in_flight", "Requests routed one by one whose answers are not over.", |worker| {
                worker.in_flight
            }),
        ];
        for (name, help, figure) in figures {
            page.family(name, Kind::Gauge, help);
            for worker in table.workers() {
                page.sample(&[("worker", &worker.slot)], figure(worker));
            }
        }
        page.family("appctl_channel_queue_bytes", Kind::Gauge, "What waits for a worker to read its channel.");
        let links = self.links.borrow();
        for worker in table.workers() {
            if let Some(link) = links.get(&worker.id) {
                page.sample(&[("worker", &worker.slot)], link.queued());
            }
        }
    }

    /// What the processes of the workers use; of one that is on its way out, nothing.
    fn write_usage(&self, page: &mut Page) {
        let workers: Vec<_> = self
            .table
            .borrow()
            .workers()
            .filter(|worker| worker.pid > 0)
            .map(|worker| (worker.slot.clone(), worker.pid))
            .collect();
        page.family(
            "appctl_worker_cpu_seconds_total",
            Kind::Counter,
            "Processor time of the worker that runs now, with its children.",
        );
        for (slot, pid) in &workers {
            if let Some(used) = self.processor_time(*pid) {
                page.sample(&[("worker", slot)], used.as_secs_f64());
            }
        }
        page.family(
            "appctl_worker_memory_bytes",
            Kind::Gauge,
            "Memory of each worker, with its children, that the kernel cannot take back.",
        );
        for (slot, pid) in &workers {
            if let Ok(bytes) = memory::of_unit(*pid, &self.worker_unit(slot)) {
                page.sample(&[("worker", slot)], bytes);
            }
        }
    }

    /// What the workers of each slot have done.
    fn write_slots(&self, page: &mut Page) {
        let table = self.table.borrow();
        type Figure = fn(&super::tally::Tally) -> &Counter;
        let figures: [(&'static str, &str, Figure); 3] = [
            ("appctl_worker_starts_total", "Workers that connected to the router.", |tally| &tally.attached),
            ("appctl_handovers_total", "Connections that workers took.", |tally| &tally.taken),
            ("appctl_handovers_refused_total", "Connections that workers refused; another got them.", |tally| {
                &tally.refused
            }),
        ];
        for (name, help, figure) in figures {
            page.family(name, Kind::Counter, help);
            for (slot, tally) in table.tallies() {
                page.sample(&[("worker", slot)], figure(tally).get());
            }
        }
        page.family(
            "appctl_handover_ack_seconds",
            Kind::Histogram,
            "From a handover to its acknowledgement: the lag of the worker's event loop.",
        );
        for (slot, tally) in table.tallies() {
            page.histogram(&[("worker", slot)], &tally.ack);
        }
        page.family(
            "appctl_requests_total",
            Kind::Counter,
            "Requests routed one by one, by the worker that was chosen (empty: none was) and status; the router's own answers in its place \
             (appctl_refused_total) are among them, and 499, where the client left first.",
        );
        for (status, count) in self.metrics.own.seen() {
            page.sample(&[("worker", ""), ("code", &status.to_string())], count);
        }
        for (slot, tally) in table.tallies() {
            for (status, count) in tally.codes.seen() {
                page.sample(&[("worker", slot), ("code", &status.to_string())], count);
            }
        }
        for (name, help, bytes) in [
            ("appctl_relay_frames_total", "Broadcast packets from each worker (in) and to it (out).", false),
            ("appctl_relay_bytes_total", "Length of these packets.", true),
        ] {
            page.family(name, Kind::Counter, help);
            for (slot, tally) in table.tallies() {
                for (direction, counter) in ["in", "out"].iter().zip(if bytes { &tally.bytes } else { &tally.frames }) {
                    page.sample(&[("worker", slot), ("direction", direction)], counter.get());
                }
            }
        }
    }

    /// What the workers' apps show of themselves.
    fn write_apps_own(&self, page: &mut Page) {
        let table = self.table.borrow();
        page.family(
            "appctl_app_metric",
            Kind::Gauge,
            "What each worker's app shows of itself by @pm2/io or the like, where it is a number.",
        );
        for worker in table.workers() {
            for metric in self.metrics_of(worker.id) {
                if let Some(number) = metric.number() {
                    let unit = metric.unit.as_deref().unwrap_or_default();
                    page.sample(&[("worker", &worker.slot), ("metric", &metric.name), ("unit", unit)], number);
                }
            }
        }
        page.family(
            "appctl_app_metrics_left_out",
            Kind::Gauge,
            "Metrics of each worker's app that are too many or too long.",
        );
        for worker in table.workers() {
            page.sample(&[("worker", &worker.slot)], self.metrics_left_out(worker.id));
        }
    }

    fn write_process(&self, page: &mut Page) {
        page.family("appctl_info", Kind::Gauge, "The router's version.");
        page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let started = self.metrics.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        page.family("process_start_time_seconds", Kind::Gauge, "When the router started, seconds since 1970.");
        page.sample(&[], started.as_secs_f64());
        let usage = match usage() {
            Ok(usage) => usage,
            Err(error) => {
                tracing::debug!(APP = self.app, %error, "cannot tell what this process uses");
                return;
            }
        };
        page.family("process_cpu_seconds_total", Kind::Counter, "The router's processor time.");
        page.sample(&[], usage.processor.as_secs_f64());
        page.family("process_resident_memory_bytes", Kind::Gauge, "The router's memory.");
        page.sample(&[], usage.resident);
        page.family("process_open_fds", Kind::Gauge, "The router's open descriptors.");
        page.sample(&[], usage.descriptors);
    }
}
