//! Kept checkouts: a few work trees per project that move from commit to commit.
//!
//! In: a project and a commit. Out: a lease on a tree that holds exactly that commit and stays
//! so until the lease is dropped. Leases of the same commit share a tree.
//! Never: moves a tree that somebody holds, or that a job of a former life may still use.
//!
//! Moving a tree by one small commit takes about a millisecond, however many files it has; where git must do it, 20 ms
//! at 5,000 files; a fresh one some hundred.
//! Trees lie at `TREES/PROJECT/N/tree`. A crash loses leases but not trees: at start every tree
//! of [`GitOptions::trees_in_use`](crate::GitOptions) counts as held until it is adopted and its lease dropped; every
//! other is checked file by file before its first use. A tree whose move was cut short has no
//! record and is made anew.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::GitError;
use crate::git::{Git, Limits};
use crate::names::{Oid, ProjectName};
use crate::objects::ObjectView;
use crate::tree_files::{Before, TreeFolder};

/// All kept checkouts.
pub(crate) struct Trees {
    root: PathBuf,
    limits: Limits,
    pools: Mutex<Pools>,
    /// A tree became free or ready.
    changed: Notify,
}

#[derive(Default)]
struct Pools {
    slots: HashMap<ProjectName, Vec<Slot>>,
    /// Counts leases, to know which tree was used least recently.
    tick: u64,
}

struct Slot {
    number: u32,
    content: Content,
    leases: u32,
    /// A job of a former life may still use it.
    inherited: bool,
    used: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Nothing is known: make it anew.
    Unknown,
    /// Left by a former life: good after comparing every file.
    Unchecked(Oid),
    Moving(Oid),
    Holds(Oid),
    /// On its way out; its number is free when the folder is gone.
    Removing,
}

enum Pick {
    Ready(u32),
    Move { number: u32, before: Before },
    Wait { trees: u32 },
}

/// The right to use a checkout. It does not change while any lease on it lives.
pub struct CheckoutLease {
    trees: Arc<Trees>,
    project: ProjectName,
    number: u32,
    commit: Oid,
    path: PathBuf,
}

impl CheckoutLease {
    /// The folder with the files. Never write into it: put an overlay over it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The commit that it holds.
    pub fn commit(&self) -> Oid {
        self.commit
    }
}

impl Drop for CheckoutLease {
    fn drop(&mut self) {
        let mut pools = self.trees.lock();
        if let Some(slot) = pools.slot(&self.project, self.number) {
            slot.leases = slot.leases.saturating_sub(1);
        }
        drop(pools);
        self.trees.changed.notify_waiters();
    }
}

impl Git {
    /// A checkout of a commit. Waits when all trees of the project are in use by other commits.
    ///
    /// # Errors
    /// [`GitError::TreesInUse`] after waiting; [`GitError::NoSuchProject`]; [`GitError::Failed`]
    /// when there is no such commit; [`GitError::File`].
    pub async fn lease(&self, project: &ProjectName, commit: Oid) -> Result<CheckoutLease, GitError> {
        let view = self.view(project)?;
        self.trees().lease(project, commit, &view).await
    }

    /// Begins to make the checkout of a commit that a push brings, before it is asked for: a first job then finds it.
    /// In pre-receive the commit is read from the quarantine of `view`. Nobody waits for it, nobody is told when it
    /// fails: whoever needs the checkout asks again and gets the error.
    pub fn make_ready(&self, project: &ProjectName, commit: Oid, view: &ObjectView) {
        let (trees, project, view) = (Arc::clone(self.trees()), project.clone(), view.clone());
        tokio::spawn(async move { drop(trees.lease(&project, commit, &view).await) });
    }

    /// Takes over a checkout that was named in [`GitOptions::trees_in_use`](crate::GitOptions); drop the lease when
    /// the job that uses it has ended.
    ///
    /// # Errors
    /// [`GitError::NotATree`] when it was not named, or is adopted already, or holds no commit.
    pub fn adopt_tree(&self, path: &Path) -> Result<CheckoutLease, GitError> {
        self.trees().adopt(path)
    }

    /// Removes the checkouts that nobody holds, and gives the number removed. They come back at
    /// the cost of a fresh checkout.
    ///
    /// # Errors
    /// [`GitError::File`].
    pub async fn remove_idle_trees(&self, project: &ProjectName) -> Result<u32, GitError> {
        self.trees().remove_idle(project).await
    }
}

impl Trees {
    pub(crate) fn open(root: &Path, in_use: &[PathBuf], limits: Limits) -> Result<Self, GitError> {
        fs::create_dir_all(root).map_err(GitError::file("create", root))?;
        let mut pools = Pools::default();
        for project in folders(root)? {
            let Ok(name) = ProjectName::parse(&project) else {
                continue;
            };
            let folder = root.join(&project);
            let numbers = folders(&folder)?;
            let slots = numbers.iter().filter_map(|number| number.parse().ok());
            let slots = slots.map(|number: u32| found_slot(&folder, number, in_use));
            pools.slots.insert(name, slots.collect());
        }
        Ok(Self { root: root.to_owned(), limits, pools: Mutex::new(pools), changed: Notify::new() })
    }

    fn folder(&self, project: &ProjectName, number: u32) -> TreeFolder {
        TreeFolder::new(self.root.join(project.as_str()).join(number.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lease(
        self: &Arc<Self>,
        project: &ProjectName,
        commit: Oid,
        view: &ObjectView,
    ) -> Result<CheckoutLease, GitError> {
        let deadline = tokio::time::Instant::now() + self.limits.tree_wait;
        loop {
            // Registered before looking, so that no change between the two is missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let pick = self.lock().pick(project, commit, self.limits.trees_per_project_max);
            match pick {
                Pick::Ready(number) => return Ok(self.lease_on(project, number, commit)),
                Pick::Move { number, before } => {
                    let moving = Moving { trees: self, project, number, commit, done: false };
                    return moving.finish(view, before).await;
                }
                Pick::Wait { trees } => {
                    if tokio::time::timeout_at(deadline, changed).await.is_err() {
                        return Err(GitError::TreesInUse {
                            project: project.to_string(),
                            trees,
                            waited_seconds: self.limits.tree_wait.as_secs(),
                        });
                    }
                }
            }
        }
    }

    /// The lease itself; the slot has been counted up already.
    fn lease_on(self: &Arc<Self>, project: &ProjectName, number: u32, commit: Oid) -> CheckoutLease {
        CheckoutLease {
            trees: Arc::clone(self),
            project: project.clone(),
            number,
            commit,
            path: self.folder(project, number).tree(),
        }
    }

    fn adopt(self: &Arc<Self>, path: &Path) -> Result<CheckoutLease, GitError> {
        let unknown = || GitError::NotATree(path.to_owned());
        let mut pools = self.lock();
        for (project, slots) in &mut pools.slots {
            for slot in slots.iter_mut().filter(|slot| slot.inherited) {
                if self.folder(project, slot.number).tree() != path {
                    continue;
                }
                let Content::Holds(commit) = slot.content else {
                    return Err(unknown());
                };
                slot.inherited = false;
                slot.leases += 1;
                return Ok(self.lease_on(project, slot.number, commit));
            }
        }
        Err(unknown())
    }

    /// Removes all trees of a project that is to be removed.
    pub(crate) async fn forget(&self, project: &ProjectName) -> Result<(), GitError> {
        let held = {
            let mut pools = self.lock();
            let slots = pools.slots.get(project);
            let held = slots.map_or(0, |slots| slots.iter().filter(|slot| !slot.is_idle()).count());
            if held == 0 {
                pools.slots.remove(project);
            }
            held
        };
        if held > 0 {
            return Err(GitError::TreesInUse {
                project: project.to_string(),
                trees: u32::try_from(held).unwrap_or(u32::MAX),
                waited_seconds: 0,
            });
        }
        TreeFolder::new(self.root.join(project.as_str())).remove().await
    }

    async fn remove_idle(&self, project: &ProjectName) -> Result<u32, GitError> {
        let idle: Vec<u32> = {
            let mut pools = self.lock();
            let Some(slots) = pools.slots.get_mut(project) else {
                return Ok(0);
            };
            let idle = slots.iter_mut().filter(|slot| slot.is_idle());
            idle.map(|slot| {
                slot.content = Content::Removing;
                slot.number
            })
            .collect()
        };
        for number in &idle {
            let removing = Removing { trees: self, project, number: *number };
            self.folder(project, *number).remove().await?;
            removing.done();
        }
        Ok(u32::try_from(idle.len()).unwrap_or(u32::MAX))
    }
}

/// A tree on its way to a commit; when dropped half-way, nothing is known about the tree.
struct Moving<'a> {
    trees: &'a Arc<Trees>,
    project: &'a ProjectName,
    number: u32,
    commit: Oid,
    done: bool,
}

impl Moving<'_> {
    async fn finish(mut self, view: &ObjectView, before: Before) -> Result<CheckoutLease, GitError> {
        let folder = self.trees.folder(self.project, self.number);
        folder.move_to(view, self.commit, before).await?;
        self.done = true;
        let lease = self.trees.lease_on(self.project, self.number, self.commit);
        Ok(lease)
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        let mut pools = self.trees.lock();
        if let Some(slot) = pools.slot(self.project, self.number) {
            if self.done {
                slot.content = Content::Holds(self.commit);
            } else {
                slot.content = Content::Unknown;
                slot.leases = 0;
            }
        }
        drop(pools);
        self.trees.changed.notify_waiters();
    }
}

/// A tree on its way out; when dropped half-way, nothing is known about it.
struct Removing<'a> {
    trees: &'a Trees,
    project: &'a ProjectName,
    number: u32,
}

impl Removing<'_> {
    fn done(self) {
        let mut pools = self.trees.lock();
        if let Some(slots) = pools.slots.get_mut(self.project) {
            slots.retain(|slot| slot.number != self.number);
        }
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        let mut pools = self.trees.lock();
        if let Some(slot) = pools.slot(self.project, self.number) {
            slot.content = Content::Unknown;
        }
        drop(pools);
        self.trees.changed.notify_waiters();
    }
}

impl Slot {
    fn is_idle(&self) -> bool {
        let settled = match self.content {
            Content::Unknown | Content::Unchecked(_) | Content::Holds(_) => true,
            Content::Moving(_) | Content::Removing => false,
        };
        settled && self.leases == 0 && !self.inherited
    }
}

impl Pools {
    fn slot(&mut self, project: &ProjectName, number: u32) -> Option<&mut Slot> {
        let slots = self.slots.get_mut(project)?;
        slots.iter_mut().find(|slot| slot.number == number)
    }

    /// Chooses a tree and counts the lease. An idle tree is rather moved than a new one made:
    /// that is ten times as fast and keeps the disk small.
    fn pick(&mut self, project: &ProjectName, commit: Oid, trees_max: u32) -> Pick {
        self.tick += 1;
        let tick = self.tick;
        let slots = self.slots.entry(project.clone()).or_default();
        let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.content == Content::Holds(commit)) {
            slot.leases += 1;
            slot.used = tick;
            return Pick::Ready(slot.number);
        }
        if slots.iter().any(|slot| slot.content == Content::Moving(commit)) {
            return Pick::Wait { trees: count };
        }
        let idle = slots.iter_mut().filter(|slot| slot.is_idle());
        if let Some(slot) = idle.min_by_key(|slot| slot.used) {
            let before = match slot.content {
                Content::Holds(commit) => Before::Holds(commit),
                Content::Unchecked(commit) => Before::Unchecked(commit),
                Content::Unknown | Content::Moving(_) | Content::Removing => Before::Unknown,
            };
            slot.content = Content::Moving(commit);
            slot.leases = 1;
            slot.used = tick;
            return Pick::Move { number: slot.number, before };
        }
        if count >= trees_max {
            return Pick::Wait { trees: count };
        }
        let taken: Vec<u32> = slots.iter().map(|slot| slot.number).collect();
        let number = (1..).find(|number| !taken.contains(number)).unwrap_or(1);
        slots.push(Slot { number, content: Content::Moving(commit), leases: 1, inherited: false, used: tick });
        Pick::Move { number, before: Before::Unknown }
    }
}

fn found_slot(folder: &Path, number: u32, in_use: &[PathBuf]) -> Slot {
    let tree = TreeFolder::new(folder.join(number.to_string()));
    let inherited = in_use.contains(&tree.tree());
    let content = match tree.recorded() {
        Some(commit) if inherited => Content::Holds(commit),
        Some(commit) => Content::Unchecked(commit),
        None => Content::Unknown,
    };
    Slot { number, content, leases: 0, inherited, used: 0 }
}

fn folders(of: &Path) -> Result<Vec<String>, GitError> {
    let entries = fs::read_dir(of).map_err(GitError::file("read", of))?;
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::{Before, Content, Pick, Pools};
    use crate::names::{Oid, ProjectName};

    fn commit(digit: &str) -> Oid {
        Oid::parse(&digit.repeat(40)).expect("an id")
    }

    fn pick(pools: &mut Pools, digit: &str) -> String {
        let project = ProjectName::parse("shop").expect("a name");
        match pools.pick(&project, commit(digit), 2) {
            Pick::Ready(number) => format!("ready {number}"),
            Pick::Move { number, before } => {
                let slot = pools.slot(&project, number).expect("the slot");
                slot.content = Content::Holds(commit(digit));
                format!("move {number}{}", if before == Before::Unknown { " anew" } else { "" })
            }
            Pick::Wait { trees } => format!("wait for one of {trees}"),
        }
    }

    fn release(pools: &mut Pools, number: u32) {
        let project = ProjectName::parse("shop").expect("a name");
        pools.slot(&project, number).expect("the slot").leases -= 1;
    }

    #[test]
    fn a_tree_in_use_is_shared_or_left_alone_and_an_idle_one_is_moved() {
        let mut pools = Pools::default();
        assert_eq!(pick(&mut pools, "a"), "move 1 anew");
        assert_eq!(pick(&mut pools, "a"), "ready 1");
        assert_eq!(pick(&mut pools, "b"), "move 2 anew");
        assert_eq!(pick(&mut pools, "c"), "wait for one of 2");
        release(&mut pools, 1);
        assert_eq!(pick(&mut pools, "c"), "wait for one of 2");
        release(&mut pools, 1);
        assert_eq!(pick(&mut pools, "c"), "move 1");
        release(&mut pools, 1);
        release(&mut pools, 2);
        // The least recently used one moves.
        assert_eq!(pick(&mut pools, "d"), "move 2");
    }

    #[test]
    fn an_inherited_tree_is_shared_but_never_moved() {
        let mut pools = Pools::default();
        assert_eq!(pick(&mut pools, "a"), "move 1 anew");
        release(&mut pools, 1);
        let project = ProjectName::parse("shop").expect("a name");
        pools.slot(&project, 1).expect("the slot").inherited = true;
        assert_eq!(pick(&mut pools, "b"), "move 2 anew");
        assert_eq!(pick(&mut pools, "c"), "wait for one of 2");
        assert_eq!(pick(&mut pools, "a"), "ready 1");
    }
}
