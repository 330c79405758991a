//! The OpenAPI document, made from the route table, so that it cannot lack a route.

use crate::routes::{OPEN, TABLE};
use axum::Json;
use serde_json::{Value, json};

/// `GET /api/v1/openapi.json`.
pub async fn document() -> Json<Value> {
    Json(build())
}

fn build() -> Value {
    let mut paths = serde_json::Map::new();
    for route in TABLE.iter().filter(|route| route.path.starts_with("/api/")) {
        let parameters: Vec<Value> = route
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        let security = if route.verb == OPEN { json!([]) } else { json!([{ "token": [] }]) };
        let operation = json!({
            "summary": route.what,
            "operationId": format!("{}{}", route.method.to_lowercase(), route.path.replace(['/', '{', '}', '.'], "_")),
            "parameters": parameters,
            "security": security,
            "responses": {
                "200": { "description": "as asked" },
                "default": {
                    "description": "why not",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
                }
            }
        });
        let entry = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        if let Some(entry) = entry.as_object_mut() {
            entry.insert(route.method.to_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Slipway", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Problem": {
                "type": "object",
                "required": ["status", "code", "detail"],
                "properties": {
                    "status": { "type": "integer" }, "code": { "type": "string" }, "detail": { "type": "string" },
                    "hint": { "type": "string" }, "candidates": { "type": "array", "items": { "type": "string" } }
                }
            } }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_route_is_in_the_document() {
        let document = build();
        for route in TABLE.iter().filter(|route| route.path.starts_with("/api/")) {
            assert!(document["paths"][route.path][route.method.to_lowercase()].is_object(), "{route:?}");
        }
    }
}
