//! Secrets: given as files, masked everywhere, in clear nowhere.

use crate::http::get;
use crate::machine::{pid_of_instance, until};
use crate::repo::{Repo, VERIFY};
use crate::world::World;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

const VALUE: &str = "tiger-7f3a9c-in-the-night";

fn set(repo: &Repo<'_>, arguments: &[&str], value: &str) {
    let mut command = repo.world.command(&repo.root, arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn holds(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holds(&path, text));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

// R517 R518
#[test]
fn a_secret_is_a_file_of_its_instance_and_in_clear_nowhere_else() {
    let world = World::start();
    let repo = Repo::web(&world, "hidden", 1);
    repo.write(
        "slipway.yaml",
        &format!(
            "services:\n  web:\n    path: web\n    port: 8080\n    health: /health\n    secrets: [DB_PASSWORD]\n    jobs:\n      \
             test: {{ run: ./test.sh, network: off, secrets: [API_TOKEN] }}\nenvironments:\n  production:\n    \
             verify: {{ {VERIFY} }}\n"
        ),
    );
    repo.write("web/behaviour", "version one\nprint DB_PASSWORD\n");
    repo.script("web/test.sh", "echo \"it is $(cat $SLIPWAY_SECRETS/API_TOKEN)\"; env | grep -c API_TOKEN || true");
    repo.commit("nothing yet [ci skip]");
    repo.push_main().says("SKIPPED");
    set(&repo, &["secret", "add", "API_TOKEN"], VALUE);
    repo.commit("one");
    let pushed = repo.push_main().says("WAITING production web r1").says("DB_PASSWORD");
    pushed.says("slipway secret add DB_PASSWORD --env production").not(VALUE);
    set(&repo, &["secret", "add", "DB_PASSWORD", "--env", "production"], VALUE);
    repo.until("it goes live", "web", |lane| lane["release"]["number"] == 1 && lane["phase"] == "succeeded");
    let address = repo.address("web");
    assert_eq!(get(&address, "/secret/DB_PASSWORD").unwrap().body, VALUE);
    assert_eq!(get(&address, "/env/DB_PASSWORD").unwrap().body, "");
    let job = repo.slipway(&["logs", "web/test"]).expect(0).out;
    assert!(job.contains("it is ****") || job.contains("it is ***"), "{job}");
    let service = until("its line is there", || {
        Some(repo.slipway(&["logs", "web"]).out).filter(|log| log.contains("the secret is"))
    });
    assert!(!job.contains(VALUE) && !service.contains(VALUE), "{job}{service}");
    let found = holds(&world.data(), VALUE);
    assert!(found.is_empty(), "in clear in {found:?}");
    let instance = repo.instances("web")[0].0.clone();
    let pid = pid_of_instance(&instance).unwrap();
    let environ = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(!environ.contains(VALUE));
    assert!(crate::machine::processes(VALUE).is_empty());
    let list = repo.slipway(&["secret", "ls"]).expect(0).out;
    assert!(list.contains("DB_PASSWORD") && !list.contains(VALUE), "{list}");
    assert!(!serde_json::to_string(&world.events()).unwrap().contains(VALUE));
}
