//! Projects that the benchmarks push.
//!
//! In: a running Slipway, files. Out: commits and pushes by the real `git`. Never: a token in an argument.

use crate::slipway::Slipway;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The service of the benchmarks.
const SERVER: &str = include_str!("../fixtures/server.c");
/// Its image holds nothing else.
const DOCKERFILE: &str = "FROM scratch\nCOPY server /server\nUSER 65534:65534\nEXPOSE 8080\nENTRYPOINT [\"/server\"]\n";

/// A program of this machine, or how to get it.
///
/// # Errors
/// When it is missing.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("`{name}` is missing; on Debian: apt-get install {package}"))
}

/// Compiles a C text to one static program.
///
/// # Errors
/// When there is no C compiler, or no static C library.
pub fn program_of(text: &str, to: &Path) -> Result<()> {
    let mut compiler = Command::new(program("cc", "gcc libc6-dev")?)
        .args(["-O2", "-static", "-pthread", "-x", "c", "-", "-o"])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()?;
    compiler.stdin.take().context("no input of `cc`")?.write_all(text.as_bytes())?;
    ensure!(compiler.wait()?.success(), "`cc` failed");
    Ok(())
}

/// The service of the benchmarks as a program.
///
/// # Errors
/// When it cannot be compiled.
pub fn static_server(to: &Path) -> Result<()> {
    program_of(SERVER, to)
}

/// A repository with the instant service in it.
#[derive(Debug)]
pub struct Project {
    /// Its repository.
    pub repository: Repository,
    service: String,
    environment: String,
}

impl Project {
    /// One service `web` of the static server, `environment` being the keys of `production`.
    ///
    /// # Errors
    /// When its server cannot be compiled.
    pub fn new(slipway: &Slipway, folder: &Path, service: &str, environment: &str) -> Result<Project> {
        let repository = Repository::new(slipway, folder, "web")?;
        static_server(&folder.join("server"))?;
        repository.write("Dockerfile", DOCKERFILE)?;
        Ok(Project { repository, service: service.to_owned(), environment: environment.to_owned() })
    }

    /// Commits and pushes it with these variables and options of `git push`; returns what the push printed.
    ///
    /// # Errors
    /// When Git fails.
    pub fn push(&self, env: &str, options: &[&str]) -> Result<String> {
        let (service, environment) = (&self.service, &self.environment);
        let text = format!(
            "project: web\nservices:\n  web:\n    path: .\n    port: 8080\n    health: /\n    env: {{ {env} }}\n    \
             {service}\n    jobs:\n      test: {{ run: \"true\", network: off, image: host, inputs: [Dockerfile] }}\n\
             environments:\n  production: {{ {environment} }}\n"
        );
        self.repository.write("slipway.yaml", &text)?;
        self.repository.commit(env)?;
        self.repository.push(options)
    }
}

/// A working tree with a remote in Slipway.
#[derive(Debug)]
pub struct Repository {
    /// Its folder.
    pub folder: PathBuf,
    token: String,
}

impl Repository {
    /// An empty one whose remote `slipway` makes the project.
    ///
    /// # Errors
    /// When Git fails.
    pub fn new(slipway: &Slipway, folder: &Path, project: &str) -> Result<Repository> {
        std::fs::create_dir_all(folder)?;
        let repository = Repository { folder: folder.to_owned(), token: slipway.token.clone() };
        repository.git(&["init", "-q", "-b", "main"])?;
        repository.git(&["remote", "add", "slipway", &format!("{}/git/{project}.git", slipway.url)])?;
        Ok(repository)
    }

    /// Writes a file of it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.folder.join(path);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&file, text).with_context(|| format!("cannot write `{}`", file.display()))
    }

    /// Commits everything.
    ///
    /// # Errors
    /// When Git fails.
    pub fn commit(&self, subject: &str) -> Result<()> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "-m", subject]).map(|_| ())
    }

    /// Pushes to Slipway and waits until all is decided; returns what it printed.
    ///
    /// # Errors
    /// When Git fails.
    pub fn push(&self, options: &[&str]) -> Result<String> {
        self.git(&[&["push", "-q"], options, &["slipway", "main"]].concat())
    }

    /// Runs Git; returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        let answer = self.command(arguments).output().context("`git` cannot be started")?;
        let said = String::from_utf8_lossy(&answer.stderr);
        ensure!(answer.status.success(), "`git {}`: {}", arguments.join(" "), said.trim());
        Ok(format!("{}{said}", String::from_utf8_lossy(&answer.stdout)))
    }

    /// Git in this repository, with name and token.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(&self.folder)
            .args(arguments)
            .stdin(Stdio::null())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_COUNT", "3")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: Bearer {}", self.token))
            .env("GIT_CONFIG_KEY_1", "user.name")
            .env("GIT_CONFIG_VALUE_1", "kim")
            .env("GIT_CONFIG_KEY_2", "user.email")
            .env("GIT_CONFIG_VALUE_2", "kim@example.com");
        command
    }
}
