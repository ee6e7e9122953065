//! Who has a TCP port: the processes with a socket that listens there (proc(5)). Root sees all of them, others their own.

use super::listening::listeners;
use std::collections::BTreeSet;
use std::fs;

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    pub pid: u32,
    /// Its program's name.
    pub name: String,
    /// The unit that it is of, if it is of one.
    pub unit: Option<String>,
}

/// Those who listen on a port of this network, whatever the address.
pub fn of_port(port: u16) -> Vec<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let sockets: BTreeSet<String> =
        tables.flat_map(|table| inodes(&table, port)).map(|inode| format!("socket:[{inode}]")).collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let mut holders: Vec<Holder> = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| has(*pid, &sockets))
        .map(|pid| {
            let text = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            Holder { pid, name: text("comm").trim().to_owned(), unit: unit(&text("cgroup")) }
        })
        .collect();
    // systemd holds the sockets of others, too; who has it besides is the one that is meant.
    if holders.iter().any(|holder| holder.pid != 1) {
        holders.retain(|holder| holder.pid != 1);
    }
    holders.sort();
    holders
}

fn has(pid: u32, sockets: &BTreeSet<String>) -> bool {
    // Gone, or somebody else's.
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

/// The inodes of the sockets that listen on a port.
fn inodes(table: &str, port: u16) -> Vec<String> {
    listeners(table, port).map(|(_, inode)| inode.to_owned()).collect()
}

/// The unit in the text of /proc/PID/cgroup.
fn unit(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let last = path.split('/').rfind(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
    (last != "init.scope").then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_groups_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
               0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1234 1\n\
               1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1001        0 1235 1\n";
        assert_eq!(inodes(table, 8080), ["1234"]);
        assert!(inodes(table, 0xD431).is_empty());
        assert_eq!(unit("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        assert_eq!(unit("0::/user.slice/user-0.slice/session-3.scope/x\n").as_deref(), Some("session-3.scope"));
        assert_eq!(unit("0::/init.scope\n"), None);
    }

    #[test]
    fn a_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = of_port(listener.local_addr().unwrap().port());
        assert!(found.iter().any(|holder| holder.pid == std::process::id()), "{found:?}");
    }
}
