//! The registry, as other tools use it.

use crate::repo::{Repo, file, service};
use crate::world::{Said, World, said};
use std::process::Command;

pub(super) fn skopeo(world: &World, arguments: &[&str]) -> Said {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments).current_dir(&world.dir);
    // Credentials come by a file, not by an argument.
    let auth = world.dir.join("auth.json");
    command.env("REGISTRY_AUTH_FILE", auth);
    said(&mut command)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Writes the credentials of the registry; its address.
pub(super) fn sign_in(world: &World) -> String {
    let host = world.url.trim_start_matches("http://").to_owned();
    let auth = base64(format!("kim:{}", world.token).as_bytes());
    std::fs::write(world.dir.join("auth.json"), format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"}}}}}}"))
        .unwrap();
    host
}

// R123 R125 R126 R142 R146
#[test]
fn images_go_in_and_out_by_skopeo_and_a_tag_never_names_other_content() {
    let world = World::start();
    let repo = Repo::web(&world, "images", 1);
    let commit = repo.commit("one");
    repo.push_main().says("LIVE");
    let host = sign_in(&world);
    let image = |tag: &str| format!("docker://{host}/images/web:{tag}");
    let first = format!("{}-1", &commit[..7]);
    let inspected = skopeo(&world, &["inspect", "--tls-verify=false", &image(&first)]).expect(0).json();
    let digest = repo.status()["changes"][0]["images"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(inspected["Digest"], digest.as_str());
    let from = ["copy", "--src-tls-verify=false"];
    skopeo(&world, &[from[0], from[1], &image(&first), "oci:copied:one"]).expect(0);
    let into = |tag: &str| skopeo(&world, &["copy", "--dest-tls-verify=false", "oci:copied:one", &image(tag)]);
    into("kept").expect(0);
    into("kept").expect(0);
    let refused = into("latest");
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("latest"), "{refused:?}");
    repo.behave("web", "version two");
    repo.push_main().says("LIVE");
    let second = format!("{}-2", &repo.head()[..7]);
    skopeo(&world, &[from[0], from[1], &image(&second), "oci:copied:one"]).expect(0);
    let refused = into("kept");
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("kept") || refused.err.contains("other content"), "{refused:?}");
    let still = skopeo(&world, &["inspect", "--tls-verify=false", &image("kept")]).expect(0).json();
    assert_eq!(still["Digest"], digest.as_str());
    std::fs::write(world.dir.join("auth.json"), "{\"auths\":{}}").unwrap();
    assert_ne!(skopeo(&world, &["inspect", "--tls-verify=false", &image("kept")]).code, 0);
}

/// A shell and what it needs of this machine, as files of the repository.
fn add_shell(repo: &Repo<'_>) {
    let needed = said(Command::new("ldd").arg("/bin/sh")).expect(0).out;
    let libraries = needed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in ["/bin/sh"].into_iter().chain(libraries) {
        let into = repo.root.join("web/root").join(file.trim_start_matches('/'));
        std::fs::create_dir_all(into.parent().unwrap()).unwrap();
        std::fs::copy(std::fs::canonicalize(file).unwrap(), into).unwrap();
    }
    let dockerfile = std::fs::read_to_string(repo.root.join("web/Dockerfile")).unwrap();
    repo.write("web/Dockerfile", &dockerfile.replace("FROM scratch\n", "FROM scratch\nCOPY root /\n"));
}

// R067
#[test]
fn a_job_runs_in_a_declared_image_of_the_registry_and_sees_nothing_of_the_machine() {
    let world = World::start();
    let repo = Repo::web(&world, "inside", 1);
    add_shell(&repo);
    let commit = repo.commit("one");
    repo.push_main().says("LIVE");
    let image = format!("inside/web:{}-1", &commit[..7]);
    let run =
        "read line < /behaviour; echo it says $line; test ! -e /etc/passwd; test -e behaviour && echo with the tree";
    let job = format!("      contained: {{ run: \"{run}\", image: \"{image}\", network: off }}\n");
    repo.write("slipway.yaml", &file(&[service("web", 1) + &job]));
    repo.write("web/behaviour", "version two\n");
    repo.commit("two");
    repo.push_main().says("contained web    passed").says("LIVE production web r2");
    let log = repo.slipway(&["logs", "web/contained"]).expect(0).out;
    assert!(log.contains("it says version one") && log.contains("with the tree"), "{log}");
    repo.write("slipway.yaml", &file(&[service("web", 1) + &job.replace(&image, "inside/web:never")]));
    repo.commit("three");
    repo.push_main().says("contained web    failed").says("inside/web:never").says("FAILED");
}
