//! Builds what `/` is inside. In: the spec, a private mount namespace, still as its owner. Out: a finished root folder.
//! Never mounts anything of the host that the spec or the list below does not name.

use crate::error::{Doing, Failure};
use crate::mounts::{self, Inside, PLAIN, READ_ONLY, Tree, new_filesystem, open_folder, overlay, state_folder};
use crate::spec::{Bind, HOME, Network, Root, Spec, Stack, Workspace};
use crate::standing::Standing;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Programs and their data. A symbolic link of the host (merged `/usr`) stays one.
const SYSTEM_FOLDERS: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store"];
/// What programs need of `/etc`; nothing in it is private. `passwd`, `group`, `hosts` and `resolv.conf` are written anew.
const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "inputrc",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "login.defs",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pkcs11",
    "pki",
    "protocols",
    "python3",
    "rpc",
    "services",
    "shells",
    "ssl",
    "terminfo",
    "timezone",
    "xml",
];
/// Families of names in `/etc` that carry a version.
const ETC_PREFIXES: &[&str] = &["java-", "python3.", "perl", "maven", "php", "ruby"];
const PASSWD: &str = "root:x:0:0:root:/home/build:/bin/sh\nbuild:x:1000:1000:build:/home/build:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nbuild:x:1000:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
/// Small folders that live in memory, charged to the run.
const RUN_BYTES: &str = "16m";
const SHM_BYTES: &str = "256m";
const SKELETON_BYTES: &str = "16m";

/// What is needed to build a root.
pub struct Plan<'a> {
    /// The spec.
    pub spec: &'a Spec,
    /// Outside id of root inside.
    pub owner: u32,
    /// Who builds it.
    pub standing: &'a Standing,
    /// The user namespace of the sandbox, where mounts can show its ids.
    pub ids: Option<BorrowedFd<'a>>,
    /// The run's state folder.
    pub dir: BorrowedFd<'a>,
}

/// A finished root.
pub struct Built {
    /// Its folder.
    pub root: OwnedFd,
    /// Who the steps run as.
    pub user: super::user::User,
    /// What had to be done in a weaker way.
    pub notes: Vec<String>,
}

/// Builds the root. Afterwards the caller pivots into it.
pub fn build(plan: &Plan<'_>) -> Result<Built, Failure> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).doing("making mounts private")?;
    let scratch = scratch(plan)?;
    let mut work = Work { plan, lowers: 0, notes: Vec::new() };
    let root = match &plan.spec.root {
        Root::HostTools { .. } => work.host_root(&scratch)?,
        Root::Layers { lower } => work.image_root(lower)?,
    };
    let inside = Inside { root: root.as_fd(), owner: plan.owner };
    super::devices::add(&inside)?;
    if let Root::HostTools { tools, caches } = &plan.spec.root {
        work.host_tools(&inside, tools, caches)?;
    }
    work.names(&inside)?;
    let user = super::user::find(&inside, &plan.spec.user)?;
    plan.standing.check_user(&plan.spec.user, user.uid, user.gid)?;
    work.note_owner(&user);
    work.private_folders(&inside, &user)?;
    if let Some(workspace) = &plan.spec.workspace {
        work.writable_copy(&inside, workspace, "workspace")?;
    }
    for bind in &plan.spec.binds {
        work.bind(&inside, bind)?;
    }
    work.secrets(&inside, &user)?;
    if matches!(plan.spec.root, Root::HostTools { .. }) {
        crate::sys::mount_setattr(root.as_fd(), false, READ_ONLY, None).doing("making the root read-only")?;
    }
    let notes = work.notes;
    Ok(Built { root, user, notes })
}

/// A small folder in memory in which mounts are put together; current folder from here on.
fn scratch(plan: &Plan<'_>) -> Result<OwnedFd, Failure> {
    let target = state_folder(plan.dir, "mnt", 0o700, (0, 0))?;
    let tree = new_filesystem("tmpfs", &[("mode", "0755"), ("size", SKELETON_BYTES)], PLAIN).doing("mount of tmpfs")?;
    tree.attach(target.as_fd()).doing("mount of the scratch folder")?;
    rustix::process::fchdir(tree.0.as_fd()).doing("entering the scratch folder")?;
    Ok(tree.0)
}

struct Work<'a> {
    plan: &'a Plan<'a>,
    lowers: usize,
    notes: Vec<String>,
}

impl Work<'_> {
    fn host_root(&self, scratch: &OwnedFd) -> Result<OwnedFd, Failure> {
        let _ = scratch;
        let tree =
            new_filesystem("tmpfs", &[("mode", "0755"), ("size", SKELETON_BYTES)], PLAIN).doing("mount of tmpfs")?;
        mounts::own(tree.0.as_fd(), Path::new("."), self.plan.owner, self.plan.owner).doing("chown of the root")?;
        Self::place_root(&tree)?;
        Ok(tree.0)
    }

    fn image_root(&mut self, lower: &[PathBuf]) -> Result<OwnedFd, Failure> {
        let tree = self.overlay(lower, "root")?;
        Self::place_root(&tree)?;
        Ok(tree.0)
    }

    /// The root must be a mount of the tree that it is pivoted out of.
    fn place_root(tree: &Tree) -> Result<(), Failure> {
        std::fs::create_dir("root").doing("making of the root's place")?;
        let place = open_folder(Path::new("root")).doing("open of the root's place")?;
        tree.attach(place.as_fd()).doing("mount of the root")
    }

    /// What is told of an image whose program is not root, where its files cannot be given to whom the image says.
    fn note_owner(&mut self, user: &super::user::User) {
        let is_image = matches!(self.plan.spec.root, Root::Layers { .. });
        if is_image && !self.plan.standing.is_root() && user.uid != 0 {
            self.notes.push(format!(
                "all files of the image belong to root inside: user `{}` reads what everybody may read, and writes to \
                 /tmp, to folders open to all, and to what it makes itself",
                self.plan.spec.user
            ));
        }
    }

    /// Lower folders with their ids mapped, and a writable folder of this run on top.
    fn overlay(&mut self, lower: &[PathBuf], name: &str) -> Result<Tree, Failure> {
        let mut names = Vec::with_capacity(lower.len());
        for path in lower {
            let tree = Tree::of(path, false).doing_on("open of", path.display())?;
            tree.set(READ_ONLY, false, self.plan.ids).map_err(|e| {
                Failure::new(
                    format!("id mapping of `{}`", path.display()),
                    format!("{}; its file system must support idmapped mounts", crate::error::errno_text(&e)),
                )
            })?;
            let place = format!("l{}", self.lowers);
            self.lowers += 1;
            std::fs::create_dir(&place).doing("making of a layer's place")?;
            let target = open_folder(Path::new(&place)).doing("open of a layer's place")?;
            tree.attach(target.as_fd()).doing_on("mount of", path.display())?;
            names.push(place);
        }
        let owner = (self.plan.owner, self.plan.owner);
        state_folder(self.plan.dir, name, 0o700, (0, 0))?;
        let upper = state_folder(self.plan.dir, &format!("{name}/upper"), 0o755, owner)?;
        let work = state_folder(self.plan.dir, &format!("{name}/work"), 0o755, owner)?;
        let as_user = !self.plan.standing.is_root();
        overlay(&names, upper.as_fd(), work.as_fd(), as_user).doing_on("mount of the overlay for", name)
    }

    fn writable_copy(&mut self, inside: &Inside<'_>, copy: &Workspace, name: &str) -> Result<(), Failure> {
        let tree = self.overlay(std::slice::from_ref(&copy.lower), name)?;
        inside.attach(&tree, &copy.target)
    }

    fn host_tools(&mut self, inside: &Inside<'_>, tools: &[PathBuf], caches: &[Workspace]) -> Result<(), Failure> {
        for folder in SYSTEM_FOLDERS.iter().map(Path::new) {
            match (mounts::link_target(folder), folder.is_dir()) {
                (Some(target), _) => inside.link(&target, folder)?,
                (None, true) => inside.show(folder, folder, READ_ONLY, true)?,
                (None, false) => {}
            }
        }
        self.etc(inside)?;
        for folder in ["/var/lib", "/var/cache", "/var/log", "/srv", "/mnt", "/root"] {
            inside.folder(Path::new(folder))?;
        }
        inside.link(Path::new("/tmp"), Path::new("/var/tmp"))?;
        inside.link(Path::new("/run"), Path::new("/var/run"))?;
        for tool in tools {
            if !inside.show_mapped(tool, tool, READ_ONLY, self.plan.ids)? {
                self.notes.push(format!("`{}` is shown with unknown owners", tool.display()));
            }
        }
        // HOME comes first: caches lie in it.
        let home = state_folder(self.plan.dir, "home", 0o755, (self.plan.owner, self.plan.owner))?;
        self.own_folder(inside, &home, Path::new(HOME))?;
        for (n, cache) in caches.iter().enumerate() {
            self.writable_copy(inside, cache, &format!("cache{n}"))?;
        }
        Ok(())
    }

    fn etc(&self, inside: &Inside<'_>) -> Result<(), Failure> {
        let folder = inside.folder(Path::new("/etc"))?;
        let etc = Inside { root: folder.as_fd(), owner: self.plan.owner };
        let mut has_switch = false;
        for entry in std::fs::read_dir("/etc").doing("read of /etc")?.flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if !ETC.contains(&text.as_ref()) && !ETC_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
                continue;
            }
            has_switch |= text == "nsswitch.conf";
            let path = Path::new("/etc").join(&name);
            let kind = entry.file_type().doing_on("look at", path.display())?;
            if kind.is_symlink() {
                let target = mounts::link_target(&path).unwrap_or_default();
                etc.link(&target, Path::new(&name))?;
            } else {
                etc.show_new(&path, &name, kind.is_dir())?;
            }
        }
        etc.write(Path::new("passwd"), PASSWD.as_bytes(), 0o644)?;
        etc.write(Path::new("group"), GROUP.as_bytes(), 0o644)?;
        if !has_switch {
            etc.write(Path::new("nsswitch.conf"), NSSWITCH.as_bytes(), 0o644)?;
        }
        Ok(())
    }

    /// Host name, hosts and name servers.
    fn names(&self, inside: &Inside<'_>) -> Result<(), Failure> {
        let name = &self.plan.spec.hostname;
        let hosts = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 {name}\n");
        inside.write(Path::new("/etc/hosts"), hosts.as_bytes(), 0o644)?;
        inside.write(Path::new("/etc/hostname"), format!("{name}\n").as_bytes(), 0o644)?;
        let servers = match self.plan.spec.network {
            Network::None => Vec::new(),
            Network::Host => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
            Network::UserMode(Stack::Slirp4netns) => crate::stack::SLIRP_NAME_SERVER.as_bytes().to_vec(),
            Network::Outbound | Network::UserMode(Stack::Pasta) => crate::outbound::name_servers(),
        };
        inside.write(Path::new("/etc/resolv.conf"), &servers, 0o644)
    }

    /// `/tmp`, `/run` and HOME.
    fn private_folders(&self, inside: &Inside<'_>, user: &super::user::User) -> Result<(), Failure> {
        let owner = (self.plan.owner, self.plan.owner);
        match self.plan.spec.root {
            Root::HostTools { .. } => {
                let tmp = state_folder(self.plan.dir, "tmp", 0o1777, owner)?;
                self.own_folder(inside, &tmp, Path::new("/tmp"))?;
                let home = inside.folder(Path::new(HOME))?;
                let (uid, gid) = (self.plan.owner + user.uid, self.plan.owner + user.gid);
                mounts::own(home.as_fd(), Path::new("."), uid, gid).doing("chown of HOME")?;
            }
            Root::Layers { .. } => {
                let tmp = inside.folder(Path::new("/tmp"))?;
                let path = mounts::descriptor_path(tmp.as_fd());
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o1777)).doing("chmod of /tmp")?;
            }
        }
        let run = new_filesystem("tmpfs", &[("mode", "0755"), ("size", RUN_BYTES)], PLAIN).doing("mount of /run")?;
        mounts::own(run.0.as_fd(), Path::new("."), owner.0, owner.1).doing("chown of /run")?;
        inside.attach(&run, Path::new("/run"))?;
        let options = [("mode", "1777"), ("size", SHM_BYTES)];
        let shm = new_filesystem("tmpfs", &options, PLAIN).doing("mount of /dev/shm")?;
        inside.attach(&shm, Path::new("/dev/shm"))
    }

    /// A folder of this run's state, shown inside.
    fn own_folder(&self, inside: &Inside<'_>, folder: &OwnedFd, target: &Path) -> Result<(), Failure> {
        let tree = Tree::at(folder.as_fd(), Path::new(""), false).doing_on("open of", target.display())?;
        tree.set(PLAIN, false, None).doing_on("restricting of", target.display())?;
        inside.attach(&tree, target)
    }

    fn bind(&mut self, inside: &Inside<'_>, bind: &Bind) -> Result<(), Failure> {
        let attributes = if bind.read_only { READ_ONLY } else { PLAIN };
        if !inside.show_mapped(&bind.source, &bind.target, attributes, self.plan.ids)? {
            self.notes.push(format!("`{}` is shown with unknown owners", bind.target.display()));
        }
        Ok(())
    }

    /// Secrets lie in a tmpfs of their own: in no layer, on no disk of the run.
    fn secrets(&self, inside: &Inside<'_>, user: &super::user::User) -> Result<(), Failure> {
        if self.plan.spec.secrets.is_empty() {
            return Ok(());
        }
        let tree = new_filesystem("tmpfs", &[("mode", "0755"), ("size", "4m")], PLAIN | libc::MOUNT_ATTR_NOEXEC)
            .doing("mount of the secrets")?;
        let folder = Inside { root: tree.0.as_fd(), owner: self.plan.owner };
        let (uid, gid) = (self.plan.owner + user.uid, self.plan.owner + user.gid);
        for secret in &self.plan.spec.secrets {
            folder.write(Path::new(&secret.name), &secret.bytes.0, 0o400)?;
            mounts::own(tree.0.as_fd(), Path::new(&secret.name), uid, gid).doing_on("chown of secret", &secret.name)?;
        }
        tree.set(READ_ONLY | libc::MOUNT_ATTR_NOEXEC, false, None).doing("restricting of the secrets")?;
        inside.attach(&tree, &self.plan.spec.secrets_folder)
    }
}
