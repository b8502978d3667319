//! Any server that takes OTLP/HTTP and answers the Tempo API.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::answer::Answer;
use super::cases::Case;
use crate::http::{post, request};

/// Sends the waves one after the other to an OTLP/HTTP address.
pub fn send(otlp: SocketAddr, waves: &[ExportTraceServiceRequest]) -> Result<()> {
    for wave in waves {
        for part in wave.resource_spans.chunks(200) {
            let body = ExportTraceServiceRequest {
                resource_spans: part.to_vec(),
            };
            let answer = post(otlp, "/v1/traces", "application/x-protobuf", &body.encode_to_vec())?;
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        }
    }
    Ok(())
}

/// Asks one question.
pub fn ask(server: SocketAddr, case: &Case) -> Result<Answer> {
    let headers: &[(&str, &str)] = match case.protobuf {
        true => &[("Accept", "application/protobuf")],
        false => &[],
    };
    let answer = request(server, "GET", &case.path(), headers, b"")?;
    Ok(Answer::of(case, &answer))
}

/// A checksum of what is sent: whether the data is the data that was recorded.
pub fn checksum(waves: &[ExportTraceServiceRequest]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in waves.iter().flat_map(Message::encode_to_vec) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}
