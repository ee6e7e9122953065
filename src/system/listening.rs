//! Whose listening sockets there are on a TCP port of this machine (proc(5), /proc/net/tcp).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// The state LISTEN.
const LISTEN: &str = "0A";

/// A user other than root and that of process `pid` who listens on `port`, on whatever address.
pub fn stranger(port: u16, pid: i32) -> io::Result<Option<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let own = users(&status);
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        match std::fs::read_to_string(format!("/proc/self/net/{table}")) {
            Ok(text) => found.extend(listeners(&text, port).map(|(user, _)| user)),
            // A kernel without that family.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.into_iter().find(|user| *user != 0 && !own.contains(user)))
}

/// Whether the kernel would refuse an address to who wants to listen there, because somebody does. Of an IPv6 wildcard the
/// IPv4 part counts, too; where there is no IPv6, that alone.
pub fn is_taken(address: SocketAddr) -> bool {
    let bound = |address: SocketAddr| -> io::Result<()> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As systemd does. It listens at no time: nobody gets to it.
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    };
    let in_use = |bound: io::Result<()>| bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    match bound(address) {
        // A port below 1024, and no right to it: whoever listens there, at whatever address, is seen all the same.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/self/net/{table}")));
            tables.iter().flatten().any(|table| listeners(table, address.port()).next().is_some())
        }
        Err(error)
            if address.is_ipv6() && error.kind() != io::ErrorKind::AddrInUse && address.ip().is_unspecified() =>
        {
            in_use(bound((Ipv4Addr::UNSPECIFIED, address.port()).into()))
        }
        bound => in_use(bound),
    }
}

/// The users that a process has: real, effective, saved, of the file system.
fn users(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|user| user.parse().ok()).collect()
}

/// The sockets that listen on `port`, in the text of a table: whose they are, and their inodes.
pub(super) fn listeners(table: &str, port: u16) -> impl Iterator<Item = (u32, &str)> {
    let end = format!(":{port:04X}");
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&end) && *fields.get(3)? == LISTEN;
        listens.then(|| Some((fields.get(7)?.parse().ok()?, *fields.get(9)?)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
               0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1234 1\n\
               1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1001        0 1235 1\n\
               2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1236 1\n";
        assert_eq!(listeners(table, 8080).collect::<Vec<_>>(), [(1000, "1234")]);
        assert_eq!(listeners(table, 80).collect::<Vec<_>>(), [(0, "1236")]);
        assert_eq!(listeners(table, 0xD431).count(), 0);
        assert_eq!(users("Name:\tx\nUid:\t5\t6\t5\t5\nGid:\t9\n"), [5, 6, 5, 5]);
    }

    #[test]
    fn an_address_that_somebody_has() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = |address: &str| is_taken(format!("{address}:{port}").parse().unwrap());
        assert!(taken("127.0.0.1") && taken("0.0.0.0") && taken("[::]"));
        // (That it is free again, once it is closed, is not asked: another test may have got it.)
        assert!(!taken("127.0.0.2"));
        // Not of this machine: that is another mistake.
        assert!(!taken("192.0.2.1"));
    }

    #[test]
    fn our_own_listener_is_no_strangers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(stranger(port, std::process::id() as i32).unwrap(), None);
    }
}
