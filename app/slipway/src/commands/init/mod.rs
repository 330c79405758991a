//! `slipway init`: from a repository to its first `slipway.yaml`.
//!
//! In: the working tree. Out: about ten lines of configuration, Dockerfiles where one static program is all that an image
//! needs, a hook, the remote; and what a person has to decide. Never: a file replaced; anything written with `--dry-run`.

mod recognise;

use crate::cli::Global;
use crate::client::{find, remote};
use crate::commands::ask::print_json;
use crate::commands::local::{files_of, git, text};
use crate::exit::{CHANGE, Done, Exit, SURROUNDINGS, surroundings};
use crate::term;
use clap::Args;
use recognise::{Files, Found, Service, named, recognise};
use slipway_plan::drive::FILE;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Larger files are no sources.
const SOURCE_BYTES_MAX: u64 = 512 * 1024;
const HOOK: &str = "#!/bin/sh\n# Written by `slipway init`: what a push would refuse is not committed.\n\
                    git diff --cached --quiet -- slipway.yaml ':(glob)**/Dockerfile' || exec slipway lint\n";
const TEMPLATE: &str = "## What changes for users\n\n## How it was tried\n\n## How it is taken back\n\n\
                        `slipway rollback`, unless it says otherwise here.\n";

/// What to write.
#[derive(Debug, Args)]
pub struct Init {
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// No hook that checks the file before a commit
    #[arg(long)]
    no_hooks: bool,
}

/// A file that is to be written.
struct Planned {
    path: PathBuf,
    text: String,
    is_program: bool,
}

/// `slipway init`.
pub fn init(global: &Global, init: &Init) -> Done {
    let root = PathBuf::from(text(&git(Path::new("."), &["rev-parse", "--show-toplevel"])?));
    if root.join(FILE).exists() {
        return Err(Exit::new(CHANGE, format!("{FILE} is there already")).hint("`slipway lint` checks it"));
    }
    let folder = root.file_name().map(|name| named(&name.to_string_lossy())).filter(|name| !name.is_empty());
    let known = remote().map(|remote| remote.project);
    let project = global.project.clone().or(known).or(folder).unwrap_or_else(|| "project".into());
    let paths = files_of(&root)?;
    let read = |path: &str| {
        let full = root.join(path);
        let small = full.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= SOURCE_BYTES_MAX);
        small.then(|| std::fs::read(full).ok()).flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let found = recognise(&project, &Files { paths: &paths, text: &read });
    let files = planned(&root, &project, &found, init);
    if global.json {
        let files: Vec<_> = files
            .iter()
            .map(|file| serde_json::json!({ "path": shown(&root, &file.path), "text": file.text }))
            .collect();
        print_json(&serde_json::json!({ "project": project, "files": files, "open": found.open }))?;
    }
    for file in &files {
        if !init.dry_run {
            write(file)?;
        }
        if !global.json {
            let word = if init.dry_run { "would write" } else { "wrote" };
            println!("{} {}", term::strong(word), shown(&root, &file.path));
            file.text.lines().for_each(|line| println!("  {line}"));
        }
    }
    if global.json {
        return Ok(());
    }
    for open in &found.open {
        println!("{} {open}", term::strong("to decide:"));
    }
    if !init.dry_run {
        add_remote(global, &root, &project)?;
        println!("next: slipway lint; git add -A; git commit; slipway push");
    }
    Ok(())
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn planned(root: &Path, project: &str, found: &Found, init: &Init) -> Vec<Planned> {
    let mut files = vec![Planned { path: root.join(FILE), text: configuration(project, found), is_program: false }];
    for service in found.services.iter().filter(|service| !service.has_dockerfile) {
        if let Some(package) = &service.package {
            let name = package.program.rsplit('/').next().unwrap_or(&package.program);
            let text = format!(
                "FROM scratch\nCOPY --from=job.package {} /{name}\nENTRYPOINT [\"/{name}\"]\n",
                package.program
            );
            files.push(Planned { path: root.join(&service.folder).join("Dockerfile"), text, is_program: false });
        }
    }
    let hooks = git(root, &["rev-parse", "--git-path", "hooks"]).map(|path| root.join(text(&path)));
    if let Ok(hooks) = hooks
        && !init.no_hooks
    {
        files.push(Planned { path: hooks.join("pre-commit"), text: HOOK.into(), is_program: true });
    }
    // A template is where the place that shows it looks for it.
    let remotes = git(root, &["remote", "-v"]).map(|out| text(&out)).unwrap_or_default();
    let template =
        [("github.com", ".github/pull_request_template.md"), ("gitlab", ".gitlab/merge_request_templates/Default.md")];
    if let Some((_, path)) = template.into_iter().find(|(host, _)| remotes.contains(host)) {
        files.push(Planned { path: root.join(path), text: TEMPLATE.into(), is_program: false });
    }
    files.retain(|file| !file.path.exists());
    files
}

fn configuration(project: &str, found: &Found) -> String {
    let mut out = format!(
        "# From a push to production. `slipway explain` prints every default that is not here.\nproject: {project}\n"
    );
    if !found.services.is_empty() {
        out.push_str("\nservices:\n");
    }
    for service in &found.services {
        // Writing into a String cannot fail.
        let _ = write_service(&mut out, service);
    }
    out.push_str("\nenvironments:\n  production: {}\n");
    out
}

fn write_service(out: &mut String, service: &Service) -> std::fmt::Result {
    let path = if service.folder.is_empty() { "." } else { &service.folder };
    writeln!(out, "  {}: # {}, {}", service.name, service.kind.word(), service.evidence)?;
    writeln!(out, "    path: {path}")?;
    if let Some(port) = service.port {
        writeln!(out, "    port: {port}")?;
    }
    if let Some(health) = &service.health {
        writeln!(out, "    health: {health}")?;
    }
    if service.test.is_some() || service.package.is_some() {
        writeln!(out, "    jobs:")?;
    }
    if let Some(test) = &service.test {
        writeln!(out, "      test: {{ run: {} }}", quoted(test))?;
    }
    if let Some(package) = &service.package {
        writeln!(out, "      package: # one static program, so that the image needs nothing else")?;
        writeln!(out, "        run: {}", quoted(&package.run))?;
        if let Some((name, value)) = package.env {
            writeln!(out, "        env: {{ {name}: {value} }}")?;
        }
        writeln!(out, "        produces: [{}]", package.program)?;
    }
    Ok(())
}

/// Text as a YAML scalar that also stands within braces.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ./_-+&=".contains(c);
    if text.chars().all(plain) && !text.starts_with(['&', '-', '.', '=']) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn write(file: &Planned) -> Done {
    let failed = |error: std::io::Error| Exit::new(SURROUNDINGS, format!("`{}`: {error}", file.path.display()));
    if let Some(folder) = file.path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut made = std::fs::File::create_new(&file.path).map_err(failed)?;
    std::io::Write::write_all(&mut made, file.text.as_bytes()).map_err(failed)?;
    if file.is_program {
        made.set_permissions(std::fs::Permissions::from_mode(0o755)).map_err(surroundings)?;
    }
    Ok(())
}

/// The remote, when a server is known and none is there.
fn add_remote(global: &Global, root: &Path, project: &str) -> Done {
    if remote().is_some() {
        return Ok(());
    }
    let Ok(client) = find(global) else {
        println!("{} no server is known: `slipway up` starts one", term::strong("to decide:"));
        return Ok(());
    };
    let url = format!("{}/git/{project}.git", client.url);
    git(root, &["remote", "add", "slipway", &url])?;
    println!("{} remote slipway {url}", term::strong("added"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use recognise::{Kind, Package};

    #[test]
    fn what_is_written_is_read_without_a_problem() {
        let service = Service {
            name: "api".into(),
            folder: "api".into(),
            kind: Kind::Go,
            has_dockerfile: false,
            port: Some(9000),
            health: Some("/healthz".into()),
            test: Some("go vet ./... && go test ./...".into()),
            package: Some(Package {
                run: "go build -o dist/api .".into(),
                env: Some(("CGO_ENABLED", "\"0\"")),
                program: "dist/api".into(),
            }),
            evidence: "api/go.mod".into(),
        };
        let bare =
            Service { name: "web".into(), package: None, test: None, port: None, health: None, ..service.clone() };
        let text = configuration("shop", &Found { services: vec![service, bare], open: Vec::new() });
        let read = slipway_config::parse(FILE, &text).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        assert_eq!(read.services.len(), 2);
        assert!(text.lines().count() <= 22, "{text}");
        let nothing = configuration("shop", &Found::default());
        assert!(slipway_config::parse(FILE, &nothing).is_ok(), "{nothing}");
        assert_eq!(quoted("a: b"), "\"a: b\"");
    }
}
