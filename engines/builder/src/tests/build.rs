//! Dockerfiles and the images that come of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use slipway_blobs::{BlobError, Blobs, Digest};

use super::{Scratch, build_plainly, entries_in, listing};
use crate::{BaseImages, BuildError, FileCache, Ignore, ImageReference, NoCache, ResolveError, Warning, build};

/// Knows one image, `shop/base:1`.
pub(super) struct OneBase(pub(super) Digest);

impl BaseImages for OneBase {
    fn resolve(&self, reference: &ImageReference) -> Result<Option<Digest>, ResolveError> {
        Ok((reference.to_string() == "shop/base:1").then_some(self.0))
    }
}

fn set_mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

// R142
#[test]
fn files_folders_and_links_come_into_a_layer_with_plain_owners_and_modes() {
    let scratch = Scratch::new();
    set_mode(&scratch.file("dist/api", "program"), 0o700);
    set_mode(&scratch.file("dist/conf/a.txt", "text"), 0o666);
    scratch.link("dist/current", "/etc/target");
    let built = scratch.build("FROM scratch\nCOPY dist /app\nENTRYPOINT [\"/app/api\"]\nEXPOSE 8080 53/udp\nUSER 7\n");
    let blobs = scratch.blobs();
    assert_eq!(
        listing(&blobs, &built.layers[0].digest),
        [
            "d 755 0:0 app/",
            "f 755 0:0 app/api = program",
            "d 755 0:0 app/conf/",
            "f 644 0:0 app/conf/a.txt = text",
            "l 777 0:0 app/current -> /etc/target",
        ]
    );
    assert_eq!(built.entrypoint, ["/app/api"]);
    assert_eq!(built.exposed_ports, ["53/udp", "8080/tcp"]);
    assert_eq!(built.user, "7");
    assert!(built.warnings.is_empty(), "{:?}", built.warnings);
    let manifest = String::from_utf8(blobs.read(&built.manifest, 10_000).unwrap()).unwrap();
    assert!(
        manifest
            .starts_with(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":"#)
    );
    assert_eq!(entries_in(&scratch.0.join("scratch")), [""; 0]);
}

// R126 R129 R551
#[test]
fn the_same_input_is_the_same_image_whoever_builds_it_wherever_and_whenever() {
    let dockerfile = "FROM scratch\nWORKDIR /srv\nCOPY . .\nENV A=1\nCMD [\"/srv/x\"]\n";
    let build_one = |order: &[&str], mode: u32, seconds: u64| {
        let scratch = Scratch::new();
        for path in order {
            let file = scratch.file(path, path);
            set_mode(&file, mode);
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        }
        scratch.file(".git/index", order[0]);
        let built = scratch.build(dockerfile);
        (built.manifest, built.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>())
    };
    let long = format!("{}/{}", "folder".repeat(20), "name".repeat(40));
    let first = build_one(&["a", "b/c", "z", &long], 0o644, 1);
    let second = build_one(&[&long, "z", "b/c", "a"], 0o600, 1_700_000_000);
    assert_eq!(first, second);
    let other = build_one(&["a", "b/c", "y", &long], 0o644, 1);
    assert_ne!(first.0, other.0);
    assert_eq!(first.1[0], other.1[0], "the layer of WORKDIR is the same");
}

#[test]
fn the_time_of_everything_can_be_given() {
    let scratch = Scratch::new();
    scratch.file("a", "a");
    let mut request = scratch.request("FROM scratch\nCOPY a /\n");
    let without = build_plainly(&request, &scratch.blobs()).unwrap();
    request.arguments.insert("SOURCE_DATE_EPOCH".into(), "86400".into());
    let with = build_plainly(&request, &scratch.blobs()).unwrap();
    assert_ne!(without.manifest, with.manifest);
    let config = String::from_utf8(scratch.blobs().read(&with.config, 10_000).unwrap()).unwrap();
    assert!(config.starts_with(r#"{"created":"1970-01-02T00:00:00Z""#), "{config}");
    request.arguments.insert("SOURCE_DATE_EPOCH".into(), "now".into());
    assert!(build_plainly(&request, &scratch.blobs()).is_err());
}

#[test]
fn destinations_follow_the_rules_of_docker() {
    let scratch = Scratch::new();
    scratch.file("a.txt", "a");
    scratch.file("b.txt", "b");
    scratch.file("dir/c", "c");
    let check = |copy: &str, expected: &[&str]| {
        let built = scratch.build(&format!("FROM scratch\nWORKDIR /w\n{copy}\n"));
        let lines = listing(&scratch.blobs(), &built.layers.last().unwrap().digest);
        let paths: Vec<&str> = lines.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
        assert_eq!(paths, expected, "{copy}");
    };
    check("COPY a.txt /x", &["x"]);
    check("COPY a.txt /x/", &["x/", "x/a.txt"]);
    check("COPY a.txt x", &["w/", "w/x"]);
    check("COPY a.txt .", &["w/", "w/a.txt"]);
    check("COPY a.txt /w", &["w/", "w/a.txt"]);
    check("COPY *.txt /x/", &["x/", "x/a.txt", "x/b.txt"]);
    check("COPY a.txt dir /x/", &["x/", "x/a.txt", "x/c"]);
    check("COPY dir /x", &["x/", "x/c"]);
    check("COPY [\"a.txt\", \"/with space\"]", &["with"]);
    check("COPY d?r/[a-c] /x", &["x"]);
}

#[test]
fn copying_what_is_not_there_or_not_allowed_is_refused_where_it_stands() {
    let scratch = Scratch::new();
    scratch.file("a.txt", "a");
    scratch.file("b.txt", "b");
    scratch.link("out", "/etc");
    scratch.link("up", "../..");
    scratch.link("in", "a.txt");
    let check = |copy: &str, expected: &str| {
        assert_eq!(scratch.refusal(&format!("FROM scratch\n{copy}\n")), expected, "{copy}");
    };
    check("COPY missing /", "2:6: there is no `missing` in the build context");
    check("COPY *.md /", "2:6: nothing in the build context matches `*.md`");
    check(
        "COPY ../secret /",
        "2:6: `../secret` leads out of the build context | copy from a folder that contains what is needed; a source has no `..`",
    );
    for path in ["out/passwd", "up/x", "out"] {
        check(
            &format!("COPY {path} /"),
            &format!(
                "2:6: `{path}` is a link that leads out of the build context | copy the file itself into the folder"
            ),
        );
    }
    check("COPY *.txt /x", "2:1: 2 things are copied, so `/x` has to be a folder | end it with a slash: `/x/`");
    check("COPY a.txt b.txt /x", "2:18: several sources are copied, so `/x` has to end with a slash");
    check("COPY --chmod=rwx a.txt /", "2:14: `rwx` is not an octal mode | write for example `--chmod=755`");
    check(
        "COPY --chown=app a.txt /",
        "2:14: user `app` is not in `/etc/passwd` of the image | use numbers, for example `--chown=1000:1000`",
    );
    check("COPY a.txt /x\nCOPY . /x", "3:1: `/x` would become a folder, but is a file in the image");
    // A link that stays inside is followed when it is named, and kept when it is found.
    let built = scratch.build("FROM scratch\nCOPY in /followed\n");
    assert_eq!(listing(&scratch.blobs(), &built.layers[0].digest), ["f 644 0:0 followed = a"]);
}

#[test]
fn a_pipe_in_the_context_is_refused_and_not_waited_for() {
    let scratch = Scratch::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let path = scratch.0.join("context/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(
        scratch.refusal("FROM scratch\nCOPY . /\n"),
        "2:6: `pipe` of the build context is neither a file nor a folder nor a link | leave it out with a line in `.dockerignore`"
    );
}

#[test]
fn what_dockerignore_leaves_out_is_not_there() {
    let scratch = Scratch::new();
    scratch.file("a.txt", "a");
    scratch.file("target/big", "b");
    scratch.file("docs/x", "x");
    scratch.file("docs/keep", "k");
    let mut request = scratch.request("FROM scratch\nCOPY . /\n");
    request.ignore = Ignore::parse("target\ndocs\n!docs/keep\n").unwrap();
    let built = build_plainly(&request, &scratch.blobs()).unwrap();
    assert_eq!(
        listing(&scratch.blobs(), &built.layers[0].digest),
        ["f 644 0:0 a.txt = a", "d 755 0:0 docs/", "f 644 0:0 docs/keep = k"]
    );
    request.dockerfile = crate::parse("FROM scratch\nCOPY target/big /\n").unwrap();
    let error = build_plainly(&request, &scratch.blobs()).unwrap_err();
    assert_eq!(error.to_string(), "2:6: there is no `target/big` in the build context");
}

#[test]
fn owners_and_modes_can_be_given_by_number_and_by_the_images_own_names() {
    let scratch = Scratch::new();
    scratch.file("etc/passwd", "root:x:0:0::/:\napp:x:41:42::/:\n");
    scratch.file("etc/group", "web:x:43:\n");
    scratch.file("f", "f");
    let check = |flags: &str, expected: &str| {
        let built = scratch.build(&format!("FROM scratch\nCOPY etc /etc\nCOPY {flags} f /f\n"));
        let lines = listing(&scratch.blobs(), &built.layers[1].digest);
        assert_eq!(lines, [format!("{expected} f = f")], "{flags}");
    };
    check("--chown=app", "f 644 41:42");
    check("--chown=app:web", "f 644 41:43");
    check("--chown=9", "f 644 9:9");
    check("--chown=9:8 --chmod=4750", "f 4750 9:8");
    check("--chown=root:root", "f 644 0:0");
}

#[test]
fn variables_are_replaced_where_docker_replaces_them() {
    let scratch = Scratch::new();
    scratch.file("v2/f", "f");
    let text = "ARG BASE=scratch\nARG V=1\nFROM $BASE\nARG V\nARG NAME=f\nENV P=/p Q=$P\nENV R=$P/$V\n\
                COPY v${V}/$NAME ${R}/\nWORKDIR $R\nUSER ${U:-9}\nEXPOSE ${PORT:-80}\nLABEL l=\"$NAME x\"\n\
                ENTRYPOINT [\"$R/f\"]\nCMD [\"b\"]\n";
    let mut request = scratch.request(text);
    request.arguments = BTreeMap::from([("V".into(), "2".into()), ("UNKNOWN".into(), "x".into())]);
    let built = build_plainly(&request, &scratch.blobs()).unwrap();
    assert_eq!(built.env, ["P=/p", "Q=", "R=/p/2"]);
    assert_eq!((built.user.as_str(), built.exposed_ports.as_slice()), ("9", ["80/tcp".to_owned()].as_slice()));
    assert_eq!(built.entrypoint, ["$R/f"]);
    let lines = listing(&scratch.blobs(), &built.layers[0].digest);
    assert_eq!(lines.last().unwrap(), "f 644 0:0 p/2/f = f");
    let told: Vec<String> = built.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "build argument `UNKNOWN` is given, but no ARG asks for it",
            "the image starts `$R/f`, which is not an executable file in it",
        ]
    );
}

// R117
#[test]
fn only_the_last_stage_is_published_and_its_build_tools_are_reported() {
    let scratch = Scratch::new();
    for tool in ["usr/bin/gcc-12", "usr/bin/app", "usr/local/bin/cargo", "share/make"] {
        set_mode(&scratch.file(&format!("root/{tool}"), tool), 0o755);
    }
    let stages = "FROM scratch AS tools\nCOPY root /\nFROM scratch AS unused\nCOPY missing /\nFROM scratch AS last\n\
                  COPY --from=tools /usr/bin/app /app\nCMD [\"/app\"]\n";
    let built = scratch.build(stages);
    assert_eq!(built.layers.len(), 1);
    assert_eq!(listing(&scratch.blobs(), &built.layers[0].digest), ["f 755 0:0 app = usr/bin/app"]);
    assert!(built.warnings.is_empty());
    // Nothing was packed for the other stages: layer, configuration and manifest are all there is.
    assert_eq!(scratch.blobs().list().unwrap().len(), 3);

    let mut request = scratch.request(stages);
    request.target = Some("tools".to_owned());
    let built = build_plainly(&request, &scratch.blobs()).unwrap();
    let tool = |name: &str, path: &str| Warning::BuildTool { name: name.into(), path: path.into() };
    assert_eq!(
        built.warnings,
        [Warning::NothingToRun, tool("gcc", "/usr/bin/gcc-12"), tool("cargo", "/usr/local/bin/cargo")]
    );
    request.target = Some("nowhere".to_owned());
    let error = build_plainly(&request, &scratch.blobs()).unwrap_err();
    assert_eq!(error.to_string(), "1:1: there is no stage `nowhere`");
}

#[test]
fn what_a_job_produced_is_copied_by_its_name() {
    let scratch = Scratch::new();
    let output = scratch.0.join("output");
    fs::create_dir_all(output.join("dist")).unwrap();
    fs::write(output.join("dist/api"), "made").unwrap();
    let mut request = scratch.request("FROM scratch\nCOPY --from=job.package dist/api /api\nCMD [\"/api\"]\n");
    let error = build_plainly(&request, &scratch.blobs()).unwrap_err();
    assert_eq!(error.to_string(), "2:25: there is nothing that a job `package` produced");
    request.jobs.insert("package".to_owned(), output);
    let built = build_plainly(&request, &scratch.blobs()).unwrap();
    assert_eq!(listing(&scratch.blobs(), &built.layers[0].digest), ["f 644 0:0 api = made"]);
}

#[test]
fn the_shell_form_needs_a_shell_in_the_image() {
    let scratch = Scratch::new();
    assert_eq!(
        scratch.refusal("FROM scratch\nENTRYPOINT /app --port 80\n"),
        "2:12: the shell form needs `/bin/sh`, which is not in the image | write it as a JSON list: `[\"/app\",\"--port\",\"80\"]`"
    );
    set_mode(&scratch.file("usr/bin/dash", "sh"), 0o755);
    scratch.link("bin", "usr/bin");
    scratch.link("usr/bin/sh", "dash");
    let built = scratch.build("FROM scratch\nCOPY . /\nENTRYPOINT /app --port 80\n");
    assert_eq!(built.entrypoint, ["/bin/sh", "-c", "/app --port 80"]);
}

#[test]
fn a_base_image_gives_its_layers_configuration_and_file_system() {
    let scratch = Scratch::new();
    set_mode(&scratch.file("base/usr/lib/app/run", "run"), 0o755);
    scratch.file("base/etc/passwd", "app:x:5:6::/:\n");
    scratch.link("base/lib", "usr/lib");
    scratch.file("new", "new");
    let base = scratch
        .build("FROM scratch\nCOPY --chown=3:3 base /\nENV A=1 B=2\nENTRYPOINT [\"/x\"]\nCMD [\"old\"]\nUSER app\n");
    let blobs = scratch.blobs();
    let text = "FROM shop/base:1\nENV B=3\nCOPY --chown=app new /lib/app/\nCOPY --from=shop/base:1 lib/app/run /run\nENTRYPOINT [\"/run\"]\n";
    let built = build(&scratch.request(text), &blobs, &OneBase(base.manifest), &NoCache, None).unwrap();
    assert_eq!(built.layers[0].digest, base.layers[0].digest);
    assert_eq!(built.layers.iter().map(|layer| layer.reused).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(
        listing(&blobs, &built.layers[1].digest),
        ["d 755 3:3 usr/", "d 755 3:3 usr/lib/", "d 755 3:3 usr/lib/app/", "f 644 5:6 usr/lib/app/new = new"],
        "the link `lib` is followed, and folders stay as they are"
    );
    assert_eq!(listing(&blobs, &built.layers[2].digest), ["f 755 3:3 run = run"]);
    assert_eq!(built.env, ["A=1", "B=3"]);
    assert_eq!((built.entrypoint, built.cmd, built.user), (vec!["/run".to_owned()], vec![], "app".to_owned()));

    let text = "FROM shop/base:2\n";
    let error = build(&scratch.request(text), &blobs, &OneBase(base.manifest), &NoCache, None).unwrap_err();
    assert_eq!(error.to_string(), "1:1: there is no image `shop/base:2` in this registry");
}

#[test]
fn the_whiteouts_of_a_base_image_are_obeyed_when_it_is_copied_from() {
    use super::unpack::{FILE, FOLDER, HARD, LINK, archive, image};
    let scratch = Scratch::new();
    let lower =
        archive(&[(FILE, "etc/gone", "1"), (FILE, "etc/stays", "2"), (FILE, "all/old", "3"), (FOLDER, "var", "")]);
    let upper = archive(&[
        (FILE, "etc/.wh.gone", ""),
        (FILE, "all/.wh..wh..opq", ""),
        (FILE, "all/new", "4"),
        (HARD, "all/same", "all/new"),
        (LINK, "var/link", "../all"),
    ]);
    let blobs = scratch.blobs();
    let base = OneBase(image(&blobs, &[lower, upper]));
    let text = "FROM scratch\nCOPY --from=shop/base:1 / /\nCOPY --from=shop/base:1 /var/link/n* /n\n";
    let built = build(&scratch.request(text), &blobs, &base, &NoCache, None).unwrap();
    assert_eq!(
        listing(&blobs, &built.layers[0].digest),
        [
            "d 755 0:0 all/",
            "f 640 11:12 all/new = 4",
            "f 640 11:12 all/same = 4",
            "d 755 0:0 etc/",
            "f 640 11:12 etc/stays = 2",
            "d 640 11:12 var/",
            "l 640 11:12 var/link -> ../all",
        ]
    );
    assert_eq!(listing(&blobs, &built.layers[1].digest), ["f 640 11:12 n = 4"]);
    assert!(entries_in(&scratch.0.join("scratch")).is_empty());
    // A whole folder comes with its owner and mode.
    let text = "FROM scratch\nCOPY --from=shop/base:1 /var /v\n";
    let built = build(&scratch.request(text), &blobs, &base, &NoCache, None).unwrap();
    assert_eq!(listing(&blobs, &built.layers[0].digest)[0], "d 640 11:12 v/");
}

#[test]
fn an_unchanged_layer_is_not_packed_again() {
    let scratch = Scratch::new();
    scratch.file("a/f", "a");
    let b = scratch.file("b/f", "b");
    let cache = FileCache::new(scratch.0.join("cache"));
    let blobs = scratch.blobs();
    let request = scratch.request("FROM scratch\nCOPY a /a\nCOPY b /b\nCMD [\"/a/f\"]\n");
    let build_one = || build(&request, &blobs, &crate::NoBaseImages, &cache, None).unwrap();
    let reused = |built: &crate::Built| built.layers.iter().map(|layer| layer.reused).collect::<Vec<_>>();
    let first = build_one();
    assert_eq!(reused(&first), [false, false]);
    let again = build_one();
    assert_eq!(reused(&again), [true, true]);
    assert_eq!(again.manifest, first.manifest);
    fs::write(b, "changed").unwrap();
    assert_eq!(reused(&build_one()), [true, false]);
    // A layer that was cleaned up is packed again, and is the same.
    let gone = again.layers[0].digest;
    drop((first, again));
    assert!(blobs.remove(&gone).unwrap());
    let packed = build_one();
    assert_eq!((reused(&packed)[0], packed.layers[0].digest), (false, gone));
}

#[test]
fn a_file_that_changes_between_hashing_and_packing_is_noticed() {
    use crate::folder::Folder;
    use crate::tree::{Content, Kind, Node};
    let scratch = Scratch::new();
    scratch.file("f", "after");
    let content = Content::Disk {
        folder: Folder::open(&scratch.0.join("context")).unwrap(),
        path: "f".to_owned(),
        digest: Digest::of(b"befor"),
    };
    let node = Node { kind: Kind::File { size_bytes: 5, content }, mode: 0o644, uid: 0, gid: 0 };
    let entries = BTreeMap::from([("f".to_owned(), node)]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let packed = crate::layer::pack(&scratch.blobs(), "layer", &entries, 0, &stop);
    assert!(matches!(packed, Err(BuildError::Changed { path }) if path == "f"));
    assert!(entries_in(&scratch.0.join("blobs/tmp")).is_empty());
}

#[test]
fn a_build_that_is_stopped_ends_and_leaves_nothing() {
    let scratch = Scratch::new();
    scratch.file("f", "f");
    let request = scratch.request("FROM scratch\nCOPY f /\n");
    request.stop.store(true, Ordering::Relaxed);
    assert!(matches!(build_plainly(&request, &scratch.blobs()), Err(BuildError::Stopped)));
    assert!(scratch.blobs().list().unwrap().is_empty());
    assert!(entries_in(&scratch.0.join("scratch")).is_empty());
}

#[test]
fn a_full_disk_is_named_with_the_layer_that_had_no_room() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let scratch = Scratch::new();
    let noise: String = (0..200_000u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    scratch.file("big", &noise);
    let disk = scratch.0.join("disk");
    fs::create_dir(&disk).unwrap();
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=1m")).unwrap();
    let blobs = Blobs::open(disk.join("blobs")).unwrap();
    let error = build_plainly(&scratch.request("FROM scratch\nCOPY big /\n"), &blobs).unwrap_err();
    let left = entries_in(&disk.join("blobs/tmp"));
    unmount(&disk, UnmountFlags::DETACH).unwrap();
    let BuildError::Store(BlobError::DiskFull { name, .. }) = error else { panic!("{error:?}") };
    assert_eq!(name, "layer of COPY big /");
    assert!(left.is_empty());
}
