//! Who is at the other end of a Unix socket (unix(7) SO_PEERCRED, cgroups(7)).

use nix::sys::socket::{getsockopt, sockopt};
use std::io;
use std::os::fd::AsFd;

/// The process at the other end, as the kernel recorded it when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
}

/// Asks the kernel for the peer's credentials.
pub fn credentials(socket: &impl AsFd) -> io::Result<Peer> {
    let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok(Peer { pid: credentials.pid(), uid: credentials.uid() })
}

/// The control group of a process below the root of systemd's hierarchy, such as `/app.slice/app@1.service`.
///
/// That is the line `0::`; a systemd on version 1 alone leaves everything in that one's root and uses `name=systemd`. Not
/// the other way round: in a container on a host with both, `name=systemd` is there, but is the host's.
pub fn control_group(pid: i32) -> io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no line of systemd's hierarchy"))
}

fn parse(text: &str) -> Option<String> {
    let group = |line: &str, controllers: &str| {
        let mut fields = line.splitn(3, ':');
        let _id = fields.next()?;
        (fields.next()? == controllers).then(|| fields.next().map(str::to_owned))?
    };
    let unified = text.lines().find_map(|line| group(line, ""));
    unified.filter(|path| path != "/").or_else(|| text.lines().find_map(|line| group(line, "name=systemd")))
}

/// The control group that worker `slot` of `app` must be in, told from the router's own.
///
/// Router and workers are siblings in the app's slice: `…/app.slice/app.service` and `…/app.slice/app@1.service`. A user's
/// own manager can make a unit of the same name, but not in this slice.
pub fn worker_group(router: &str, app: &str, slot: &str) -> Option<String> {
    let (slice, _) = router.rsplit_once('/')?;
    Some(format!("{slice}/{app}@{slot}.service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systemd_hierarchy_is_found_on_either_layout() {
        assert_eq!(parse("0::/app.slice/app@1.service\n").as_deref(), Some("/app.slice/app@1.service"));
        let version1 = "4:memory:/x\n1:name=systemd:/app.slice/app.service\n0::/\n";
        assert_eq!(parse(version1).as_deref(), Some("/app.slice/app.service"));
        let container = "9:name=systemd:/\n4:memory:/x\n0::/box/payload/app.slice/app.service\n";
        assert_eq!(parse(container).as_deref(), Some("/box/payload/app.slice/app.service"));
        assert_eq!(parse("4:memory:/x\n"), None);
    }

    #[test]
    fn a_worker_is_the_routers_sibling() {
        let group = worker_group("/my\\x2dapp.slice/my-app.service", "my-app", "2");
        assert_eq!(group.as_deref(), Some("/my\\x2dapp.slice/my-app@2.service"));
    }

    #[test]
    fn this_process_has_a_group() {
        assert!(control_group(std::process::id() as i32).is_ok());
    }
}
