//! Which files do not matter (pure): patterns as in gitignore(5), relative to what is watched.

use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// What is never code: hidden files, packages, what editors leave and what programs write. A pattern with `!` in the
/// app's own `ignore` takes one back.
pub const NEVER: [&str; 10] = [".*", "node_modules", "*~", "*.swp", "*.swx", "4913", "#*#", "*.tmp", "*.log", "*.pid"];

#[derive(Debug)]
pub struct Filter(Gitignore);

impl Filter {
    /// The app's own patterns come after [`NEVER`], so they win.
    pub fn new(ignore: &[String]) -> Result<Self, ignore::Error> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in NEVER.into_iter().map(|it| if it.starts_with('#') { format!("\\{it}") } else { it.to_owned() }) {
            builder.add_line(None, &pattern)?;
        }
        for pattern in ignore {
            builder.add_line(None, pattern)?;
        }
        builder.build().map(Self)
    }

    /// Whether a path, relative to what is watched, does not matter. What is below an ignored directory does not either;
    /// nobody asks about that.
    pub fn ignores(&self, path: &Path, is_directory: bool) -> bool {
        self.0.matched(path, is_directory).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(ignore: &[&str], path: &str) -> bool {
        let ignore: Vec<String> = ignore.iter().map(|it| (*it).to_owned()).collect();
        let (path, is_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        Filter::new(&ignore).unwrap().ignores(Path::new(path), is_directory)
    }

    #[test]
    fn what_is_never_code() {
        for path in
            [".git/", "node_modules/", "a/node_modules/", ".env", "a/.x.js.swp", "x.js~", "#x.js#", "4913", "a/b.log"]
        {
            assert!(ignored(&[], path), "{path}");
        }
        for path in ["server.js", "lib/", "lib/a.json", "logs/"] {
            assert!(!ignored(&[], path), "{path}");
        }
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        assert!(ignored(&["uploads/"], "uploads/") && !ignored(&["uploads/"], "uploads"));
        assert!(ignored(&["/data"], "data/") && !ignored(&["/data"], "a/data/"));
        assert!(ignored(&["data/*.json"], "data/x.json") && !ignored(&["data/*.json"], "a/data/x.json"));
        assert!(ignored(&["**/gen/*"], "a/gen/x"));
        assert!(!ignored(&["!.env"], ".env"), "the app's own word is the last");
        assert!(!ignored(&["# a comment", ""], "server.js"));
    }
}
