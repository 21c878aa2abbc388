//! Asking a running gateway over HTTP. Every failure says what to do.
//!
//! Limits: an answer of [`ANSWER_BYTES_MAX`], within the time that the command allows.

use std::time::Duration;

use super::Failure;

/// How long a gateway may take to answer at a glance.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest answer that is read: the largest event, as base64, and the rest of its page.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Where a gateway answers by default.
pub(super) const HTTP_DEFAULT: &str = "127.0.0.1:8080";

/// A gateway's address, to be asked.
#[derive(Debug)]
pub(super) struct Gateway {
    address: String,
    agent: ureq::Agent,
}

impl Gateway {
    /// The gateway whose `[http] address` this is; each answer may take `answer_max`.
    pub(super) fn at(address: &str, answer_max: Duration) -> Self {
        let config = ureq::Agent::config_builder();
        let agent = config.timeout_global(Some(answer_max)).http_status_as_error(false).build().into();
        Self { address: address.to_owned(), agent }
    }

    /// What it answers to GET.
    pub(super) fn get(&self, path: &str) -> Result<String, Failure> {
        self.read(self.agent.get(self.url(path)).call())
    }

    /// What it answers to POST with a body of JSON.
    pub(super) fn post(&self, path: &str, json: &str) -> Result<String, Failure> {
        self.read(self.agent.post(self.url(path)).content_type("application/json").send(json))
    }

    /// What it answers to DELETE.
    pub(super) fn delete(&self, path: &str) -> Result<String, Failure> {
        self.read(self.agent.delete(self.url(path)).header("content-type", "application/json").call())
    }

    /// Reads JSON that it answered.
    pub(super) fn parse<T: serde::de::DeserializeOwned>(&self, json: &str) -> Result<T, Failure> {
        serde_json::from_str(json).map_err(|cause| {
            let address = &self.address;
            Failure::Unavailable(format!(
                "what answers at http://{address} is no gateway of this version: {cause}"
            ))
        })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<String, Failure> {
        let mut answer = answer.map_err(|cause| self.silent(&cause))?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|cause| self.silent(&cause))?;
        let said = body.trim_end().to_owned();
        match answer.status().as_u16() {
            200..300 => Ok(body),
            // The gateway's own sentence says what to do.
            400 | 404 | 409 | 413 | 415 | 422 if !said.is_empty() => Err(Failure::Usage(said)),
            status => Err(Failure::Unavailable(format!(
                "the gateway at http://{} answers {status}: {said}",
                self.address
            ))),
        }
    }

    fn silent(&self, cause: &ureq::Error) -> Failure {
        Failure::Unavailable(format!(
            "no gateway answers at http://{}: {cause}; start it, or name its [http] address by --http",
            self.address
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_gateway_at_the_address_is_unavailable() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = Gateway::at(&free.to_string(), ANSWER_MAX).get("/api/status").unwrap_err();
        assert_eq!(failure.exit_code(), 69, "{failure}");
        assert!(failure.to_string().contains("name its [http] address by --http"), "{failure}");
    }
}
