//! `slipway release` and `slipway image`: what is stored and where it runs (R127, R161).

use crate::cli::Global;
use crate::client::find;
use crate::commands::ask::{path, print_json};
use crate::exit::{CHANGE, Done, Exit};
use clap::{Args, Subcommand};
use slipway_model::release::Release;
use slipway_model::view::Status;
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
    /// One release: image, tag, commit, build, configuration
    Show {
        /// `api@r41` or its id
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
    /// One image by tag or digest, or that of a running instance
    Show {
        /// A tag, digest, or instance id
        image: String,
    },
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

    fn find(&self, text: &str) -> Result<&Release, Exit> {
        let found =
            self.releases.iter().find(|release| release.title() == text || release.id.as_str().starts_with(text));
        found.ok_or_else(|| Exit::new(CHANGE, format!("there is no release `{text}`")).hint("slipway release ls"))
    }

    fn of_image(&self, text: &str) -> Result<&Release, Exit> {
        let instances = self
            .status
            .environments
            .iter()
            .flat_map(|environment| &environment.services)
            .flat_map(|lane| &lane.instances);
        let of_instance = instances.filter(|instance| instance.id == text).map(|instance| &instance.release).next();
        let found = self.releases.iter().rev().find(|release| {
            release.origin.tag == text
                || release.bundle.image.as_str().contains(text)
                || text.ends_with(&format!(":{}", release.origin.tag))
                || Some(&release.id) == of_instance
        });
        found.ok_or_else(|| Exit::new(CHANGE, format!("no release has image `{text}`")).hint("slipway image ls"))
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
        ReleaseAct::Show { release } => show(global, &stored, stored.find(release)?),
        ReleaseAct::Diff { from, to } => diff(global, stored.find(from)?, stored.find(to)?),
    }
}

/// `slipway image`.
pub async fn images(global: &Global, images: &Images) -> Done {
    let stored = stored(global).await?;
    match &images.act {
        ImageAct::Ls => {
            let mut by_image: BTreeMap<String, Vec<&Release>> = BTreeMap::new();
            for release in &stored.releases {
                by_image.entry(release.bundle.image.to_string()).or_default().push(release);
            }
            if global.json {
                let list: Vec<_> = by_image.iter().map(|(digest, releases)| serde_json::json!({ "digest": digest, "releases": releases.iter().map(|r| r.title()).collect::<Vec<_>>() })).collect();
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
        ImageAct::Show { image } => show(global, &stored, stored.of_image(image)?),
    }
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
