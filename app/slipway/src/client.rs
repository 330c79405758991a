//! The API from the command line's side.
//!
//! In: paths and bodies. Out: JSON, text lines, problems as exits. Never: a token in an argument or a message.

use crate::cli::Global;
use crate::exit::{CHANGE, Exit, SURROUNDINGS, USAGE};
use crate::paths::Data;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;

/// For an answer's head; bodies may go on for ever when following.
const ANSWER: Duration = Duration::from_secs(60);

/// The word of a problem about a project that does not exist.
pub const NO_PROJECT: &str = "no-project";

/// A server and the token for it.
#[derive(Debug, Clone)]
pub struct Client {
    /// `http://127.0.0.1:8400`.
    pub url: String,
    /// The project, when it is known.
    pub project: Option<String>,
    token: String,
}

/// Finds the server: option or environment, the `slipway` remote, the server of the data folder.
pub fn find(global: &Global) -> Result<Client, Exit> {
    let remote = remote();
    let data = Data::find(global.data.clone());
    let url = match (&global.server, &remote) {
        (Some(server), _) => server.trim_end_matches('/').to_owned(),
        (None, Some(remote)) if global.data.is_none() => remote.server.clone(),
        (None, _) => of_data_url(&data).ok_or_else(|| {
            Exit::new(SURROUNDINGS, "no server is known").hint("start one with `slipway up`, name one with `--server URL`, or add it: `git remote add slipway http://HOST/git/NAME.git`")
        })?,
    };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Exit::new(USAGE, format!("`{url}` is no address of a server"))
            .hint("it looks like http://slipway.example.org:8400"));
    }
    let token = token(&data, &url)?;
    let project = global.project.clone().or_else(|| remote.map(|remote| remote.project)).or_else(named_in_file);
    Ok(Client { url, project, token })
}

/// What `project:` in the `slipway.yaml` of this repository says.
fn named_in_file() -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["rev-parse", "--show-toplevel"])
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    let root = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let text = std::fs::read_to_string(root.join(slipway_plan::drive::FILE)).ok()?;
    slipway_config::parse(slipway_plan::drive::FILE, &text).ok()?.project.map(|name| name.value)
}

fn of_data_url(data: &Data) -> Option<String> {
    let text = std::fs::read_to_string(data.addresses()).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(format!("http://{}", value.get("http")?.as_str()?))
}

fn token(data: &Data, url: &str) -> Result<String, Exit> {
    if let Ok(token) = std::env::var("SLIPWAY_TOKEN") {
        return Ok(token);
    }
    let of_data = |data: &Data| std::fs::read_to_string(data.token()).ok();
    let own = of_data_url(data).is_some_and(|own| own == url).then(|| of_data(data)).flatten();
    let known = || known().remove(url).and_then(|folder| of_data(&Data(PathBuf::from(folder))));
    if let Some(token) = own.or_else(known).or_else(|| credential(url)) {
        return Ok(token.trim().to_owned());
    }
    let hint = "set SLIPWAY_TOKEN, name the server's data folder with `--data`, or give Git the token: a push asks for it once when a credential helper is set";
    Err(Exit::new(SURROUNDINGS, format!("no token for {url}")).hint(hint))
}

fn known_file() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("slipway/servers.json"))
}

/// Data folders of servers that this user started on this machine, by address.
fn known() -> BTreeMap<String, String> {
    let bytes = known_file().and_then(|file| std::fs::read(file).ok());
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The data folder of the `slipway` remote's server, when this user started it on this machine.
pub fn data_of_remote() -> Option<PathBuf> {
    known().remove(&remote()?.server).map(PathBuf::from)
}

/// Remembers where the data of a server of this machine is, so that its token is found from any repository.
pub fn remember(url: &str, data: &Data) {
    let Some(file) = known_file() else { return };
    let mut all = known();
    all.retain(|_, folder| PathBuf::from(folder.as_str()).is_dir());
    all.insert(url.to_owned(), data.0.display().to_string());
    let folder = file.parent().map(std::path::Path::to_path_buf).unwrap_or_default();
    // It is a convenience: without it the token is found by `--data`.
    if std::fs::create_dir_all(folder).is_ok() {
        let _ = slipway_vault::write_private(&file, serde_json::to_string(&all).unwrap_or_default().as_bytes());
    }
}

/// What Git knows for this address: whoever pushed with a credential helper gave the token already.
fn credential(url: &str) -> Option<String> {
    use std::io::Write;
    let (protocol, host) = url.split_once("://")?;
    let mut child = std::process::Command::new("git")
        .args(["credential", "fill"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(format!("protocol={protocol}\nhost={host}\n\n").as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("password="))
        .filter(|token| !token.is_empty())
        .map(ToOwned::to_owned)
}

/// A remote of this repository that is a Slipway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// What Git calls it.
    pub name: String,
    /// `http://127.0.0.1:8400`.
    pub server: String,
    /// The project.
    pub project: String,
}

/// The remote `slipway` of this repository; in a clone it is called otherwise, `origin` as a rule.
pub fn remote() -> Option<Remote> {
    let output = std::process::Command::new("git")
        .args(["config", "--get-regexp", r"^remote\..*\.url$"])
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    choose(&String::from_utf8(output.stdout).ok()?)
}

/// Of the lines `remote.NAME.url URL`: the remote `slipway`, else `origin`, else the only one with a Slipway's address.
fn choose(lines: &str) -> Option<Remote> {
    let remotes: Vec<Remote> = lines.lines().filter_map(read_remote).collect();
    let called = |name: &str| remotes.iter().find(|remote| remote.name == name);
    let only = || if let [only] = remotes.as_slice() { Some(only) } else { None };
    called("slipway").or_else(|| called("origin")).or_else(only).cloned()
}

fn read_remote(line: &str) -> Option<Remote> {
    let (key, url) = line.split_once(' ')?;
    let name = key.strip_prefix("remote.")?.strip_suffix(".url")?;
    let (server, rest) = url.trim().split_once("/git/")?;
    // A user or password in the address is Git's business.
    let (scheme, host) = server.split_once("://")?;
    let server = format!("{scheme}://{}", host.rsplit_once('@').map_or(host, |(_, host)| host));
    let project = rest.trim_end_matches('/').trim_end_matches(".git");
    let ours =
        matches!(scheme, "http" | "https") && !project.is_empty() && !project.contains('/') && !host.contains('/');
    ours.then(|| Remote { name: name.to_owned(), server, project: project.to_owned() })
}

impl Client {
    /// A client of a known server.
    pub fn new(url: &str, token: &str, project: Option<&str>) -> Client {
        Client { url: url.to_owned(), project: project.map(ToOwned::to_owned), token: token.to_owned() }
    }

    /// The project's path below the API; the only project when none is named.
    pub async fn project(&self) -> Result<String, Exit> {
        if let Some(project) = &self.project {
            return Ok(project.clone());
        }
        let all: Vec<serde_json::Value> = self.get("/api/v1/projects").await?;
        let names: Vec<&str> = all.iter().filter_map(|project| project.get("name")?.as_str()).collect();
        match names.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => {
                Err(Exit::new(CHANGE, "there is no project yet")
                    .hint(format!("git push {}/git/NAME.git main", self.url)))
            }
            _ => Err(Exit::new(USAGE, format!("which project? {}", names.join(", "))).hint("say `--project NAME`")),
        }
    }

    /// `GET`, as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Exit> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    /// Another method with a JSON body.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Exit> {
        let body = serde_json::to_vec(body).map_err(crate::exit::surroundings)?;
        self.json(method, path, Bytes::from(body)).await
    }

    /// Another method with a body of any bytes.
    pub async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Exit> {
        let answer = self.ask(method, path, body).await?;
        let bytes = answer.into_body().collect().await.map_err(crate::exit::surroundings)?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| {
            Exit::new(
                SURROUNDINGS,
                format!("{}{path} answered something else than this version understands: {error}", self.url),
            )
        })
    }

    /// Lines of a text body as they come.
    pub async fn lines(
        &self,
        path: &str,
        mut line: impl FnMut(&str) -> Option<crate::exit::Done>,
    ) -> crate::exit::Done {
        let mut body = self.ask(Method::GET, path, Bytes::new()).await?.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Exit::new(SURROUNDINGS, format!("the connection to {} was lost: {error}", self.url))
            })?;
            let Some(data) = frame.data_ref() else { continue };
            rest.extend_from_slice(data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let whole: Vec<u8> = rest.drain(..=end).collect();
                if let Some(done) = line(String::from_utf8_lossy(&whole).trim_end_matches('\n')) {
                    return done;
                }
            }
        }
        Ok(())
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<hyper::Response<Incoming>, Exit> {
        let answer = self.answer(method, path, Some("application/json"), body).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(problem(answer).await)
    }

    /// One exchange with the registry: its answer, whatever it says.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, Exit> {
        let answer = self.answer(method, path, content_type, body).await?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(crate::exit::surroundings)?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<hyper::Response<Incoming>, Exit> {
        let host = self.url.strip_prefix("http://").ok_or_else(|| {
            Exit::new(USAGE, format!("`{}` is no address that this version can call", self.url))
                .hint("it begins with http://; for TLS put a proxy in front and name its plain address")
        })?;
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let lost = |error: &dyn std::fmt::Display| {
            Exit::new(SURROUNDINGS, format!("no server answers at {}: {error}", self.url))
                .hint("`slipway up` starts one; `slipway doctor` says what is wrong")
        };
        let stream = TcpStream::connect(&address).await.map_err(|error| lost(&error))?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(body)).map_err(|error| Exit::new(USAGE, format!("{path}: {error}")))?;
        let answer = tokio::time::timeout(ANSWER, sender.send_request(request)).await;
        answer.map_err(|_| lost(&"no answer within a minute"))?.map_err(|error| lost(&error))
    }
}

/// An answer of the registry (OCI distribution specification, "Error Codes").
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// The answer, if its status is the one that was hoped for.
    pub fn expect(self, status: StatusCode, path: &str) -> Result<Answer, Exit> {
        if self.status == status { Ok(self) } else { Err(self.problem(path)) }
    }

    /// What the registry complains of.
    pub fn problem(&self, path: &str) -> Exit {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let said = value.pointer("/errors/0/message").and_then(|text| text.as_str());
        let what = said.map_or_else(|| format!("the registry answered {} to {path}", self.status), ToOwned::to_owned);
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::new(SURROUNDINGS, what)
                .hint("this needs a token that may push to the project: `slipway token ls`"),
            status if status.is_client_error() => Exit::new(CHANGE, what),
            _ => Exit::new(SURROUNDINGS, what),
        }
    }
}

async fn problem(answer: hyper::Response<Incoming>) -> Exit {
    let status = answer.status();
    let bytes = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
    let mut what = text("detail");
    if what.is_empty() {
        what = format!("the server answered {status}");
    }
    for candidate in value.get("candidates").and_then(|list| list.as_array()).into_iter().flatten() {
        what.push_str(&format!("\n  {}", candidate.as_str().unwrap_or_default()));
    }
    let code = match (status, text("code").as_str()) {
        // A name that means nothing is the command line's fault, as an option would be.
        (_, "ambiguous" | NO_PROJECT | "no-environment" | "no-service" | "no-such") | (StatusCode::BAD_REQUEST, _) => {
            USAGE
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => SURROUNDINGS,
        (status, _) if status.is_client_error() => CHANGE,
        _ => SURROUNDINGS,
    };
    let hint = text("hint");
    Exit { code, what, hint: (!hint.is_empty()).then_some(hint), kind: text("code") }
}

/// Text as one part of a path or query (RFC 3986 §2.1).
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_is_found_whatever_it_is_called() {
        let ours = |name: &str| format!("remote.{name}.url http://ann:key@host:8400/git/cafe.git\n");
        let other = "remote.origin.url https://github.com/acme/cafe.git\nremote.up.url git@host:git/cafe.git\n";
        let found = |lines: &str| choose(lines).map(|remote| (remote.name, remote.server, remote.project));
        let want = |name: &str| Some((name.into(), "http://host:8400".into(), "cafe".into()));
        assert_eq!(found(&format!("{other}{}", ours("slipway"))), want("slipway"));
        assert_eq!(found(&ours("origin")), want("origin"));
        assert_eq!(found(&format!("{other}{}", ours("prod"))), want("prod"));
        assert_eq!(found(&format!("{}{}", ours("a"), ours("b"))), None);
        assert_eq!(found(&format!("{}{}{}", ours("a"), ours("slipway"), ours("origin"))), want("slipway"));
        assert_eq!(found("remote.origin.url https://host/team/git/x/y.git\n"), None);
        assert_eq!(found(other), None);
    }
}
