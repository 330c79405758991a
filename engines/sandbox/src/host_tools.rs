//! What a job on the host's tools may see of homes. In: HOME and PATH of this process, the file system. Out: a root, an environment.
//! A folder is named here or it is not shown; none of them holds credentials (Cargo's home is not shown whole for that reason).

use crate::spec::{HOME, Root, Workspace};
use std::path::{Path, PathBuf};

/// Tool folders in a home, read-only at the same path; some installers find them by a variable.
const TOOLS: &[(&str, Option<&str>)] = &[
    (".rustup", Some("RUSTUP_HOME")),
    (".cargo/bin", None),
    (".pyenv", Some("PYENV_ROOT")),
    (".nvm", Some("NVM_DIR")),
    (".rbenv", Some("RBENV_ROOT")),
    (".sdkman/candidates", None),
    (".volta", Some("VOLTA_HOME")),
    (".asdf", Some("ASDF_DATA_DIR")),
    (".local/share/mise", Some("MISE_DATA_DIR")),
    (".local/bin", None),
    (".bun/bin", None),
    (".deno/bin", None),
    (".dotnet", Some("DOTNET_ROOT")),
    ("go/bin", None),
    (".goenv", Some("GOENV_ROOT")),
    (".juliaup", None),
    (".ghcup", None),
];
/// Download caches in a home: unchanged outside, writable inside, at a path under the job's HOME.
const CACHES: &[(&str, &str)] =
    &[(".cargo/registry", ".cargo/registry"), (".cargo/git", ".cargo/git"), ("go/pkg/mod", "go/pkg/mod")];
/// Folders that every host-tools root has.
const SYSTEM: &[&str] = &["/usr/", "/bin", "/sbin", "/opt/", "/nix/store/", "/gnu/store/"];

/// Tools found, and how to reach them.
#[derive(Debug, Clone)]
pub struct HostTools {
    /// Folders for [`Root::HostTools`].
    pub tools: Vec<PathBuf>,
    /// Caches for [`Root::HostTools`].
    pub caches: Vec<Workspace>,
    /// PATH, HOME and the tools' variables.
    pub env: Vec<(String, String)>,
}

impl HostTools {
    /// As a root.
    pub fn root(&self) -> Root {
        Root::HostTools { tools: self.tools.clone(), caches: self.caches.clone() }
    }
}

/// Looks at this process's HOME and PATH.
pub fn host_tools() -> HostTools {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let path = std::env::var("PATH").unwrap_or_default();
    find(home.as_deref(), &path)
}

fn find(home: Option<&Path>, path: &str) -> HostTools {
    let mut found = HostTools { tools: Vec::new(), caches: Vec::new(), env: Vec::new() };
    if let Some(home) = home {
        for (folder, variable) in TOOLS {
            let folder = home.join(folder);
            // A link could lead anywhere, to a folder with credentials too.
            if !folder.is_dir() || folder.is_symlink() {
                continue;
            }
            found.env.extend(variable.map(|name| (name.to_owned(), folder.display().to_string())));
            found.tools.push(folder);
        }
        for (folder, target) in CACHES {
            let lower = home.join(folder);
            if lower.is_dir() && !lower.is_symlink() {
                found.caches.push(Workspace { lower, target: Path::new(HOME).join(target) });
            }
        }
    }
    let visible = |entry: &&str| {
        let entry = Path::new(entry);
        let in_system = SYSTEM.iter().any(|folder| entry.starts_with(folder));
        in_system || found.tools.iter().any(|tool| entry.starts_with(tool))
    };
    let mut entries: Vec<&str> = Vec::new();
    for entry in path.split(':').chain(crate::PATH_DEFAULT.split(':')).filter(visible) {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    let mut env = vec![("PATH".to_owned(), entries.join(":")), ("HOME".to_owned(), HOME.to_owned())];
    env.push(("CARGO_HOME".to_owned(), format!("{HOME}/.cargo")));
    env.push(("GOPATH".to_owned(), format!("{HOME}/go")));
    env.append(&mut found.env);
    found.env = env;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_comes_without_its_credentials() {
        let home = std::env::temp_dir().join(format!("slipway-home-{}", std::process::id()));
        for folder in [".cargo/bin", ".cargo/registry", ".rustup", ".ssh", ".config/gh"] {
            std::fs::create_dir_all(home.join(folder)).unwrap();
        }
        std::fs::write(home.join(".cargo/credentials.toml"), "token").unwrap();
        let path = format!("{0}/.cargo/bin:{0}/.ssh:/usr/bin:relative:/usr/bin", home.display());
        let found = find(Some(&home), &path);
        let shown: Vec<_> = found.tools.iter().chain(found.caches.iter().map(|c| &c.lower)).collect();
        let secret = [".cargo/credentials.toml", ".ssh/id", ".config/gh/hosts.yml"].map(|s| home.join(s));
        assert!(secret.iter().all(|s| !shown.iter().any(|folder| s.starts_with(folder)))); // R518
        let path = &found.env[0].1;
        assert!(path.starts_with(&format!("{}/.cargo/bin:/usr/bin:", home.display())), "{path}");
        assert!(!path.contains("relative") && !path.contains(".ssh"));
        std::fs::remove_dir_all(home).unwrap();
    }
}
