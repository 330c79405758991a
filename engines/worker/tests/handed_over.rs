//! What jobs promise, leave, and get from others.

use crate::support::*;
use slipway_model::Digest;
use slipway_model::job::ArtifactDef;
use std::collections::BTreeMap;

fn artifact(paths: &[&str]) -> ArtifactDef {
    ArtifactDef { paths: paths.iter().map(|path| (*path).to_owned()).collect(), keep_ms: 0 }
}

fn entries(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        let header = entry.header();
        let link = entry.link_name().unwrap().map_or(String::new(), |link| format!(" -> {}", link.display()));
        let (mode, path) = (header.mode().unwrap(), entry.path().unwrap().display().to_string());
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        format!("{mode:o} {path}{link}")
    };
    archive.entries().unwrap().map(entry).collect()
}

// R038
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_did_not_make_what_it_promised_has_failed() {
    let place = Place::new();
    let mut promises = job("mkdir dist; echo x > dist/api.tar");
    promises.produces = vec!["api/dist/*.tar".into()];
    assert_eq!(place.run_job(promises.clone()).await.said(), "passed");
    promises.produces = vec!["api/dist/*.tar".into(), "api/dist/*.zip".into()];
    let ran = place.run_job(promises).await;
    assert_eq!(ran.said(), "failed: job `api/test` promised `api/dist/*.zip` and did not make it");
    assert_eq!(ran.outcome.first_error, ["job `api/test` promised `api/dist/*.zip` and did not make it"]);
    let mut promises = job("mkdir dist");
    promises.artifacts.insert("dist".into(), artifact(&["api/dist/**"]));
    let ran = place.run_job(promises).await;
    assert_eq!(ran.said(), "failed: job `api/test` promised artifact `dist` (`api/dist/**`) and did not make it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_files_are_the_same_artifact_whenever_they_are_made() {
    let place = Place::new();
    place.write("api/dist/committed", "c");
    let mut packs = job(
        "cd dist; mkdir -p sub/empty; echo b > b; echo a > sub/a; chmod 700 b; ln -s /etc/shadow link; touch -d @$1 b; long=$(printf %0150d 7); echo l > $long",
    );
    packs.artifacts.insert("dist".into(), artifact(&["api/dist"]));
    packs.artifacts.insert("one".into(), artifact(&["**/a", "api/dist/b"]));
    let mut first = packs.clone();
    first.steps[0].run = packs.steps[0].run.replace("$1", "1000000000");
    packs.steps[0].run = packs.steps[0]
        .run
        .replace("$1", "1500000000")
        .replace("echo b > b; echo a > sub/a", "echo a > sub/a; umask 077; echo b > b");
    let (first, second) = (place.run_job(first).await, place.run_job(packs).await);
    assert_eq!((first.said().as_str(), second.said().as_str()), ("passed", "passed"), "{}", first.text());
    let digests = |ran: &Ran| ran.outcome.artifacts.iter().map(|artifact| artifact.digest.clone()).collect::<Vec<_>>();
    assert_eq!(digests(&first), digests(&second));
    let tar = place.get(&first.outcome.artifacts[0].digest);
    assert_eq!(first.outcome.artifacts[0].size_bytes, tar.len() as u64);
    let long = format!("644 api/dist/{:0150}", 7);
    let expected = [
        "755 api/dist",
        &long,
        "755 api/dist/b",
        "644 api/dist/committed",
        "777 api/dist/link -> /etc/shadow",
        "755 api/dist/sub",
        "644 api/dist/sub/a",
        "755 api/dist/sub/empty",
    ];
    assert_eq!(entries(&tar), expected);
    assert_eq!(entries(&place.get(&first.outcome.artifacts[1].digest)), ["755 api/dist/b", "644 api/dist/sub/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_and_artifacts_go_to_the_jobs_that_need_them() {
    let place = Place::new();
    let mut makes = job(
        "mkdir dist; echo '#!/bin/sh\necho it runs' > dist/tool; chmod +x dist/tool; printf 1.2.3 > $SLIPWAY_OUTPUTS/version",
    );
    makes.artifacts.insert("dist".into(), artifact(&["api/dist"]));
    let made = place.run_job(makes).await.outcome;
    assert_eq!(place.get(&made.outputs["version"]), b"1.2.3");
    let mut request = place.request(job("cat $SLIPWAY_INPUTS/package/version; echo; $SLIPWAY_ARTIFACTS/package/api/dist/tool; echo mine >> $SLIPWAY_ARTIFACTS/package/api/dist/tool"));
    request.outputs.insert("package".into(), made.outputs.clone());
    request.artifacts.insert("package".into(), made.artifacts.clone());
    let ran = place.run_request(request).await;
    assert_eq!((ran.said().as_str(), ran.text().as_str()), ("passed", "1.2.3\nit runs\n"));
    place.blobs().verify(&made.artifacts[0].digest.as_str().parse().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_there_is_named_with_its_job() {
    let place = Place::new();
    let gone = Digest::of(b"gone");
    let mut request = place.request(job("true"));
    request.outputs.insert("build".into(), BTreeMap::from([("version".into(), gone.clone())]));
    let ran = place.run_request(request).await;
    let expected =
        format!("lost: output `version` of job `build` is no longer in the content store ({gone}); run that job again");
    assert_eq!(ran.said(), expected);
    let mut request = place.request(job("true"));
    let artifact = slipway_model::job::Artifact { name: "dist".into(), digest: gone, size_bytes: 1 };
    request.artifacts.insert("build".into(), vec![artifact]);
    assert!(place.run_request(request).await.said().starts_with("lost: artifact `dist` of job `build` is no longer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_no_plain_small_file_is_refused() {
    let place = Place::new();
    for (script, expected) in [
        ("ln -s /etc/shadow $SLIPWAY_OUTPUTS/x", "output `x` of job `api/test` is not a plain file"),
        ("mkfifo $SLIPWAY_OUTPUTS/x", "output `x` of job `api/test` is not a plain file"),
        ("mkdir $SLIPWAY_OUTPUTS/x", "output `x` of job `api/test` is not a plain file"),
        (
            "echo 1 > \"$SLIPWAY_OUTPUTS/a b\"",
            "output `a b` of job `api/test`: a name has up to 100 letters, digits, `.`, `_` and `-`",
        ),
        ("head -c 2m /dev/zero > $SLIPWAY_OUTPUTS/x", "output `x` of job `api/test` is larger than 1 MiB"),
        ("for i in $(seq 101); do echo > $SLIPWAY_OUTPUTS/$i; done", "job `api/test` has more than 100 outputs"),
    ] {
        let ran = place.run(script).await;
        assert_eq!(ran.said(), format!("failed: {expected}"), "{script}");
    }
    let ran = place.run("mv $SLIPWAY_OUTPUTS /tmp/o; ln -s /etc $SLIPWAY_OUTPUTS").await;
    assert!(ran.outcome.outputs.is_empty(), "{:?}", ran.outcome.outputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_has_a_limit_and_leaves_nothing_half_done() {
    let place = Place::new();
    let mut options = place.options();
    options.limits.artifact_bytes = 1 << 20;
    let worker = slipway_worker::Worker::open(options).await.unwrap();
    let mut large = job("head -c 3m /dev/zero > big");
    large.artifacts.insert("big".into(), artifact(&["api/big"]));
    let ran = run_on(&worker, place.request(large)).await;
    assert_eq!(ran.said(), "failed: artifact `big` of job `api/test` is larger than 1 MiB");
    assert_eq!(std::fs::read_dir(place.data.join("blobs/tmp")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_leaves_what_it_made() {
    let place = Place::new();
    let mut fails = job("echo why > report; exit 1");
    fails.artifacts.insert("report".into(), artifact(&["api/report"]));
    fails.produces = vec!["api/never".into()];
    let ran = place.run_job(fails).await;
    assert_eq!(ran.said(), "failed: step `test` exited with 1");
    assert_eq!(entries(&place.get(&ran.outcome.artifacts[0].digest)), ["644 api/report"]);
}

#[test]
fn an_artifact_cannot_lead_out_of_its_folder() {
    let place = Place::new();
    let into = place.data.join("into");
    let tar = |path: &str, link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        header.set_size(0);
        header.set_entry_type(if link.is_some() { tar::EntryType::Symlink } else { tar::EntryType::Regular });
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        header
    };
    let pack = |headers: &[tar::Header]| {
        let mut builder = tar::Builder::new(Vec::new());
        headers.iter().for_each(|header| builder.append(header, std::io::empty()).unwrap());
        builder.into_inner().unwrap()
    };
    let outside = place.data.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let link = tar("link", Some(outside.to_str().unwrap()));
    for headers in [vec![tar("../outside/x", None)], vec![tar("/outside/x", None)], vec![link, tar("link/x", None)]] {
        let bytes = pack(&headers);
        assert!(slipway_worker::unpack(&bytes[..], &into).is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }
}
