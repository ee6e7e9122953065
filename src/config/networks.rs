//! Networks of peers: addresses, `10.0.0.0/8`, `unix`.

use super::value::Wrong;
use std::fmt;
use std::net::IpAddr;

/// A set of peers' addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// Peers at Unix sockets.
    Unix,
    /// Those that have the first bits in common with the address.
    Internet(IpAddr, u8),
}

impl Default for Networks {
    /// This machine.
    fn default() -> Self {
        let loopback = [IpAddr::from([127, 0, 0, 0]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        Self(vec![Network::Internet(loopback[0], 8), Network::Internet(loopback[1], 128), Network::Unix])
    }
}

impl Networks {
    /// Reads a list with commas.
    pub fn read(text: &str) -> Result<Self, Wrong> {
        text.split(',')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(Network::read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the peer is among them; `None`: it is at a Unix socket.
    pub fn contain(&self, peer: Option<IpAddr>) -> bool {
        // An IPv4 peer of a socket for both families is `::ffff:10.1.2.3`.
        let peer = peer.map(|address| address.to_canonical());
        self.0.iter().any(|network| match (network, peer) {
            (Network::Unix, None) => true,
            (Network::Internet(address, bits), Some(peer)) => prefix(*address, *bits) == prefix(peer, *bits),
            _ => false,
        })
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, network) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            match network {
                Network::Unix => f.write_str("unix")?,
                Network::Internet(address, bits) if *bits == width(*address) => address.fmt(f)?,
                Network::Internet(address, bits) => write!(f, "{address}/{bits}")?,
            }
        }
        Ok(())
    }
}

impl Network {
    fn read(text: &str) -> Result<Self, Wrong> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let wrong =
            |reason: String| Err(Wrong::new(reason, "write \"10.0.0.0/8\", \"192.0.2.1\", \"fd00::/8\" or \"unix\""));
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return wrong(format!("`{text}` is neither an address nor a network"));
        };
        let most = width(address);
        let bits = match bits.map(str::parse::<u8>) {
            None => most,
            Some(Ok(bits)) if bits <= most => bits,
            Some(_) => return wrong(format!("`{text}`: a network of this family has 0 to {most} bits")),
        };
        if prefix(address, bits) != Some((address.is_ipv4(), number(address))) {
            return wrong(format!("`{text}` has bits beyond the first {bits}"));
        }
        Ok(Self::Internet(address, bits))
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// With the highest bit first.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The family and the first bits; `None` where the family has fewer.
fn prefix(address: IpAddr, bits: u8) -> Option<(bool, u128)> {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    (bits <= width(address)).then_some((address.is_ipv4(), number(address) & mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contain(networks: &str, peer: &str) -> bool {
        Networks::read(networks).unwrap().contain(peer.parse().ok())
    }

    #[test]
    fn who_is_in_a_network() {
        for (networks, peer, want) in [
            ("127.0.0.0/8", "127.0.0.1", true),
            ("127.0.0.0/8", "127.255.0.9", true),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("127.0.0.0/8", "unix", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.2/31", "10.1.2.3", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "8.8.8.8", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("unix", "unix", true),
            ("10.0.0.0/8, 192.168.0.0/16 ,unix", "192.168.9.9", true),
            ("", "127.0.0.1", false),
        ] {
            assert_eq!(contain(networks, peer), want, "{networks} {peer}");
        }
        let this_machine = Networks::default();
        for (peer, want) in [("127.0.0.1", true), ("::1", true), ("unix", true), ("192.168.0.1", false)] {
            assert_eq!(this_machine.contain(peer.parse().ok()), want, "{peer}");
        }
    }

    #[test]
    fn mistakes() {
        for (text, told) in [
            ("localhost", "neither"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.1/8", "beyond"),
            ("::1/129", "0 to 128"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/x", "0 to 32"),
            ("unix/1", "neither"),
        ] {
            let wrong = Networks::read(text).unwrap_err();
            assert!(wrong.reason.contains(told), "{text}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "((unix|[0-9]{1,3}\\.0\\.0\\.0(/[0-9]{1,2})?|fd[0-9a-f]{2}::(/[0-9]{1,3})?),?){0,4}") {
            if let Ok(networks) = Networks::read(&text) {
                prop_assert_eq!(Networks::read(&networks.to_string()), Ok(networks));
            }
        }
    }
}
