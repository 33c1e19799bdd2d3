//! The OpenAPI document: made from the same table that the routes are made of, with the shapes of
//! `shapes.json`.
//!
//! INVARIANT: what has no entry in the table is no route (but for what workers ask each other); `schemas/`
//! keeps the document, and a test compares. Another asks each route for a parameter that cannot be, and
//! compares what the handler says it takes.

use super::Shared;
use axum::Router;
use axum::routing::MethodRouter;
use serde_json::{Map, Value, json};

/// Shapes and parameters (JSON Schema 2020-12, as OpenAPI 3.1 takes it).
const SHAPES: &str = include_str!("shapes.json");

/// What a route answers where all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    /// A shape of `shapes.json`.
    Json(&'static str),
    /// The same, with 201 where it was made for whoever asks.
    Made(&'static str),
    /// The same, or a job that goes on, with 202.
    JsonOrJob(&'static str),
    /// Text.
    Text(&'static str),
    /// The bytes of a record.
    Bytes,
    /// Server-sent events.
    Events,
}

/// One route, as the document and the router take it.
pub(super) struct Route {
    method: &'static str,
    path: &'static str,
    /// The router's template, where a call is part of a segment.
    template: &'static str,
    summary: &'static str,
    /// Parameters of the query, by their names in `shapes.json`.
    takes: &'static [&'static str],
    body: Option<&'static str>,
    gives: Gives,
    handler: MethodRouter<Shared>,
}

impl Route {
    /// A question.
    pub(super) fn get(path: &'static str, summary: &'static str, handler: MethodRouter<Shared>) -> Self {
        let gives = Gives::Text("text/plain");
        Self { method: "get", path, template: path, summary, takes: &[], body: None, gives, handler }
    }

    /// A question with a body, or something to be done.
    pub(super) fn post(path: &'static str, summary: &'static str, handler: MethodRouter<Shared>) -> Self {
        Self { method: "post", ..Self::get(path, summary, handler) }
    }

    /// Something to be changed.
    pub(super) fn patch(path: &'static str, summary: &'static str, handler: MethodRouter<Shared>) -> Self {
        Self { method: "patch", ..Self::get(path, summary, handler) }
    }

    /// Something to be made, or changed to what is given.
    pub(super) fn put(path: &'static str, summary: &'static str, handler: MethodRouter<Shared>) -> Self {
        Self { method: "put", ..Self::get(path, summary, handler) }
    }

    /// Something to be ended.
    pub(super) fn delete(path: &'static str, summary: &'static str, handler: MethodRouter<Shared>) -> Self {
        Self { method: "delete", ..Self::get(path, summary, handler) }
    }

    /// How the router writes the path.
    pub(super) fn at(self, template: &'static str) -> Self {
        Self { template, ..self }
    }

    pub(super) fn takes(self, takes: &'static [&'static str]) -> Self {
        Self { takes, ..self }
    }

    pub(super) fn body(self, shape: &'static str) -> Self {
        Self { body: Some(shape), ..self }
    }

    pub(super) fn gives(self, gives: Gives) -> Self {
        Self { gives, ..self }
    }

    fn operation(&self) -> Value {
        let reference = |kind: &str, name: &str| json!({ "$ref": format!("#/components/{kind}/{name}") });
        let in_path = self.path.split(['{', '}']).skip(1).step_by(2);
        let parameters: Vec<Value> =
            in_path.chain(self.takes.iter().copied()).map(|name| reference("parameters", name)).collect();
        let content = match self.gives {
            Gives::Json(shape) | Gives::Made(shape) | Gives::JsonOrJob(shape) => {
                json!({ "application/json": { "schema": reference("schemas", shape) } })
            }
            Gives::Text(kind) => json!({ kind: { "schema": { "type": "string" } } }),
            Gives::Bytes => json!({ "application/octet-stream": {} }),
            Gives::Events => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
        };
        let problem = json!({ "application/problem+json": { "schema": reference("schemas", "Problem") } });
        let mut answers = json!({
            "200": { "description": "It", "content": content },
            "default": { "description": "Why not", "content": problem },
        });
        match self.gives {
            Gives::Made(_) => answers["201"] = answers["200"].clone(),
            Gives::JsonOrJob(_) => {
                let job = json!({ "application/json": { "schema": reference("schemas", "JobStarted") } });
                answers["202"] = json!({ "description": "A job that goes on", "content": job });
            }
            _ => {}
        }
        if self.path.ends_with("/state") {
            answers["304"] = json!({ "description": "The state that `If-None-Match` names" });
        }
        if self.path == "/readyz" || self.path == "/startupz" || self.path == "/livez" {
            answers["503"] = json!({ "description": "Not now", "content": answers["200"]["content"] });
        }
        let mut operation =
            json!({ "summary": self.summary, "parameters": parameters, "responses": answers });
        if let Some(shape) = self.body {
            let schema = json!({ "application/json": { "schema": reference("schemas", shape) } });
            operation["requestBody"] = json!({ "required": true, "content": schema });
        }
        operation
    }
}

/// The router of these routes.
pub(super) fn router(routes: Vec<Route>) -> Router<Shared> {
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.template, route.handler))
}

/// The document.
pub(super) fn document(routes: &[Route]) -> Value {
    let components: Value = serde_json::from_str(SHAPES).expect("a test reads the shapes");
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| Value::Object(Map::new()));
        path[route.method] = route.operation();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "snapfold",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Time travel for Kafka event topics",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:8080" }],
        "paths": paths,
        "components": components,
    })
}

/// The document as a text.
pub(super) fn text(routes: &[Route]) -> String {
    let text = serde_json::to_string_pretty(&document(routes)).expect("a document of ours can be written");
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{all_routes, router_for_tests};
    use std::collections::BTreeSet;

    const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/openapi.json");

    #[test]
    fn the_document_in_the_repository_is_the_one_that_the_routes_make() {
        let text = text(&all_routes());
        if std::env::var_os("SNAPFOLD_BLESS").is_some() {
            std::fs::write(KEPT, &text).expect("the document can be written");
        }
        let kept = std::fs::read_to_string(KEPT).expect("schemas/openapi.json is part of the repository");
        assert!(kept == text, "write it anew: SNAPFOLD_BLESS=1 cargo test --lib http::spec");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_shape_is_used() {
        let document = document(&all_routes());
        let text = document.to_string();
        let used: BTreeSet<&str> =
            text.split("\"#/components/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for path in &used {
            assert!(document.pointer(&format!("/components/{path}")).is_some(), "{path}");
        }
        for kind in ["schemas", "parameters"] {
            for name in document["components"][kind].as_object().expect("an object").keys() {
                assert!(used.contains(&*format!("{kind}/{name}")), "{kind}/{name} is used nowhere");
            }
        }
    }

    /// Goal: the document takes the parameters that handlers take. Method: each route is asked with one that
    /// no route has; what is refused names those that there are.
    #[tokio::test]
    async fn handlers_take_the_parameters_that_the_document_says() {
        let document = document(&all_routes());
        let router = router_for_tests();
        for route in all_routes() {
            let path =
                route.path.replace("{version}", "1").replace("{type}", "order").replace(['{', '}'], "");
            let request = axum::http::Request::builder().method(&*route.method.to_uppercase());
            let request =
                request.uri(format!("{path}?no=1")).body(axum::body::Body::empty()).expect("a request");
            let answer = tower::ServiceExt::oneshot(router.clone(), request).await.expect("it cannot fail");
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a short body");
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            assert_eq!(problem["code"], "bad-selector", "{path}: {problem}");
            let hint = problem["hint"].as_str().unwrap_or_default();
            let told: BTreeSet<&str> = hint.split('`').skip(1).step_by(2).collect();
            let name = |name: &&str| document["components"]["parameters"][*name]["name"].as_str();
            let documented: BTreeSet<&str> = route.takes.iter().filter_map(name).collect();
            assert_eq!(told, documented, "{path}: {hint}");
        }
    }
}
