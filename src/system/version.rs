//! Which systemd this machine has.

use std::process::{Command, Stdio};

/// The number in the first line of `systemctl --version`: `systemd 257 (257.7-1)`. `None`: there is no systemd.
pub fn of_systemd() -> Option<u32> {
    let output = Command::new("systemctl").arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Option<u32> {
    let number = text.strip_prefix("systemd ")?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number() {
        assert_eq!(parse("systemd 257 (257.7-1)\n+PAM +AUDIT\n"), Some(257));
        assert_eq!(parse("systemd 258~rc1 (x)"), Some(258));
        assert_eq!(parse("elogind 252"), None);
    }
}
