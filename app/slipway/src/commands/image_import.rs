//! `slipway image import`: an image from elsewhere into the project's own registry.
//!
//! In: an OCI layout, what `docker save` wrote, or a root file system; a name with a tag. Out: the image under that name.
//! Never: a part whose digest is not its own; a tag that holds other content already.

use crate::cli::Global;
use crate::client::{Client, find};
use crate::commands::ask::print_json;
use crate::exit::{CHANGE, Done, Exit, SURROUNDINGS, USAGE, chain, surroundings};
use bytes::Bytes;
use clap::Args;
use http::{Method, StatusCode, header};
use slipway_builder::{ImportError, Imported, Part, Platform, Source};
use slipway_registry::{Repository, Tag};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Sent in one request.
const CHUNK_BYTES: usize = 8 << 20;
const OCTETS: &str = "application/octet-stream";

/// What to import, and as what.
#[derive(Debug, Args)]
pub struct Import {
    /// An OCI layout (folder or tar), what `docker save` wrote, or with `--rootfs` a tar of a root file system
    #[arg(value_name = "FILE-OR-FOLDER")]
    from: PathBuf,
    /// What it shall be called: SERVICE:TAG, or PROJECT/SERVICE:TAG
    #[arg(long, value_name = "NAME:TAG")]
    name: String,
    /// The file is a tar of a root file system, from `docker export` or `debootstrap`
    #[arg(long)]
    rootfs: bool,
}

/// `slipway image import`.
pub async fn import(global: &Global, import: &Import) -> Done {
    let client = find(global)?;
    let (repository, tag) = named(&client, &import.name).await?;
    let scratch = Scratch::new()?;
    let source = if import.rootfs { Source::RootFileSystem } else { Source::Image };
    let (from, place) = (import.from.clone(), scratch.0.clone());
    let task = tokio::task::spawn_blocking(move || slipway_builder::import(&from, source, &Platform::host(), &place));
    let image = task.await.map_err(surroundings)?.map_err(|error| refused(&import.from, &error))?;
    let reference = format!("{repository}:{tag}");
    let is_new = !is_there(&client, &repository, &tag, &image).await?;
    if is_new {
        for part in &image.parts {
            upload(&client, &repository, part).await?;
        }
        publish(&client, &repository, &tag, &image).await?;
    }
    let digest = image.manifest.digest.to_string();
    let size_bytes = image.parts.iter().map(|part| part.size_bytes).sum::<u64>() + image.manifest.size_bytes;
    if global.json {
        return print_json(&serde_json::json!({
            "image": reference, "digest": digest, "size_bytes": size_bytes, "new": is_new, "notes": image.notes,
        }));
    }
    for note in &image.notes {
        eprintln!("{note}");
    }
    let same = if is_new { "" } else { "  was there already" };
    println!("{reference}  {digest}  {}.{} MB{same}", size_bytes / 1_000_000, size_bytes % 1_000_000 / 100_000);
    if !global.quiet {
        eprintln!("a Dockerfile of `{}` begins with it: FROM {reference}", repository.project());
    }
    Ok(())
}

/// `base:1` of the project, or `shop/base:1`.
async fn named(client: &Client, name: &str) -> Result<(Repository, Tag), Exit> {
    let usage = |message: String, hint: &str| Exit::new(USAGE, message).hint(hint);
    let Some((path, tag)) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) else {
        return Err(usage(format!("`{name}` has no tag"), "name it SERVICE:TAG, for example `--name base:12.5`"));
    };
    let tag: Tag = tag.parse().map_err(|error: slipway_registry::NameError| usage(error.message, error.hint))?;
    let path = if path.contains('/') { path.to_owned() } else { format!("{}/{path}", client.project().await?) };
    let repository = path.parse::<Repository>();
    Ok((repository.map_err(|error| usage(error.message, error.hint))?, tag))
}

fn refused(from: &Path, error: &ImportError) -> Exit {
    let text = format!("`{}` is not imported: {}", from.display(), chain(error));
    match error {
        ImportError::Bad { hint, .. } => Exit::new(CHANGE, text).hint(hint),
        ImportError::Damaged(_) => Exit::new(CHANGE, text).hint("the file is damaged: save it once more"),
        ImportError::Io { .. } => Exit::new(CHANGE, text),
        ImportError::Store(_) => Exit::new(SURROUNDINGS, text)
            .hint("it is taken apart in the folder for temporary files: set TMPDIR to one with room"),
    }
}

/// Whether the tag names this image already; it is an error when it names another one.
async fn is_there(client: &Client, repository: &Repository, tag: &Tag, image: &Imported) -> Result<bool, Exit> {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = client.exchange(Method::HEAD, &path, None, Bytes::new()).await?;
    match answer.status {
        StatusCode::NOT_FOUND => Ok(false),
        StatusCode::OK => {
            let holds = answer.header("docker-content-digest");
            if holds == image.manifest.digest.to_string() {
                return Ok(true);
            }
            let text = format!("`{repository}:{tag}` is another image already, {holds}, and tags never change");
            Err(Exit::new(CHANGE, text).hint("choose another tag"))
        }
        _ => Err(answer.problem(&path)),
    }
}

async fn upload(client: &Client, repository: &Repository, part: &Part) -> Done {
    let known = format!("/v2/{repository}/blobs/{}", part.digest);
    if client.exchange(Method::HEAD, &known, None, Bytes::new()).await?.status == StatusCode::OK {
        return Ok(());
    }
    let begin = format!("/v2/{repository}/blobs/uploads/");
    let answer = client.exchange(Method::POST, &begin, None, Bytes::new()).await?;
    let mut place = answer.expect(StatusCode::ACCEPTED, &begin)?.header(header::LOCATION.as_str());
    let failed = |error: std::io::Error| Exit::new(SURROUNDINGS, format!("`{}`: {error}", part.file.display()));
    let mut file = std::fs::File::open(&part.file).map_err(failed)?;
    loop {
        let mut chunk = Vec::new();
        (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk).map_err(failed)?;
        if chunk.is_empty() {
            break;
        }
        let answer = client.exchange(Method::PATCH, &place, Some(OCTETS), Bytes::from(chunk)).await?;
        place = answer.expect(StatusCode::ACCEPTED, &place)?.header(header::LOCATION.as_str());
    }
    let end = format!("{place}?digest={}", part.digest);
    client.exchange(Method::PUT, &end, Some(OCTETS), Bytes::new()).await?.expect(StatusCode::CREATED, &end)?;
    Ok(())
}

async fn publish(client: &Client, repository: &Repository, tag: &Tag, image: &Imported) -> Done {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let bytes = std::fs::read(&image.manifest.file).map_err(surroundings)?;
    let answer = client.exchange(Method::PUT, &path, Some(&image.media_type), Bytes::from(bytes)).await?;
    answer.expect(StatusCode::CREATED, &path).map(drop)
}

/// A folder for one import, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Exit> {
        use std::os::unix::fs::DirBuilderExt;
        let unique = slipway_vault::random::<8>().map_err(surroundings)?;
        let folder = std::env::temp_dir().join(format!("slipway-import-{}", slipway_model::hex(&unique)));
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            Exit::new(SURROUNDINGS, format!("folder `{}`: {error}", folder.display()))
                .hint("set TMPDIR to a folder that can be written")
        })?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
