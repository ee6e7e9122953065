//! The kernel and systemd: the only room with unsafe code.
//!
//! [`activation`] takes sockets from systemd, [`notify`] talks back to it, [`scm`] passes descriptors over a channel,
//! [`peer`] proves who is at the other end of a socket, [`log`] writes to the journal ([`sink`] without ever waiting for it) and [`journal`] reads it, [`bus`]
//! asks the manager to start and stop units, [`init`] is the first process of a container, [`cpu`] and [`memory`] measure them, [`ended`] says why one ended, [`listening`] who
//! listens on a port, [`holder`] which processes do, [`stamp`] which build of appctl a program is and [`running`] which of them run, [`clock`] what time it is here.

pub mod activation;
pub mod bus;
pub mod clock;
pub mod cpu;
pub mod ended;
pub mod holder;
pub mod init;
pub mod jobs;
pub mod journal;
pub mod listening;
pub mod log;
pub mod memory;
pub mod notify;
pub mod peer;
pub mod place;
pub mod process;
pub mod running;
pub mod scm;
pub mod shared;
pub mod sink;
pub mod sock;
pub mod stamp;
pub mod stream;
pub mod version;
