//! Lists of tags and repositories, page by page.
//!
//! In: `n` and `last`. Out: names in order, and the address of the next page if there is one.
//! Never: a repository that the asker may not read.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, LINK};
use http::request::Parts;
use serde_json::json;

use crate::auth::Action;
use crate::blob::built;
use crate::reply::Refusal;
use crate::route::{Answer, blocking, query};
use crate::{Registry, Repository};

struct Page {
    after: Option<String>,
    length: usize,
}

impl Page {
    fn read(parts: &Parts, length_max: usize) -> Result<Self, Box<Refusal>> {
        let mut query = query(parts)?;
        let length = match query.get("n").map(|n| n.parse::<usize>()) {
            None => length_max,
            Some(Ok(n)) => n.min(length_max),
            Some(Err(_)) => return Err(Refusal::bad("PAGINATION_NUMBER_INVALID", "`n` is not a number")),
        };
        let after = query.remove("last").filter(|last| !last.is_empty());
        Ok(Self { after, length })
    }

    /// Cuts the one that was read to see whether there is more.
    fn cut<T: ToString>(&self, names: &mut Vec<T>, address: &str) -> Option<String> {
        let has_more = names.len() > self.length;
        names.truncate(self.length);
        let last = names.last().filter(|_| has_more)?.to_string();
        // Names and tags have no character that an address would have to escape but the slash.
        let last = last.replace('/', "%2F");
        Some(format!("<{address}?n={}&last={last}>; rel=\"next\"", self.length))
    }
}

pub(crate) async fn tags(registry: &Registry, parts: &Parts, repository: Repository) -> Answer {
    let page = Page::read(parts, registry.inner.limits.page_max)?;
    let of = registry.clone();
    let name = repository.clone();
    let (mut tags, page) = blocking(move || {
        let listed = of.inner.index.list_tags(&name, page.after.as_deref(), page.length + 1);
        let tags = listed.map_err(Refusal::index)?;
        let unknown = || Refusal::not_found("NAME_UNKNOWN", format!("there is no repository `{name}`"));
        Ok((tags.ok_or_else(unknown)?, page))
    })
    .await?;
    let next = page.cut(&mut tags, &format!("/v2/{repository}/tags/list"));
    answer(json!({ "name": repository, "tags": tags }), next)
}

pub(crate) async fn catalog(registry: &Registry, parts: &Parts) -> Answer {
    let page = Page::read(parts, registry.inner.limits.page_max)?;
    let of = registry.clone();
    let (mut names, page) = blocking(move || {
        let listed = of.inner.index.repositories(page.after.as_deref(), page.length + 1);
        Ok((listed.map_err(Refusal::index)?, page))
    })
    .await?;
    let next = page.cut(&mut names, "/v2/_catalog");
    let may_read = |name: &Repository| registry.inner.authorize.allow(parts, Some(name), Action::Pull).is_ok();
    names.retain(may_read);
    answer(json!({ "repositories": names }), next)
}

fn answer(document: serde_json::Value, next: Option<String>) -> Answer {
    let mut response = Response::builder().header(CONTENT_TYPE, "application/json");
    if let Some(next) = next {
        response = response.header(LINK, next);
    }
    built(response, Body::from(document.to_string()))
}
