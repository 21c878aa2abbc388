//! What the paths that look into the store have in common: refusals as a sentence, and work that
//! may block.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{printable, store::StoreError};

/// The only body that a request which changes something may have.
const JSON: &str = "application/json";

/// A request that is not carried out, and why: a sentence as plain text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub status: StatusCode,
    pub why: String,
}

impl Refused {
    /// What was asked cannot be meant.
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why: why.into() }
    }

    /// What was asked for is not there.
    pub(super) fn missing(why: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, why: why.into() }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, why: error.to_string() }
    }
}

/// What was asked for, as JSON that a terminal may be shown.
#[derive(Debug)]
pub(super) struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(json) => ([(header::CONTENT_TYPE, JSON)], printable::page(&json).into_owned()).into_response(),
            Err(error) => {
                let why = format!("the answer cannot be written as JSON: {error}");
                Refused { status: StatusCode::INTERNAL_SERVER_ERROR, why }.into_response()
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, format!("{}\n", printable::line(&self.why))).into_response()
    }
}

/// Refuses a request that changes something and does not say that its body is JSON.
pub(super) fn demand_json(headers: &HeaderMap) -> Result<(), Refused> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(JSON) {
        return Ok(());
    }
    Err(Refused {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        why: format!("a request that changes something needs the header Content-Type: {JSON}"),
    })
}

/// Asks the store on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => Ok(answer?),
        Err(error) => Err(failed(&error)),
    }
}

/// The thread that asked the store did not end well.
pub(super) fn failed(error: &tokio::task::JoinError) -> Refused {
    let why = format!("the store cannot be asked: {error}");
    Refused { status: StatusCode::INTERNAL_SERVER_ERROR, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(answer: Response) -> String {
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    proptest::proptest! {
        #![proptest_config(crate::printable::hostile::cases())]

        #[test]
        fn an_answer_shows_what_a_terminal_would_obey_and_means_the_same(text in printable::hostile::text()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let json = runtime.block_on(body(Json(&text).into_response()));
            printable::hostile::assert_lines(&json, 1);
            proptest::prop_assert_eq!(&serde_json::from_str::<String>(&json).unwrap(), &text);
            let why = runtime.block_on(body(Refused::bad(text).into_response()));
            printable::hostile::assert_lines(&why, 1);
        }
    }
}
