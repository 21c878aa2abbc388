//! Asking a running gateway for an answer of many lines, each read as it comes.
//!
//! Limits: a gateway has [`ask::ANSWER_MAX`](super::super::ask) to begin its answer; how long the
//! lines take is up to the store.

use std::io::{BufRead, BufReader};

use super::super::{Failure, ask};

/// Asks the gateway at `address`, and shows each line of its answer to `visit`.
///
/// # Errors
/// [`Failure`], from the gateway or from the visitor.
pub fn each(
    address: &str,
    path: &str,
    mut visit: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(ask::ANSWER_MAX))
        .timeout_recv_response(Some(ask::ANSWER_MAX))
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent.get(format!("http://{address}{path}")).call().map_err(|cause| {
        Failure::Unavailable(format!(
            "no gateway answers at http://{address}: {cause}; start it, or name its [http] address by --http"
        ))
    })?;
    let status = answer.status().as_u16();
    let reader = BufReader::new(answer.body_mut().as_reader());
    if !(200..300).contains(&status) {
        let said: Vec<String> = reader.lines().map_while(Result::ok).collect();
        let said = said.join("\n");
        return Err(match status {
            400 | 403 => Failure::Usage(said),
            _ => Failure::Unavailable(format!("the gateway at http://{address} answers {status}: {said}")),
        });
    }
    for line in reader.lines() {
        visit(&line.map_err(|cause| broken(address, &cause.to_string()))?)?;
    }
    Ok(())
}

/// The gateway stopped in the middle of its answer.
pub fn broken(address: &str, why: &str) -> Failure {
    Failure::Unavailable(format!("the gateway at http://{address} did not answer to the end: {why}"))
}

/// What answers speaks another language.
pub fn foreign(address: &str, cause: &serde_json::Error) -> Failure {
    Failure::Unavailable(format!("what answers at http://{address} is no gateway of this version: {cause}"))
}
