//! `slipway release` and `slipway image`: what is stored and where it runs (R127, R161).

use crate::cli::Global;
use crate::client::{encode, find};
use crate::commands::ask::{commitish, path, print_json};
use crate::commands::image_import;
use crate::exit::{CHANGE, Done, Exit};
use clap::{Args, Subcommand};
use slipway_model::release::Release;
use slipway_model::view::{ChangeView, Status};
use std::collections::BTreeMap;

/// Releases.
#[derive(Debug, Args)]
pub struct Releases {
    #[command(subcommand)]
    act: ReleaseAct,
}

#[derive(Debug, Subcommand)]
enum ReleaseAct {
    /// All releases and where they run
    Ls,
    /// One release, or those of a commit: image, tag, commit, build, configuration, where it runs
    Show {
        /// `api@r41`, its id, or a commit
        release: String,
    },
    /// What differs between two releases
    Diff {
        /// `api@r41` or its id
        from: String,
        /// `api@r42` or its id
        to: String,
    },
}

/// Images.
#[derive(Debug, Args)]
pub struct Images {
    #[command(subcommand)]
    act: ImageAct,
}

#[derive(Debug, Subcommand)]
enum ImageAct {
    /// Images of releases, their tags, who uses them
    Ls,
    /// One image by tag or digest, that of a running instance, or those of a commit
    Show {
        /// A tag, digest, instance id, or commit
        image: String,
    },
    /// Bring an image from elsewhere into the project's registry
    Import(image_import::Import),
    /// Remove what nothing refers to any more; what runs or can be returned to stays
    Gc,
}

struct Stored {
    releases: Vec<Release>,
    status: Status,
}

async fn stored(global: &Global) -> Result<Stored, Exit> {
    let client = find(global)?;
    Ok(Stored {
        releases: client.get(&path(&client, "releases").await?).await?,
        status: client.get(&path(&client, "status").await?).await?,
    })
}

impl Stored {
    fn runs_in(&self, release: &Release) -> Vec<String> {
        let lanes = self
            .status
            .environments
            .iter()
            .flat_map(|environment| environment.services.iter().map(move |lane| (environment, lane)));
        lanes
            .filter(|(_, lane)| lane.release.as_ref().is_some_and(|current| current.id == release.id))
            .map(|(environment, _)| environment.name.to_string())
            .collect()
    }

    /// The newest release of a service.
    fn newest_of(&self, service: &str) -> Option<&Release> {
        let of = self.releases.iter().filter(|release| release.bundle.service.as_str() == service);
        of.max_by_key(|release| release.number)
    }

    fn named(&self, text: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.title() == text || release.id.as_str().starts_with(text))
    }

    fn find(&self, text: &str) -> Result<&Release, Exit> {
        let missing = || Exit::new(CHANGE, format!("there is no release `{text}`")).hint("slipway release ls");
        self.named(text).ok_or_else(missing)
    }

    fn of_image(&self, text: &str) -> Option<&Release> {
        let instances = self
            .status
            .environments
            .iter()
            .flat_map(|environment| &environment.services)
            .flat_map(|lane| &lane.instances);
        let of_instance = instances.filter(|instance| instance.id == text).map(|instance| &instance.release).next();
        self.releases.iter().rev().find(|release| {
            release.origin.tag == text
                || release.bundle.image.as_str().contains(text)
                || text.ends_with(&format!(":{}", release.origin.tag))
                || Some(&release.id) == of_instance
        })
    }

    /// What a commit was released as: a revert has the release of what it goes back to (R127).
    async fn of_commit(&self, global: &Global, text: &str) -> Vec<&Release> {
        let Ok(client) = find(global) else { return Vec::new() };
        let Ok(path) = path(&client, &format!("changes/{}", encode(&commitish(text)))).await else { return Vec::new() };
        let Ok(change) = client.get::<ChangeView>(&path).await else { return Vec::new() };
        let of_change = |release: &&Release| change.releases.iter().any(|known| known.id == release.id);
        self.releases.iter().filter(of_change).collect()
    }
}

/// `slipway release`.
pub async fn releases(global: &Global, releases: &Releases) -> Done {
    let stored = stored(global).await?;
    match &releases.act {
        ReleaseAct::Ls if global.json => print_json(&stored.releases),
        ReleaseAct::Ls => {
            for release in &stored.releases {
                let runs = stored.runs_in(release);
                println!(
                    "{:<16} {}  {}  {}  {}",
                    release.title(),
                    release.id,
                    release.origin.commit.short(),
                    release.origin.tag,
                    if runs.is_empty() { "-".into() } else { runs.join(", ") }
                );
            }
            Ok(())
        }
        ReleaseAct::Show { release } => match stored.named(release).or_else(|| stored.newest_of(release)) {
            Some(found) => show(global, &stored, found),
            None => show_all(global, &stored, release, "slipway release ls").await,
        },
        ReleaseAct::Diff { from, to } => diff(global, stored.find(from)?, stored.find(to)?),
    }
}

/// `slipway image`.
pub async fn images(global: &Global, images: &Images) -> Done {
    match &images.act {
        ImageAct::Ls => list_images(global, &stored(global).await?),
        ImageAct::Show { image } => {
            let stored = stored(global).await?;
            match stored.of_image(image) {
                Some(found) => show(global, &stored, found),
                None => show_all(global, &stored, image, "slipway image ls").await,
            }
        }
        ImageAct::Import(import) => image_import::import(global, import).await,
        ImageAct::Gc => gc(global).await,
    }
}

fn list_images(global: &Global, stored: &Stored) -> Done {
    let mut by_image: BTreeMap<String, Vec<&Release>> = BTreeMap::new();
    for release in &stored.releases {
        by_image.entry(release.bundle.image.to_string()).or_default().push(release);
    }
    if global.json {
        let titles = |releases: &[&Release]| releases.iter().map(|release| release.title()).collect::<Vec<_>>();
        let list: Vec<_> = by_image
            .iter()
            .map(|(digest, releases)| serde_json::json!({ "digest": digest, "releases": titles(releases) }))
            .collect();
        return print_json(&list);
    }
    for (digest, releases) in by_image {
        let Some(first) = releases.first() else { continue };
        let used: Vec<String> = releases.iter().flat_map(|release| stored.runs_in(release)).collect();
        println!(
            "{}/{}:{}  {digest}  {}",
            first.bundle.project,
            first.bundle.service,
            first.origin.tag,
            if used.is_empty() { "not running".into() } else { format!("runs in {}", used.join(", ")) }
        );
    }
    Ok(())
}

async fn gc(global: &Global) -> Done {
    let swept: serde_json::Value =
        find(global)?.send(http::Method::POST, "/api/v1/clean-up", &serde_json::Value::Null).await?;
    if global.json {
        return print_json(&swept);
    }
    let count = |key: &str| swept.get(key).and_then(serde_json::Value::as_u64).unwrap_or_default();
    println!(
        "{} removed ({} bytes), {} kept, {} young or in use",
        count("removed"),
        count("removed_bytes"),
        count("kept"),
        count("spared")
    );
    Ok(())
}

async fn show_all(global: &Global, stored: &Stored, text: &str, hint: &str) -> Done {
    let found = stored.of_commit(global, text).await;
    if found.is_empty() {
        return Err(Exit::new(CHANGE, format!("`{text}` has no release")).hint(hint));
    }
    if global.json {
        return print_json(&found);
    }
    found.into_iter().try_for_each(|release| show(global, stored, release))
}

fn show(global: &Global, stored: &Stored, release: &Release) -> Done {
    if global.json {
        return print_json(release);
    }
    println!("{} ({})", release.title(), release.id);
    println!("  image   {}/{}:{}", release.bundle.project, release.bundle.service, release.origin.tag);
    println!("  digest  {}", release.bundle.image);
    println!("  commit  {}", release.origin.commit);
    println!("  build   {}", release.origin.build);
    println!("  configuration");
    let mut flat = BTreeMap::new();
    flatten(&serde_json::to_value(&release.bundle.spec).unwrap_or_default(), String::new(), &mut flat);
    for (key, value) in &flat {
        println!("    {key}: {value}");
    }
    let runs = stored.runs_in(release);
    println!("  runs in {}", if runs.is_empty() { "nothing".into() } else { runs.join(", ") });
    let before = stored
        .releases
        .iter()
        .filter(|other| other.bundle.service == release.bundle.service && other.number < release.number)
        .max_by_key(|other| other.number);
    if let Some(before) = before {
        println!("  since r{}:", before.number);
        for line in differences(before, release) {
            println!("    {line}");
        }
    }
    Ok(())
}

fn diff(global: &Global, from: &Release, to: &Release) -> Done {
    let lines = differences(from, to);
    if global.json {
        return print_json(&lines);
    }
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

fn differences(from: &Release, to: &Release) -> Vec<String> {
    let mut lines = Vec::new();
    if from.bundle.image != to.bundle.image {
        lines.push(format!("image {} -> {}", from.origin.tag, to.origin.tag));
    }
    if from.origin.commit != to.origin.commit {
        lines.push(format!("commit {} -> {}", from.origin.commit.short(), to.origin.commit.short()));
    }
    let flat = |release: &Release| {
        let mut flat = BTreeMap::new();
        flatten(&serde_json::to_value(&release.bundle.spec).unwrap_or_default(), String::new(), &mut flat);
        flat
    };
    let (old, new) = (flat(from), flat(to));
    for (key, value) in &new {
        match old.get(key) {
            None => lines.push(format!("+ {key}: {value}")),
            Some(before) if before != value => lines.push(format!("~ {key}: {before} -> {value}")),
            Some(_) => {}
        }
    }
    lines.extend(old.keys().filter(|key| !new.contains_key(*key)).map(|key| format!("- {key}")));
    lines
}

fn flatten(value: &serde_json::Value, path: String, out: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                flatten(value, if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, out);
            }
        }
        other => drop(out.insert(path, other.to_string())),
    }
}
