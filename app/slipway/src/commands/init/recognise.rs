//! Recognises what a repository is made of, for the first `slipway.yaml`.
//!
//! In: paths of files, and their texts on demand. Out: services with what could be found out, and what could not.
//! Never: writes, runs anything.

use std::collections::{BTreeMap, BTreeSet};

/// Files of a folder that are looked into for a port and a health path.
const SOURCES_MAX: usize = 400;
/// Endings of such files.
const SOURCE_ENDINGS: [&str; 12] = ["rs", "go", "js", "mjs", "cjs", "ts", "py", "java", "kt", "rb", "php", "c"];
/// Paths that usually answer when a service is ready, the likeliest first.
const HEALTH: [&str; 8] = ["/healthz", "/health", "/readyz", "/ready", "/livez", "/ping", "/actuator/health", "/up"];
/// Words beside which a port stands.
const LISTENS: [&str; 8] = ["listen", "bind", "serve", "addr", "port", "run(", ":80", "server"];
/// Folders that are somebody else's code.
const FOREIGN: [&str; 5] = ["node_modules", "vendor", "target", "dist", ".venv"];

/// In what a service is written, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rust,
    Go,
    Node,
    Python,
    Java,
    Static,
    /// A Dockerfile, and nothing else that is known.
    Dockerfile,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Rust => "Rust",
            Kind::Go => "Go",
            Kind::Node => "Node",
            Kind::Python => "Python",
            Kind::Java => "Java",
            Kind::Static => "static site",
            Kind::Dockerfile => "Dockerfile",
        }
    }
}

/// A service that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    /// Its folder; empty is the root.
    pub folder: String,
    pub kind: Kind,
    pub has_dockerfile: bool,
    pub port: Option<u16>,
    pub health: Option<String>,
    /// The command of its tests.
    pub test: Option<String>,
    /// The command that leaves one static program at `dist/NAME`, where the language can.
    pub package: Option<Package>,
    /// The file that says so.
    pub evidence: String,
}

/// How a static program is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub run: String,
    pub env: Option<(&'static str, &'static str)>,
    /// Its path in the service's folder.
    pub program: String,
}

/// All that was recognised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub services: Vec<Service>,
    /// What a person has to decide or know.
    pub open: Vec<String>,
}

/// The files of a repository.
pub struct Files<'a> {
    pub paths: &'a [String],
    pub text: &'a dyn Fn(&str) -> Option<String>,
}

impl Files<'_> {
    fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|known| known == path)
    }

    fn below<'f>(&'f self, folder: &'f str) -> impl Iterator<Item = &'f str> {
        let here =
            move |path: &&str| folder.is_empty() || path.strip_prefix(folder).is_some_and(|r| r.starts_with('/'));
        self.paths.iter().map(String::as_str).filter(here)
    }

    /// Folders that hold a file of this name, without those of others.
    fn folders_with(&self, name: &str) -> BTreeSet<String> {
        let folder = |path: &String| match path.rsplit_once('/') {
            None if path == name => Some(String::new()),
            Some((folder, last)) if last == name => Some(folder.to_owned()),
            _ => None,
        };
        let own = |folder: &String| !folder.split('/').any(|part| FOREIGN.contains(&part));
        self.paths.iter().filter_map(folder).filter(own).collect()
    }

    fn read(&self, folder: &str, name: &str) -> Option<String> {
        let path = join(folder, name);
        if self.has(&path) { (self.text)(&path) } else { None }
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// A name that a service may have.
pub fn named(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(plain).collect();
    name.trim_matches('-').to_owned()
}

/// Looks at a repository that is called `project`.
pub fn recognise(project: &str, files: &Files<'_>) -> Found {
    let mut found = Found::default();
    let mut folders: BTreeMap<String, (Kind, String)> = BTreeMap::new();
    for folder in files.folders_with("Dockerfile") {
        let kind = kind_of(files, &folder).map_or(Kind::Dockerfile, |(kind, _)| kind);
        folders.insert(folder.clone(), (kind, join(&folder, "Dockerfile")));
    }
    if folders.is_empty() {
        for manifest in ["Cargo.toml", "go.mod", "package.json", "pyproject.toml", "requirements.txt", "pom.xml"] {
            for folder in files.folders_with(manifest) {
                if let Some((kind, evidence)) = kind_of(files, &folder) {
                    folders.entry(folder).or_insert((kind, evidence));
                }
            }
        }
        if folders.is_empty() {
            folders.extend(static_site(files));
        }
    }
    for (folder, (kind, evidence)) in folders {
        found.services.extend(service(project, files, folder, kind, evidence, &mut found.open));
    }
    compose(files, &mut found);
    if found.services.is_empty() {
        found
            .open
            .push("no service was recognised: a folder with a Dockerfile, a Rust or Go program would be one".into());
    }
    found
}

fn static_site(files: &Files<'_>) -> Option<(String, (Kind, String))> {
    let folder = ["", "public", "site", "docs"].into_iter().find(|folder| files.has(&join(folder, "index.html")))?;
    Some((folder.to_owned(), (Kind::Static, join(folder, "index.html"))))
}

/// What a folder's manifest says it is; only what can be started counts.
fn kind_of(files: &Files<'_>, folder: &str) -> Option<(Kind, String)> {
    let at = |name: &str| join(folder, name);
    if let Some(manifest) = files.read(folder, "Cargo.toml") {
        let starts = files.has(&at("src/main.rs")) || manifest.contains("[[bin]]");
        return (starts && manifest.contains("[package]")).then(|| (Kind::Rust, at("Cargo.toml")));
    }
    if files.has(&at("go.mod")) {
        return go_main(files, folder).map(|_| (Kind::Go, at("go.mod")));
    }
    if let Some(manifest) = files.read(folder, "package.json") {
        return script(&manifest, "start").map(|_| (Kind::Node, at("package.json")));
    }
    for name in ["pyproject.toml", "requirements.txt"] {
        let servers = ["flask", "fastapi", "django", "uvicorn", "gunicorn", "aiohttp", "starlette"];
        let text = files.read(folder, name).unwrap_or_default().to_lowercase();
        if servers.iter().any(|server| text.contains(server)) {
            return Some((Kind::Python, at(name)));
        }
    }
    let java = ["pom.xml", "build.gradle", "build.gradle.kts"].into_iter().find(|name| files.has(&at(name)));
    java.map(|name| (Kind::Java, at(name)))
}

/// The package of a Go program, as `go build` names it.
fn go_main(files: &Files<'_>, folder: &str) -> Option<String> {
    if files.read(folder, "main.go").is_some_and(|text| text.contains("package main")) {
        return Some(".".into());
    }
    let commands = join(folder, "cmd");
    let main = files.below(&commands).find(|path| path.ends_with("/main.go"))?;
    Some(format!(
        ".{}",
        main.strip_prefix(folder)?.trim_start_matches('/').strip_suffix("/main.go").map(|p| format!("/{p}"))?
    ))
}

/// A script of a `package.json`.
fn script(manifest: &str, name: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(manifest).ok()?;
    Some(value.get("scripts")?.get(name)?.as_str()?.to_owned())
}

fn service(
    project: &str,
    files: &Files<'_>,
    folder: String,
    kind: Kind,
    evidence: String,
    open: &mut Vec<String>,
) -> Option<Service> {
    let last = folder.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or(project);
    let name = named(last);
    if name.is_empty() {
        open.push(format!("`{folder}`: its name is no name of a service; rename it, or name it in the file"));
        return None;
    }
    let dockerfile = files.read(&folder, "Dockerfile");
    let exposed = dockerfile.as_deref().and_then(slipway_plan::detect::exposed);
    let (port, health) = listens(files, &folder);
    let port = exposed.or(port);
    if port.is_none() && kind != Kind::Static {
        open.push(format!("{name}: no port was found; it has to listen on the one in PORT, or `port:` names its own"));
    }
    if health.is_none() && kind != Kind::Static {
        open.push(format!("{name}: no health path was found; it counts as ready when its port takes connections"));
    }
    let package = package(files, &folder, &name, kind).filter(|_| dockerfile.is_none());
    if dockerfile.is_none() && package.is_none() {
        open.push(format!(
            "{name}: a {} has no image yet; write `{}`, and bring its base in with `slipway image import`",
            kind.word(),
            join(&folder, "Dockerfile")
        ));
    }
    let test = tests(files, &folder, kind);
    if test.is_none() {
        open.push(format!("{name}: no tests were found; without a test of behaviour production waits for a person"));
    }
    Some(Service { name, folder, kind, has_dockerfile: dockerfile.is_some(), port, health, test, package, evidence })
}

fn tests(files: &Files<'_>, folder: &str, kind: Kind) -> Option<String> {
    match kind {
        Kind::Rust => Some("cargo test".into()),
        Kind::Go => Some("go vet ./... && go test ./...".into()),
        Kind::Node => {
            let test = script(&files.read(folder, "package.json")?, "test")?;
            let install = if files.has(&join(folder, "package-lock.json")) { "npm ci" } else { "npm install" };
            (!test.contains("no test specified")).then(|| format!("{install} && npm test"))
        }
        Kind::Python => {
            let is_test =
                |path: &str| path.rsplit('/').next().is_some_and(|n| n.starts_with("test_") && n.ends_with(".py"));
            files.below(folder).any(is_test).then(|| "python3 -m pytest".into())
        }
        Kind::Java if files.has(&join(folder, "pom.xml")) => Some("mvn -B test".into()),
        Kind::Java if files.has(&join(folder, "gradlew")) => Some("./gradlew test".into()),
        Kind::Java | Kind::Static | Kind::Dockerfile => None,
    }
}

fn package(files: &Files<'_>, folder: &str, name: &str, kind: Kind) -> Option<Package> {
    match kind {
        Kind::Rust => {
            let manifest: toml::Value = toml::from_str(&files.read(folder, "Cargo.toml")?).ok()?;
            let own = manifest.get("package")?.get("name")?.as_str()?.to_owned();
            let bin =
                manifest.get("bin").and_then(|bins| bins.as_array()?.first()?.get("name")?.as_str().map(str::to_owned));
            let program = bin.unwrap_or(own);
            let run = format!(
                "cargo build --release --target-dir target && install -D target/release/{program} dist/{program}"
            );
            let env = Some(("RUSTFLAGS", "-C target-feature=+crt-static"));
            Some(Package { run, env, program: format!("dist/{program}") })
        }
        Kind::Go => {
            let main = go_main(files, folder)?;
            let program = format!("dist/{name}");
            Some(Package { run: format!("go build -o {program} {main}"), env: Some(("CGO_ENABLED", "\"0\"")), program })
        }
        Kind::Node | Kind::Python | Kind::Java | Kind::Static | Kind::Dockerfile => None,
    }
}

/// The port that the sources of a folder name, and a path that tells health.
fn listens(files: &Files<'_>, folder: &str) -> (Option<u16>, Option<String>) {
    let is_source = |path: &&str| {
        let ending = path.rsplit('.').next().unwrap_or_default();
        let own = !path.split('/').any(|part| FOREIGN.contains(&part) || part.contains("test"));
        own && SOURCE_ENDINGS.contains(&ending)
    };
    let (mut port, mut health): (Option<u16>, Option<usize>) = (None, None);
    for text in files.below(folder).filter(is_source).take(SOURCES_MAX).filter_map(|path| (files.text)(path)) {
        for line in text.lines() {
            if port.is_none() && LISTENS.iter().any(|word| line.to_lowercase().contains(word)) {
                port = port_in(line);
            }
        }
        let quoted = |path: &str| ["\"", "'", "`", " "].iter().any(|q| text.contains(&format!("{path}{q}")));
        let best = HEALTH.iter().position(|path| quoted(path));
        health = match (health, best) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
    }
    (port, health.and_then(|at| HEALTH.get(at)).map(|path| (*path).to_owned()))
}

/// A number of four or five digits that a server may listen on, as `:8080`, `(3000)` or `"8000"`.
fn port_in(line: &str) -> Option<u16> {
    let digits = |c: char| c.is_ascii_digit();
    let words = line.split(|c: char| !digits(c)).filter(|word| (4..=5).contains(&word.len()));
    words.filter_map(|word| word.parse::<u16>().ok()).find(|port| *port >= 1024)
}

/// Services of a compose file that are somebody else's programs.
fn compose(files: &Files<'_>, found: &mut Found) {
    let names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
    let Some((name, text)) = names.into_iter().find_map(|name| Some((name, files.read("", name)?))) else { return };
    let images = text.lines().filter_map(|line| line.trim().strip_prefix("image:"));
    let images: BTreeSet<&str> = images.map(|image| image.trim().trim_matches(['"', '\''])).collect();
    if !images.is_empty() {
        let list = images.into_iter().collect::<Vec<_>>().join(", ");
        found.open.push(format!(
            "{name} also starts {list}: Slipway does not start these yet; give their addresses as `env`"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(files: &[(&str, &str)]) -> Found {
        let texts: BTreeMap<String, String> = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
        let paths: Vec<String> = texts.keys().cloned().collect();
        recognise("shop", &Files { paths: &paths, text: &|path| texts.get(path).cloned() })
    }

    fn only(files: &[(&str, &str)]) -> Service {
        let found = look(files);
        assert_eq!(found.services.len(), 1, "{found:?}");
        found.services.into_iter().next().unwrap()
    }

    #[test]
    fn each_kind_of_project_is_recognised_by_its_manifest() {
        let rust = only(&[
            ("Cargo.toml", "[package]\nname = \"cafe\"\n"),
            ("src/main.rs", "TcpListener::bind(\"0.0.0.0:8081\"); route(\"/healthz\")"),
        ]);
        assert_eq!((rust.kind, rust.name.as_str(), rust.port), (Kind::Rust, "shop", Some(8081)));
        assert_eq!(rust.health.as_deref(), Some("/healthz"));
        assert_eq!(rust.package.unwrap().program, "dist/cafe");
        let go =
            only(&[("go.mod", "module x"), ("cmd/web/main.go", "package main\nhttp.ListenAndServe(\":9000\", nil)")]);
        assert_eq!((go.kind, go.port), (Kind::Go, Some(9000)));
        assert_eq!(go.package.unwrap().run, "go build -o dist/shop ./cmd/web");
        let node = only(&[
            ("web/package.json", r#"{"scripts":{"start":"node .","test":"node --test"}}"#),
            ("web/package-lock.json", "{}"),
            ("web/node_modules/x/package.json", r#"{"scripts":{"start":"x"}}"#),
        ]);
        assert_eq!(
            (node.kind, node.folder.as_str(), node.test.as_deref()),
            (Kind::Node, "web", Some("npm ci && npm test"))
        );
        let python = only(&[("requirements.txt", "Flask==3\n"), ("test_app.py", ""), ("app.py", "app.run(port=5000)")]);
        assert_eq!((python.kind, python.port), (Kind::Python, Some(5000)));
        assert_eq!(python.test.as_deref(), Some("python3 -m pytest"));
        assert_eq!(only(&[("pom.xml", "<project/>")]).kind, Kind::Java);
        assert_eq!(only(&[("public/index.html", "<p>")]).kind, Kind::Static);
    }

    #[test]
    fn dockerfiles_are_services_and_what_is_open_is_named() {
        let found = look(&[
            ("api/Dockerfile", "FROM scratch\nEXPOSE 7000\n"),
            ("My_Web/Dockerfile", "FROM scratch\n"),
            ("Cargo.toml", "[package]\nname = \"tool\"\n"),
            ("src/main.rs", ""),
            ("docker-compose.yml", "services:\n  db:\n    image: postgres:16\n"),
        ]);
        let names: Vec<&str> = found.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["my-web", "api"]);
        assert_eq!(found.services[1].port, Some(7000));
        for part in ["postgres:16", "my-web: no port was found", "api: no tests were found"] {
            assert!(found.open.iter().any(|open| open.contains(part)), "{part} in {:?}", found.open);
        }
        assert!(look(&[("README", "")]).open[0].contains("no service was recognised"));
    }
}
