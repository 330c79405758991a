//! RUN, with a runner that writes into the upper folder what a command would.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use super::build::OneBase;
use super::unpack::{FILE, FOLDER, LINK, archive, image};
use super::{Scratch, entries_in, listing};
use crate::{
    BuildError, BuildRequest, Built, FileCache, KeptLayers, Owners, Ran, RunFailure, RunStep, RunsSteps, Steps, build,
};

const FIRST: u32 = 0x4000_0000;

/// Does to the upper folder what a test says.
struct Fake<'a> {
    act: &'a (dyn Fn(&RunStep<'_>, &Path) -> Result<(), RunFailure> + Send + Sync),
    /// What it was asked for.
    seen: Mutex<Vec<String>>,
}

impl RunsSteps for Fake<'_> {
    fn run(&self, step: &RunStep<'_>) -> Result<Ran, RunFailure> {
        let upper = step.scratch.join("upper");
        fs::create_dir(&upper).unwrap();
        let gone = Gone(upper.clone());
        let environment: BTreeMap<_, _> = step.environment.iter().cloned().collect();
        let RunStep { arguments, folder, user, network, .. } = step;
        let text = format!("{arguments:?} {environment:?} in {folder} as `{user}`, network {network}");
        self.seen.lock().unwrap().push(text);
        (self.act)(step, &upper)?;
        own(&upper);
        Ok(Ran {
            upper,
            owners: Owners { first_user: FIRST, first_group: FIRST, count: 65_536 },
            guard: Box::new(gone),
        })
    }
}

struct Gone(std::path::PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Shifts owners as a sandbox has them.
fn own(path: &Path) {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.uid() < FIRST {
        let mode = metadata.permissions();
        lchown(path, Some(FIRST + metadata.uid()), Some(FIRST + metadata.gid())).unwrap();
        if !metadata.is_symlink() {
            fs::set_permissions(path, mode).unwrap(); // a change of owner takes set-user-id away
        }
    }
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| own(&entry.unwrap().path()));
    }
}

struct Bench {
    scratch: Scratch,
    cache: FileCache,
    layers: KeptLayers,
    base: OneBase,
}

impl Bench {
    /// `shop/base:1` has a shell, a user and some files.
    fn new() -> Self {
        let scratch = Scratch::new();
        let layer = archive(&[
            (FOLDER, "bin", ""),
            (FILE, "bin/sh", "shell"),
            (FOLDER, "etc", ""),
            (FILE, "etc/hosts", "of the image"),
            (FILE, "etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:5:6::/home/app:/bin/sh\n"),
            (FOLDER, "lib", ""),
            (FILE, "lib/old", "old"),
            (LINK, "lib/link", "old"),
        ]);
        let base = OneBase(image(&scratch.blobs(), &[layer]));
        let cache = FileCache::new(scratch.0.join("cache"));
        let layers = KeptLayers::new(scratch.0.join("layers"), 1 << 30);
        Self { scratch, cache, layers, base }
    }

    fn request(&self, dockerfile: &str) -> BuildRequest {
        self.scratch.request(dockerfile)
    }

    /// Builds; and what ran, in its order.
    fn build_as(
        &self,
        project: &str,
        request: &BuildRequest,
        act: &(dyn Fn(&RunStep<'_>, &Path) -> Result<(), RunFailure> + Send + Sync),
    ) -> (Result<Built, BuildError>, Vec<String>) {
        let fake = Fake { act, seen: Mutex::default() };
        let steps = Steps { runner: &fake, layers: &self.layers, project };
        let built = build(request, &self.scratch.blobs(), &self.base, &self.cache, Some(steps));
        (built, fake.seen.into_inner().unwrap())
    }

    fn build(
        &self,
        dockerfile: &str,
        act: &(dyn Fn(&RunStep<'_>, &Path) -> Result<(), RunFailure> + Send + Sync),
    ) -> (Built, Vec<String>) {
        let (built, seen) = self.build_as("shop", &self.request(dockerfile), act);
        (built.unwrap(), seen)
    }

    fn top(&self, built: &Built) -> Vec<String> {
        listing(&self.scratch.blobs(), &built.layers.last().unwrap().digest)
    }
}

fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
}

fn folder(path: &Path, mode: u32) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn write(path: &Path, text: &str, mode: u32, owner: (u32, u32)) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    lchown(path, Some(owner.0), Some(owner.1)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// One of everything that a command can do.
fn everything(_: &RunStep<'_>, upper: &Path) -> Result<(), RunFailure> {
    write(&upper.join("lib/new"), "new", 0o4755, (5, 6));
    fs::hard_link(upper.join("lib/new"), upper.join("lib/same")).unwrap();
    symlink("/etc/shadow", upper.join("lib/out")).unwrap();
    whiteout(&upper.join("lib/old"));
    folder(&upper.join("opt/empty"), 0o700);
    folder(&upper.join("etc/conf"), 0o755);
    setxattr(upper.join("etc/conf"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    rustix::fs::mknodat(CWD, upper.join("opt/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    // What the sandbox itself puts there.
    for name in ["hosts", "hostname", "resolv.conf"] {
        write(&upper.join("etc").join(name), "of the sandbox", 0o644, (0, 0));
    }
    for name in ["dev", "proc", "run", "sys"] {
        folder(&upper.join(name), 0o755);
    }
    folder(&upper.join("tmp"), 0o1777);
    Ok(())
}

#[test]
fn what_a_command_changed_becomes_a_layer_and_nothing_that_the_sandbox_put_there() {
    let bench = Bench::new();
    let (built, _) = bench.build("FROM shop/base:1\nRUN make\nCOPY --from=shop/base:1 /bin/sh /bin/x\n", &everything);
    assert_eq!(
        listing(&bench.scratch.blobs(), &built.layers[1].digest),
        [
            "d 755 0:0 etc/",
            "d 755 0:0 etc/conf/",
            "f 0 0:0 etc/conf/.wh..wh..opq = ",
            "d 755 0:0 lib/",
            "f 4755 5:6 lib/new = new",
            "f 0 0:0 lib/.wh.old = ",
            "l 777 0:0 lib/out -> /etc/shadow",
            "h 4755 5:6 lib/same -> lib/new",
            "d 755 0:0 opt/",
            "d 700 0:0 opt/empty/",
        ]
    );
    assert_eq!(built.layers.iter().map(|layer| layer.reused).collect::<Vec<_>>(), [true, false, false]);
    assert!(entries_in(&bench.scratch.0.join("scratch")).is_empty(), "nothing stays behind");
}

#[test]
fn the_next_instruction_sees_what_a_command_left() {
    let bench = Bench::new();
    let text = "FROM shop/base:1 AS made\nRUN make\nFROM scratch\nCOPY --from=made /lib /lib\n";
    let (built, _) = bench.build(text, &everything);
    assert_eq!(
        bench.top(&built),
        [
            "d 755 0:0 lib/",
            "l 640 11:12 lib/link -> old",
            "f 4755 5:6 lib/new = new",
            "l 777 0:0 lib/out -> /etc/shadow",
            "f 4755 5:6 lib/same = new",
        ]
    );
}

// R126 R551
#[test]
fn the_same_command_on_the_same_state_runs_once_for_each_project() {
    let bench = Bench::new();
    bench.scratch.file("a", "a");
    let text = "FROM shop/base:1\nARG LEVEL=1\nENV NAME=x\nCOPY a /a\nRUN make\nRUN more\n";
    let (first, ran) = bench.build(text, &everything_or_nothing);
    assert_eq!(ran.len(), 2);
    let (again, ran) = bench.build(text, &everything_or_nothing);
    assert!(ran.is_empty());
    assert_eq!(first.manifest, again.manifest);
    assert!(again.layers.iter().all(|layer| layer.reused));
    let (elsewhere, ran) = bench.build_as("other", &bench.request(text), &everything_or_nothing);
    assert_eq!((elsewhere.unwrap().manifest, ran.len()), (first.manifest, 2));

    // Whatever it can see makes it run again.
    let mut with_argument = bench.request(text);
    with_argument.arguments.insert("LEVEL".into(), "2".into());
    assert_eq!(bench.build_as("shop", &with_argument, &everything_or_nothing).1.len(), 2);
    for other in [
        text.replace("NAME=x", "NAME=y"),
        text.replace("COPY a /a", "COPY a /b"),
        text.replace("RUN make", "WORKDIR /lib\nRUN make"),
        text.replace("RUN make", "USER app\nRUN make"),
        text.replace("RUN make", "RUN --network=none make"),
        text.replace("RUN make", "RUN --mount=type=cache,target=/c make"),
        text.replace("RUN make", "RUN [\"make\"]"),
        text.replace("RUN make", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN make"),
    ] {
        let ran = bench.build(&other, &everything_or_nothing).1;
        assert!(ran.first().is_some_and(|first| first.contains("\"make\"")), "{other}");
    }
    let second = text.replace("RUN more", "RUN other");
    assert_eq!(bench.build(&second, &everything_or_nothing).1.len(), 1, "what stands before it is remembered");
    let label = text.replace("ENV NAME=x", "ENV NAME=x\nLABEL a=b\nEXPOSE 80\nCMD [\"/x\"]");
    assert!(bench.build(&label, &everything_or_nothing).1.is_empty(), "no command sees these");
}

/// `make` does everything, others do nothing.
fn everything_or_nothing(step: &RunStep<'_>, upper: &Path) -> Result<(), RunFailure> {
    if step.arguments.iter().any(|argument| argument == "make") { everything(step, upper) } else { Ok(()) }
}

#[test]
fn a_command_gets_the_stage_s_variables_folder_user_and_shell() {
    let bench = Bench::new();
    let text = "FROM shop/base:1\nARG X=arg\nARG B=arg\nENV B=env\nWORKDIR /w\nUSER app\nRUN echo $X\n\
                SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nUSER 0\nENV PATH=/p\nRUN --network=none true\n";
    let (_, ran) = bench.build(text, &|_, _| Ok(()));
    let path = "\"PATH\": \"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"";
    assert_eq!(
        ran,
        [
            format!(
                "[\"/bin/sh\", \"-c\", \"echo $X\"] {{\"A\": \"1\", \"B\": \"env\", \"HOME\": \"/home/app\", {path}, \"X\": \"arg\"}} \
                 in /w as `app`, network true"
            ),
            "[\"/bin/sh\", \"-e\", \"-c\", \"true\"] {\"A\": \"1\", \"B\": \"env\", \"HOME\": \"/root\", \"PATH\": \
             \"/p\", \"X\": \"arg\"} in /w as `0`, network false"
                .to_owned(),
        ]
    );
}

#[test]
fn layers_of_a_stage_that_is_only_copied_from_are_packed_when_a_command_needs_them() {
    let bench = Bench::new();
    bench.scratch.file("a", "a");
    bench.scratch.file("b", "b");
    let text = "FROM scratch AS one\nCOPY a /a\nRUN make\nCOPY b /b\nFROM scratch AS unused\nCOPY a /\nRUN unused\n\
                FROM scratch\nCOPY --from=one /b /b\n";
    let seen = Mutex::new(Vec::new());
    let (built, ran) = bench.build(text, &|step, _| {
        let files = step.layers.iter().map(|layer| entries_in(layer).join(" "));
        seen.lock().unwrap().extend(files);
        Ok(())
    });
    assert_eq!((ran.len(), built.layers.len()), (1, 1));
    assert_eq!(*seen.lock().unwrap(), ["a"]);
}

#[test]
fn a_command_that_fails_says_where_and_what_and_is_tried_again() {
    let bench = Bench::new();
    let fails = |_: &RunStep<'_>, _: &Path| -> Result<(), RunFailure> {
        Err(RunFailure::Failed { why: "exited with 3".into(), output: vec!["no such thing".into()] })
    };
    let request = bench.request("FROM shop/base:1\n  RUN make \\\n    all\n");
    for _ in 0..2 {
        let (built, ran) = bench.build_as("shop", &request, &fails);
        let error = built.unwrap_err();
        assert_eq!(error.to_string(), "2:3: `RUN make all` exited with 3");
        assert!(matches!(error, BuildError::RunFailed { output, .. } if output == ["no such thing"]));
        assert_eq!(ran.len(), 1);
    }
    assert!(entries_in(&bench.scratch.0.join("scratch")).is_empty());
}

#[test]
fn what_no_image_can_have_is_refused_where_it_was_made() {
    let bench = Bench::new();
    let check = |act: &(dyn Fn(&RunStep<'_>, &Path) -> Result<(), RunFailure> + Send + Sync), expected: &str| {
        let error = bench.build_as("shop", &bench.request("FROM shop/base:1\nRUN make\n"), act).0.unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        &|_, upper| {
            write(&upper.join("lib/.wh.old"), "", 0o644, (0, 0));
            Ok(())
        },
        "2:1: `RUN make` left `/lib/.wh.old`, which cannot be part of an image: a layer would take this name for a mark \
         of what is removed",
    );
    check(
        &|_, upper| {
            use std::os::unix::ffi::OsStrExt;
            write(&upper.join(std::ffi::OsStr::from_bytes(b"a\xff")), "", 0o644, (0, 0));
            Ok(())
        },
        "2:1: `RUN make` left `/a\u{fffd}`, which cannot be part of an image: its name is not UTF-8",
    );
    check(
        &|_, upper| {
            fs::write(upper.join("a"), "").unwrap();
            lchown(upper.join("a"), Some(FIRST + 70_000), Some(FIRST)).unwrap();
            Ok(())
        },
        "2:1: `RUN make` left `/a`, which cannot be part of an image: its owner 1073811824:1073741824 is nobody of the \
         sandbox",
    );
}

#[test]
fn a_stage_without_anything_in_it_and_a_builder_without_a_runner_run_nothing() {
    let bench = Bench::new();
    let (built, ran) = bench.build_as("shop", &bench.request("FROM scratch\nRUN make\n"), &|_, _| Ok(()));
    assert!(ran.is_empty());
    let said = built.unwrap_err().to_string();
    assert_eq!(said, "2:1: there is nothing in this stage that could run a command");
    assert!(bench.scratch.refusal("FROM scratch\nRUN make\n").starts_with("2:1: RUN is not possible here"));
}

#[test]
fn folders_above_a_cache_are_no_part_of_the_layer() {
    let bench = Bench::new();
    let text = "FROM shop/base:1\nRUN --mount=type=cache,target=/root/.cache/pip pip install\n";
    let (built, _) = bench.build(text, &|step, upper| {
        assert_eq!(
            (step.caches[0].id.as_str(), step.caches[0].target.as_str()),
            ("/root/.cache/pip", "/root/.cache/pip")
        );
        folder(&upper.join("root/.cache/pip"), 0o755);
        Ok(())
    });
    assert_eq!(bench.top(&built), [""; 0]);
}

#[test]
fn unpacked_layers_are_kept_up_to_a_limit_and_never_taken_from_who_uses_them() {
    let mut bench = Bench::new();
    let kept = bench.scratch.0.join("layers");
    let folders = || entries_in(&kept).into_iter().filter(|name| !name.contains('.')).count();
    let act = |step: &RunStep<'_>, _: &Path| -> Result<(), RunFailure> {
        assert!(step.layers.iter().all(|layer| layer.is_dir()));
        Ok(())
    };
    bench.build("FROM shop/base:1\nRUN a\nRUN b\n", &act);
    assert_eq!(folders(), 2);
    bench.layers.tidy();
    assert_eq!(folders(), 2);
    bench.layers = KeptLayers::new(&kept, 0);
    bench.build("FROM shop/base:1\nRUN c\n", &act);
    bench.layers.tidy();
    assert_eq!(folders(), 0);
    bench.build("FROM shop/base:1\nRUN d\n", &act);
}
