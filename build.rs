//! Gives each build its number, `APPCTL_BUILD`: a digest of what it is made of. Two builds of the same sources have the same
//! one, wherever they are made; `APPCTL_BUILD` in the environment stands instead.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What a build is made of.
const PARTS: [&str; 5] = ["Cargo.lock", "Cargo.toml", "build.rs", "src", "units"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=APPCTL_BUILD");
    let mut files = Vec::new();
    for part in PARTS {
        println!("cargo::rerun-if-changed={part}");
        collect(Path::new(part), &mut files)?;
    }
    files.sort();
    let mut digest = Digest::default();
    for name in ["TARGET", "PROFILE", "OPT_LEVEL"] {
        digest.add(env::var(name).unwrap_or_default().as_bytes());
    }
    for file in files {
        digest.add(file.to_string_lossy().as_bytes());
        digest.add(&fs::read(file)?);
    }
    let given = env::var("APPCTL_BUILD").ok().filter(|given| !given.is_empty());
    // One word of the stamp.
    let number = given.filter(|given| given.bytes().all(|byte| byte.is_ascii_graphic()));
    println!("cargo::rustc-env=APPCTL_BUILD={}", number.unwrap_or_else(|| digest.to_string()));
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.exists() {
        files.push(path.to_owned());
    }
    Ok(())
}

/// FNV-1a: it tells builds apart, it protects nothing.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in length.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
