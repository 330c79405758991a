//! Answers that are not what was asked for.
//!
//! In: what went wrong. Out: a status and the error document of the specification ("Error Codes").
//! Never: a path of this machine or an inner error in an answer; those travel as [`Failure`] in the
//! response's extensions, for the server's log.

use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use slipway_blobs::{BlobError, Digest};

use crate::auth::Challenge;
use crate::index::IndexError;
use crate::names::NameError;

/// Why a request failed that should not have. It is in the extensions of the response.
#[derive(Clone, Debug)]
pub struct Failure(pub Arc<dyn Error + Send + Sync>);

/// An answer with an error document.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Value,
    headers: HeaderMap,
    failure: Option<Failure>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            status,
            code,
            message: message.into(),
            detail: Value::Null,
            headers: HeaderMap::new(),
            failure: None,
        })
    }

    pub(crate) fn detail(mut self: Box<Self>, detail: Value) -> Box<Self> {
        self.detail = detail;
        self
    }

    pub(crate) fn header(mut self: Box<Self>, name: HeaderName, value: &str) -> Box<Self> {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(crate) fn challenge(challenge: Challenge) -> Box<Self> {
        match challenge {
            Challenge::Unauthenticated => Self::new(
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "authentication is required; use any user name and a token as password",
            )
            .header(WWW_AUTHENTICATE, "Basic realm=\"slipway\""),
            Challenge::Forbidden => Self::new(StatusCode::FORBIDDEN, "DENIED", "this token does not allow that"),
        }
    }

    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Box<Self> {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Box<Self> {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn blob_unknown(digest: &Digest) -> Box<Self> {
        let message = format!("blob `{digest}` is not in this repository");
        Self::not_found("BLOB_UNKNOWN", message).detail(json!({ "digest": digest }))
    }

    pub(crate) fn name(code: &'static str, error: NameError) -> Box<Self> {
        let message = format!("{}; {}", error.message, error.hint);
        Self::bad(code, message).detail(json!({ "hint": error.hint }))
    }

    pub(crate) fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Box<Self> {
        let mut refusal =
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry failed; its log says why");
        refusal.failure = Some(Failure(Arc::from(error.into())));
        refusal
    }

    pub(crate) fn index(error: IndexError) -> Box<Self> {
        Self::failed(error)
    }

    pub(crate) fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message });
        if !self.detail.is_null() {
            error["detail"] = self.detail;
        }
        let body = json!({ "errors": [error] }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        if let Some(failure) = self.failure {
            response.extensions_mut().insert(failure);
        }
        response
    }
}

impl From<BlobError> for Box<Refusal> {
    fn from(error: BlobError) -> Self {
        match &error {
            BlobError::Mismatch { expected, found, .. } => {
                let message = format!("the digest `{expected}` was announced, what came hashes to `{found}`");
                Refusal::bad("DIGEST_INVALID", message)
            }
            BlobError::DiskFull { free_bytes, .. } => {
                let message = format!("the registry's disk is full, {free_bytes} bytes are free");
                let mut refusal = Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", message);
                refusal.failure = Some(Failure(Arc::new(error)));
                refusal
            }
            BlobError::Missing { digest } => Refusal::blob_unknown(digest),
            BlobError::Damaged { .. } | BlobError::InUse { .. } | BlobError::TooLarge { .. } | BlobError::Io { .. } => {
                Refusal::failed(error)
            }
        }
    }
}
