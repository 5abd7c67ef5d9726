//! Reads bodies, paths and queries so that whatever is wrong becomes a problem that names the field.

use super::problem::Problem;
use crate::api::InvalidField;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::{Path as ErrorPath, Segment};
use std::fmt::Write as _;

/// Largest body taken.
const BODY_LIMIT: usize = 256 * 1024;
/// Most that is read of a body that is too large.
const THROWN_AWAY: usize = 8 * 1024 * 1024;
/// Nesting a body may have.
const MAX_DEPTH: usize = 64;

/// A JSON body.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let JsonText(body) = JsonText::from_request(request, state).await?;
        parse(&body).map(Self)
    }
}

/// A body that says it is JSON, unread.
pub struct JsonText(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "send the request as `content-type: application/json`",
            ));
        }
        let body = read(request.into_body()).await?;
        Ok(Self(body))
    }
}

/// A body of at most [`BODY_LIMIT`]. The rest of one that is too large is thrown away rather than left in the connection,
/// where it would keep the client from reading why it was refused.
async fn read(body: Body) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut length = 0;
    while length <= THROWN_AWAY
        && let Some(chunk) = chunks.next().await
    {
        let chunk = chunk.map_err(|error| broken(&error.to_string(), ""))?;
        length += chunk.len();
        if length <= BODY_LIMIT {
            bytes.extend_from_slice(&chunk);
        }
    }
    if length > BODY_LIMIT {
        return Err(Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Ok(bytes.freeze())
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    media_type.is_some_and(|media| media == "application/json" || media.ends_with("+json"))
}

fn broken(detail: &str, pointer: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed_json",
        format!("the body is no JSON: {detail}"),
    )
    .with_errors(vec![InvalidField::new(pointer, detail)])
}

/// Reads a JSON text; what is wrong with it is a problem that points there.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if depth(body) > MAX_DEPTH {
        return Err(broken(
            &format!("it is nested deeper than {MAX_DEPTH} levels"),
            "",
        ));
    }
    if has_nul(body) {
        return Err(broken("it has a NUL character in a string", ""));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let detail = error.inner().to_string();
        let pointer = pointer(error.path(), &detail);
        match error.inner().classify() {
            Category::Data => {
                let detail = without_position(&detail);
                Problem::from(InvalidField::new(pointer, detail))
            }
            Category::Syntax | Category::Eof | Category::Io => broken(&detail, &pointer),
        }
    })?;
    deserializer
        .end()
        .map_err(|error| broken(&error.to_string(), ""))?;
    Ok(value)
}

/// Whether a string holds a NUL, which no name may have and PostgreSQL cannot store: `\u0000`, its backslash not escaped.
fn has_nul(body: &[u8]) -> bool {
    let escapes = body.windows(6).enumerate();
    let mut nuls = escapes.filter(|(_, window)| window == b"\\u0000");
    nuls.any(|(at, _)| {
        let before = body[..at].iter().rev();
        before.take_while(|&&byte| byte == b'\\').count() % 2 == 0
    })
}

/// The deepest nesting of objects and arrays, strings left out.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in body {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The JSON pointer of an error's path. Unknown and missing fields are reported at their parent: their name, which the
/// message quotes, completes the pointer.
fn pointer(path: &ErrorPath, detail: &str) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                let _ = write!(pointer, "/{index}");
            }
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&escape(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let named = ["unknown field `", "missing field `"]
        .iter()
        .find_map(|prefix| detail.strip_prefix(prefix))
        .and_then(|rest| rest.split('`').next());
    if let Some(field) = named {
        let last = format!("/{}", escape(field));
        if !pointer.ends_with(&last) {
            pointer.push_str(&last);
        }
    }
    pointer
}

/// RFC 6901 escapes.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The message less its ` at line 1 column 2`, which only helps with broken syntax.
fn without_position(detail: &str) -> &str {
    detail
        .rfind(" at line ")
        .map_or(detail, |position| &detail[..position])
}

/// Path parameters.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Problem> {
        refuse_nul(parts.uri.path(), "invalid_path")?;
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|rejection: PathRejection| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_path",
                    rejection.body_text(),
                )
            })
    }
}

fn refuse_nul(text: &str, code: &'static str) -> Result<(), Problem> {
    if text.contains("%00") {
        let detail = "the address has a NUL character";
        return Err(Problem::new(StatusCode::BAD_REQUEST, code, detail));
    }
    Ok(())
}

/// Query parameters.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Problem> {
        refuse_nul(parts.uri.query().unwrap_or_default(), "invalid_query")?;
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection: QueryRejection| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_query",
                    rejection.body_text(),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::OptimizeRequest;

    fn problem(body: &str) -> (u16, String) {
        let problem = parse::<OptimizeRequest>(body.as_bytes()).unwrap_err();
        (problem.status, problem.errors[0].pointer.clone())
    }

    #[test]
    fn a_wrong_field_is_named_by_its_pointer() {
        let cases = [
            (r#"{"model": "a", "solver": "unipc", "nfe": 0}"#, "/nfe"),
            (r#"{"model": "a", "solver": "unipc", "nfe": -3}"#, "/nfe"),
            (
                r#"{"model": "a", "solver": "unipc", "nfe": 1000000000}"#,
                "/nfe",
            ),
            (r#"{"model": "a", "solver": "unipc", "nfe": 2.5}"#, "/nfe"),
            (r#"{"model": "a", "solver": "unipc", "nfe": "5"}"#, "/nfe"),
            (r#"{"model": "a", "solver": "runge", "nfe": 5}"#, "/solver"),
            (
                r#"{"model": "a", "solver": "unipc", "nfe": 5, "sedd": 1}"#,
                "/sedd",
            ),
            (r#"{"model": "a", "solver": "unipc"}"#, "/nfe"),
            (
                r#"{"model": {"noise": {"kind": "edm", "sigmamin": 1}}, "solver": "unipc", "nfe": 5}"#,
                "/model/noise/sigmamin",
            ),
            (
                r#"{"model": "a", "solver": {"name": "unipc", "order": "x"}, "nfe": 5}"#,
                "/solver/order",
            ),
            (
                r#"{"model": "a", "solver": "unipc", "nfe": 5, "bounds": {"t_min": [1]}}"#,
                "/bounds/t_min",
            ),
        ];
        for (body, pointer) in cases {
            assert_eq!(problem(body), (422, pointer.to_owned()), "{body}");
        }
    }

    #[test]
    fn broken_json_is_a_bad_request() {
        assert_eq!(
            problem(r#"{"model": "a", "nfe": NaN}"#),
            (400, "/nfe".to_owned())
        );
        assert_eq!(problem(r#"{"model": "#).0, 400);
        assert_eq!(problem(r#"{"model": "a", "p": 1e999}"#).0, 400);
        assert_eq!(problem(&"[".repeat(65)).0, 400);
        assert_eq!(problem(r#"{"model": "a\u0000"}"#).0, 400);
        assert_eq!(problem(r#"{"model": "a\\u0000"}"#).0, 422);
        assert_eq!(
            problem(r#"{"model":"a","solver":"unipc","nfe":5} x"#).0,
            400
        );
    }
}
