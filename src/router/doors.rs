//! Addresses where connections do not begin with a client's own request: TLS, the PROXY protocol.

use super::Router;
use super::certificates::{BadCertificate, Certificate, Material, server_config};
use crate::config::Listen;
use crate::config::listen::{AddressOptions, CertificateFiles, ListenOptions};
use crate::system::activation::Address;
use crate::system::notify;
use crate::system::shared::Log;
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Doors {
    list: Vec<Rc<Door>>,
    /// What is served now, of all addresses.
    material: RefCell<Vec<Material>>,
    /// Sessions are resumed across a change of certificates.
    ticketer: OnceCell<Arc<dyn ProducesTickets>>,
    /// The number in the name of what systemd keeps of this; 0: nothing.
    stored: Cell<u64>,
    /// TLS handshakes that did not come to their end.
    pub(super) failed: Cell<u64>,
}

/// One address.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) options: AddressOptions,
    /// `None` while there is no certificate that can be served.
    tls: RefCell<Option<Arc<ServerConfig>>>,
    certificates: RefCell<Vec<Certificate>>,
}

impl Door {
    pub(super) fn has_tls(&self) -> bool {
        !self.options.tls.is_empty()
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.borrow().clone()
    }
}

impl Doors {
    pub(super) fn new(options: &ListenOptions) -> Self {
        let door = |options: &AddressOptions| {
            Rc::new(Door { options: options.clone(), tls: RefCell::default(), certificates: RefCell::default() })
        };
        Self { list: options.0.iter().map(door).collect(), ..Self::default() }
    }

    /// The one at a listener's or a connection's own address.
    pub(super) fn at(&self, address: &Address) -> Option<&Rc<Door>> {
        self.list.iter().find(|door| is_at(&door.options.address, address))
    }
}

/// Of the addresses of an app no two overlap: so what is reached through one of all addresses is told from the others by
/// its port.
fn is_at(listen: &Listen, address: &Address) -> bool {
    match (listen, address) {
        (Listen::Port(port), Address::Internet(address)) => address.port() == *port,
        (Listen::Address(listen), Address::Internet(address)) => {
            let ip = address.ip().to_canonical();
            let all = listen.ip().is_unspecified() && (listen.is_ipv6() || ip.is_ipv4());
            listen.port() == address.port() && (all || listen.ip().to_canonical() == ip)
        }
        (Listen::Path(listen), Address::Path(path)) => listen == path,
        _ => false,
    }
}

/// A certificate that is served, for people and tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    pub address: String,
    pub cert: PathBuf,
    pub serial: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Router {
    /// Reads all certificates, from where systemd has put them or from their files. Those that cannot be served are told;
    /// in their place comes what the router before served, if it left that in `before`.
    pub fn load_certificates(&self, before: Option<(u64, OwnedFd)>) {
        let doors = &self.doors;
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let number = before.as_ref().map_or(0, |(number, _)| *number);
        let kept: Vec<Material> = before
            .and_then(|(_, file)| Log::read(&file).ok())
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        doors.stored.set(number);
        let mut good = Vec::new();
        for (number, files) in self.settings.listen.certificates().enumerate() {
            let error = match read(files, number, directory.as_deref()) {
                Ok(certificate) => {
                    good.push(certificate);
                    continue;
                }
                Err(error) => error,
            };
            let name = &self.app;
            let kept = kept.iter().find(|kept| kept.files == *files).cloned();
            match kept.and_then(|kept| kept.check().ok().map(|certificate| (kept, certificate))) {
                Some(before) => {
                    tracing::error!(
                        APP = name,
                        "{error}: the certificate before is served on; then `appctl reload {name}`"
                    );
                    good.push(before);
                }
                None => tracing::error!(
                    APP = name,
                    "{error}: nothing is served with it; `appctl check {name}` tells it all, `appctl reload {name}` tries again"
                ),
            }
        }
        self.serve_with(good);
    }

    /// Serves new connections with these from now on, all or none. Those that are not of this router's are passed over.
    pub(super) fn renew_certificates(&self, all: &[Material]) -> Result<(), BadCertificate> {
        let mut good = Vec::new();
        for files in self.settings.listen.certificates() {
            let new = all.iter().find(|new| new.files == *files).cloned();
            let before = || self.doors.material.borrow().iter().find(|before| before.files == *files).cloned();
            let Some(material) = new.or_else(before) else { continue };
            let certificate = material.check()?;
            good.push((material, certificate));
        }
        self.serve_with(good);
        Ok(())
    }

    fn serve_with(&self, good: Vec<(Material, Certificate)>) {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX));
        for (_, certificate) in &good {
            if let Some(warning) = certificate.warning(now) {
                tracing::warn!(APP = self.app, "{warning}");
            }
        }
        for door in self.doors.list.iter().filter(|door| door.has_tls()) {
            let of = |files: &CertificateFiles| good.iter().find(|(it, _)| it.files == *files).map(|it| it.1.clone());
            let certificates: Vec<_> = door.options.tls.iter().filter_map(of).collect();
            door.certificates.borrow_mut().clone_from(&certificates);
            *door.tls.borrow_mut() = None;
            if certificates.is_empty() {
                let address = &door.options.address;
                tracing::error!(APP = self.app, %address, "{address} has no certificate: connections to it are closed");
                continue;
            }
            let made = self.ticketer().and_then(|ticketer| server_config(certificates, ticketer));
            match made {
                Ok(config) => *door.tls.borrow_mut() = Some(config),
                Err(error) => tracing::error!(APP = self.app, %error, "cannot serve TLS: {error}"),
            }
        }
        let material: Vec<_> = good.into_iter().map(|(material, _)| material).collect();
        if self.memory.is_kept() && !self.doors.list.is_empty() {
            self.keep_certificates(&material);
        }
        *self.doors.material.borrow_mut() = material;
    }

    fn ticketer(&self) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        if let Some(ticketer) = self.doors.ticketer.get() {
            return Ok(Arc::clone(ticketer));
        }
        let made = Ticketer::new()?;
        Ok(Arc::clone(self.doors.ticketer.get_or_init(|| made)))
    }

    /// Leaves to the next router what is served: by then the files may be broken.
    fn keep_certificates(&self, material: &[Material]) {
        let number = self.doors.stored.get();
        let text = serde_json::to_vec(material).map_err(std::io::Error::other);
        let kept =
            text.and_then(|text| Log::create(&text)).and_then(|log| notify::store(&name(number + 1), log.file()));
        match kept {
            Ok(()) => {
                self.doors.stored.set(number + 1);
                if number > 0 {
                    notify::forget(&name(number));
                }
            }
            Err(error) => tracing::warn!(APP = self.app, %error, "certificates will not survive this router: {error}"),
        }
    }

    pub(super) fn certificates(&self) -> Vec<CertificateStatus> {
        let of = |door: &Rc<Door>| -> Vec<CertificateStatus> {
            let address = door.options.address.to_string();
            let certificates = door.certificates.borrow();
            let status = certificates.iter().map(|it| CertificateStatus {
                address: address.clone(),
                cert: it.files.cert.clone(),
                serial: it.facts.serial.clone(),
                not_after: it.facts.not_after,
            });
            status.collect()
        };
        self.doors.list.iter().flat_map(of).collect()
    }
}

fn read(
    files: &CertificateFiles,
    number: usize,
    directory: Option<&Path>,
) -> Result<(Material, Certificate), BadCertificate> {
    let material = Material::read_credential(files, number, directory)?;
    let certificate = material.check()?;
    Ok((material, certificate))
}

/// In systemd's descriptor store.
fn name(number: u64) -> String {
    format!("t{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connections_own_address_is_at_the_door_that_it_came_by() {
        let internet = |text: &str| Address::Internet(text.parse().unwrap());
        for (listen, address, found) in [
            ("443", internet("[::]:443"), true),
            ("443", internet("0.0.0.0:443"), true),
            ("443", internet("[::ffff:127.0.0.1]:443"), true),
            ("443", internet("127.0.0.1:444"), false),
            ("0.0.0.0:443", internet("0.0.0.0:443"), true),
            ("0.0.0.0:443", internet("192.0.2.1:443"), true),
            ("0.0.0.0:443", internet("[2001:db8::1]:443"), false),
            ("[::]:443", internet("[::]:443"), true),
            ("[::]:443", internet("[::ffff:192.0.2.1]:443"), true),
            ("[::]:443", internet("[2001:db8::1]:443"), true),
            ("192.0.2.1:443", internet("192.0.2.1:443"), true),
            ("192.0.2.1:443", internet("192.0.2.2:443"), false),
            ("192.0.2.1:443", internet("192.0.2.1:80"), false),
            ("[2001:db8::1]:443", internet("[2001:db8::1]:443"), true),
            ("/run/a", Address::Path("/run/a".into()), true),
            ("/run/a", Address::Path("/run/b".into()), false),
            ("443", Address::Path("/443".into()), false),
            ("443", Address::Unnamed, false),
        ] {
            assert_eq!(is_at(&Listen::read(listen).unwrap(), &address), found, "{listen} {address}");
        }
    }
}
