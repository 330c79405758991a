//! Manifests, tags, lists and the clean-up.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use slipway_blobs::Digest;

use super::{IMAGE, Server, image, repository};
use crate::{FileIndex, Forgotten, Index, Published};

fn soon() -> SystemTime {
    SystemTime::now() + Duration::from_secs(1)
}

// R142
#[tokio::test]
async fn an_image_is_pushed_and_pulled_by_tag_and_digest_byte_for_byte() {
    let server = Server::start().await;
    let pushed = server.push("shop/api", "1f3c9ab-482", "layer").await;
    assert_eq!(pushed.status.as_u16(), 201);
    let digest = Digest::of(image("layer").as_bytes());
    assert_eq!(pushed.header("docker-content-digest"), digest.to_string());
    assert_eq!(pushed.header("location"), format!("/v2/shop/api/manifests/{digest}"));
    for reference in ["1f3c9ab-482".to_owned(), digest.to_string()] {
        let path = format!("/v2/shop/api/manifests/{reference}");
        let pulled = server.get(&path).await;
        assert_eq!(&pulled.body[..], image("layer").as_bytes());
        assert_eq!(pulled.header("content-type"), IMAGE);
        let head = server.send("HEAD", &path, &[], b"").await;
        assert_eq!((head.status.as_u16(), head.header("docker-content-digest")), (200, digest.to_string().as_str()));
        assert_eq!(head.header("content-length"), pulled.body.len().to_string());
    }
    assert_eq!(server.get("/v2/shop/api/manifests/other").await.code(), "MANIFEST_UNKNOWN");
}

// R125
#[tokio::test]
async fn a_tag_never_names_other_content() {
    let server = Server::start().await;
    assert_eq!(server.push("shop/api", "v1", "one").await.status.as_u16(), 201);
    assert_eq!(server.push("shop/api", "v1", "one").await.status.as_u16(), 201, "the same content is no change");
    let moved = server.push("shop/api", "v1", "two").await;
    assert_eq!((moved.status.as_u16(), moved.code().as_str()), (409, "TAG_INVALID"));
    let (one, two) = (Digest::of(image("one").as_bytes()), Digest::of(image("two").as_bytes()));
    assert_eq!(moved.json()["errors"][0]["detail"]["holds"], one.to_string());
    assert_eq!(
        moved.message(),
        format!("tag `v1` of `shop/api` names `{one}` and tags never change; push under a new tag")
    );
    assert_eq!(server.get("/v2/shop/api/manifests/v1").await.header("docker-content-digest"), one.to_string());
    assert_eq!(server.get(&format!("/v2/shop/api/manifests/{two}")).await.status.as_u16(), 404);
    assert_eq!(server.push("shop/web", "v1", "two").await.status.as_u16(), 201, "another repository has its own tags");
}

// R123
#[tokio::test]
async fn the_tag_latest_is_refused_with_a_hint() {
    let server = Server::start().await;
    for method in ["PUT", "GET"] {
        let reply = server.send(method, "/v2/shop/api/manifests/latest", &[("content-type", IMAGE)], b"{}").await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "TAG_INVALID"), "{method}");
        assert!(reply.message().contains("name a version"), "{}", reply.message());
    }
}

#[tokio::test]
async fn a_manifest_is_taken_only_with_all_its_parts_and_in_a_known_form() {
    let server = Server::start().await;
    let path = "/v2/shop/api/manifests/v1";
    let put = async |kind: &str, body: &str| {
        let reply = server.send("PUT", path, &[("content-type", kind)], body.as_bytes()).await;
        format!("{} {}", reply.status.as_u16(), reply.code())
    };
    assert_eq!(put(IMAGE, &image("absent")).await, "404 MANIFEST_BLOB_UNKNOWN");
    // What another repository has does not count.
    server.push_blob("shop/web", b"absent").await;
    server.push_blob("shop/api", b"{}").await;
    assert_eq!(put(IMAGE, &image("absent")).await, "404 MANIFEST_BLOB_UNKNOWN");
    server.push_blob("shop/api", b"absent").await;
    let size = image("absent").replace("\"size\":6", "\"size\":7");
    assert_eq!(put(IMAGE, &size).await, "400 MANIFEST_INVALID");
    assert_eq!(put("application/vnd.oci.image.index.v1+json", &image("absent")).await, "400 MANIFEST_INVALID");
    assert_eq!(put("text/plain", "{\"schemaVersion\":2}").await, "400 MANIFEST_INVALID");
    assert_eq!(put(IMAGE, "{\"schemaVersion\":1}").await, "400 MANIFEST_INVALID");
    assert_eq!(put(IMAGE, "no json").await, "400 MANIFEST_INVALID");
    assert_eq!(put(IMAGE, &" ".repeat(5 * 1024 * 1024)).await, "413 SIZE_INVALID");
    let other = format!("/v2/shop/api/manifests/{}", Digest::of(b"other"));
    let reply = server.send("PUT", &other, &[("content-type", IMAGE)], image("absent").as_bytes()).await;
    assert_eq!(reply.code(), "DIGEST_INVALID");
}

#[tokio::test]
async fn an_index_is_taken_when_its_images_are_there() {
    let server = Server::start().await;
    let kind = "application/vnd.oci.image.index.v1+json";
    let body = image("layer");
    let digest = Digest::of(body.as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": kind,
        "manifests": [{ "mediaType": IMAGE, "digest": digest, "size": body.len() }],
    });
    let index = index.to_string();
    let put =
        async || server.send("PUT", "/v2/shop/api/manifests/all", &[("content-type", kind)], index.as_bytes()).await;
    assert_eq!(put().await.code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(server.push("shop/api", &digest.to_string(), "layer").await.status.as_u16(), 201);
    assert_eq!(put().await.status.as_u16(), 201);
    let name = repository("shop/api");
    let whole = Digest::of(index.as_bytes());
    assert_eq!(server.registry.forget(&name, &digest).unwrap(), Forgotten::PartOf(whole));
    assert_eq!(server.registry.forget(&name, &whole).unwrap(), Forgotten::Gone);
    assert_eq!(server.registry.forget(&name, &digest).unwrap(), Forgotten::Gone);
}

#[tokio::test]
async fn lists_come_in_order_and_page_by_page() {
    let server = Server::start().await;
    for tag in ["c", "a", "b"] {
        assert_eq!(server.push("shop/api", tag, "layer").await.status.as_u16(), 201);
    }
    server.push("shop/web", "a", "layer").await;
    assert_eq!(server.get("/v2/shop/none/tags/list").await.code(), "NAME_UNKNOWN");
    let all = server.get("/v2/shop/api/tags/list").await;
    assert_eq!(all.json(), serde_json::json!({ "name": "shop/api", "tags": ["a", "b", "c"] }));
    assert_eq!(all.header("link"), "");
    let first = server.get("/v2/shop/api/tags/list?n=2").await;
    assert_eq!(first.json()["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(first.header("link"), "</v2/shop/api/tags/list?n=2&last=b>; rel=\"next\"");
    let rest = server.get("/v2/shop/api/tags/list?n=2&last=b").await;
    assert_eq!((rest.json()["tags"].clone(), rest.header("link")), (serde_json::json!(["c"]), ""));
    assert_eq!(server.get("/v2/shop/api/tags/list?n=0").await.json()["tags"], serde_json::json!([]));
    let catalog = server.get("/v2/_catalog?n=1").await;
    assert_eq!(catalog.json(), serde_json::json!({ "repositories": ["shop/api"] }));
    assert_eq!(catalog.header("link"), "</v2/_catalog?n=1&last=shop%2Fapi>; rel=\"next\"");
    let rest = server.get("/v2/_catalog?n=1&last=shop%2Fapi").await;
    assert_eq!(rest.json()["repositories"], serde_json::json!(["shop/web"]));
}

// R126 R146
#[tokio::test]
async fn the_pipeline_publishes_what_it_built_under_all_its_tags_or_none() {
    let server = Server::start().await;
    let (name, blobs) = (repository("shop/api"), &server.blobs);
    let tags = |all: [&str; 3]| all.map(|tag| tag.parse().unwrap());
    let store = |layer: &str| {
        let parts = [blobs.put_bytes("layer", layer.as_bytes()).unwrap(), blobs.put_bytes("config", b"{}").unwrap()];
        (blobs.put_bytes("manifest", image(layer).as_bytes()).unwrap(), parts)
    };
    let (one, _parts) = store("one");
    let publish = |digest: &Digest, all| server.registry.publish(&name, digest, &tags(all)).unwrap();
    let all = ["1f3c9ab-482", "1f3c9ab", "482"];
    assert_eq!(publish(&one.digest, all), Published::New);
    assert_eq!(publish(&one.digest, all), Published::Same);
    let (two, _parts) = store("two");
    let refused = Published::TagTaken { tag: "1f3c9ab".parse().unwrap(), holds: one.digest };
    assert_eq!(publish(&two.digest, ["1f3c9ab-483", "1f3c9ab", "483"]), refused);
    assert_eq!(server.registry.resolve(&name, &"1f3c9ab-483".parse().unwrap()).unwrap(), None);
    assert_eq!(server.get("/v2/shop/api/manifests/482").await.header("docker-content-digest"), one.digest.to_string());
    assert!(server.registry.publish(&name, &Digest::of(b"absent"), &[]).is_err());
}

// R143
#[tokio::test]
async fn a_clean_up_spares_images_pins_and_pushes_under_way() {
    let server = Server::start().await;
    server.push("shop/api", "v1", "one").await;
    server.push("shop/api", "v2", "two").await;
    let pushed = server.push_blob("shop/api", b"of a push under way").await;
    let name = repository("shop/api");
    let (one, two) = (Digest::of(image("one").as_bytes()), Digest::of(image("two").as_bytes()));
    assert_eq!(server.registry.forget(&name, &one).unwrap(), Forgotten::Gone);
    assert_eq!(server.registry.forget(&name, &two).unwrap(), Forgotten::Gone);
    let pinned = HashSet::from([two, Digest::of(b"two"), Digest::of(b"{}")]);
    let clean = |pinned: HashSet<Digest>| {
        let collected = server.registry.clean_up(|| Ok(pinned), Duration::ZERO, soon()).unwrap();
        collected.removed.into_iter().collect::<HashSet<_>>()
    };
    assert_eq!(clean(pinned), HashSet::from([one, Digest::of(b"one")]));
    assert!(server.blobs.has(&pushed));
    server.registry.expire(std::time::Instant::now() + Duration::from_secs(3700));
    assert!(clean(HashSet::new()).contains(&pushed));
    // The tag of a forgotten image is not given again (R125).
    assert_eq!(server.push("shop/api", "v1", "three").await.status.as_u16(), 409);
    assert_eq!(server.push("shop/api", "v1", "one").await.status.as_u16(), 201);
}

#[test]
fn the_index_survives_a_restart_and_serves_one_process() {
    let root = std::env::temp_dir().join(format!("slipway-index-{}", std::process::id()));
    let name = repository("shop/api");
    let record = crate::ManifestRecord {
        digest: Digest::of(b"manifest"),
        media_type: IMAGE.to_owned(),
        size_bytes: 8,
        references: vec![Digest::of(b"layer")],
    };
    let tag = "v1".parse().unwrap();
    let index = FileIndex::open(&root).unwrap();
    assert_eq!(index.publish(&name, &record, std::slice::from_ref(&tag)).unwrap(), Published::New);
    assert!(FileIndex::open(&root).unwrap_err().to_string().ends_with("is in use by another process"));
    drop(index);
    std::fs::write(root.join("shop/web.new"), b"half").unwrap();
    let index = FileIndex::open(&root).unwrap();
    assert_eq!(index.get_tag(&name, &tag).unwrap(), Some(record.digest));
    assert_eq!(index.get_manifest(&name, &record.digest).unwrap(), Some(record.clone()));
    assert_eq!(index.pins().unwrap(), HashSet::from([record.digest, Digest::of(b"layer")]));
    assert_eq!(index.repositories(None, 10).unwrap(), [name]);
    std::fs::remove_dir_all(root).unwrap();
}
