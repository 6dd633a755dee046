//! That the server's vectors are those of the direct calls, so that both sides did the same work.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::connection::Connection;
use crate::direct::Embedder;
use crate::request::Request;
use crate::server::Server;

/// Lowest cosine between a served vector and the direct one.
const LEAST_COSINE: f64 = 0.9999;

/// Items that are compared.
pub(crate) const ITEMS: usize = 16;

/// The lowest cosine over the first items of the requests, each embedded alone on the direct side.
///
/// # Errors
/// When it is below [`LEAST_COSINE`], or an answer is not what it should be.
pub(crate) async fn lowest_cosine<E: Embedder>(
    server: &Server,
    requests: &[Request],
    items: &[E::Item],
    embedder: &mut E,
) -> anyhow::Result<f64> {
    let mut connection = Connection::open(server.address).await?;
    let mut served = Vec::new();
    for request in requests {
        if served.len() >= ITEMS {
            break;
        }
        served.extend(E::answered(connection.exchange(&request.bytes).await?.expect_ok()?)?);
    }
    let mut lowest = f64::INFINITY;
    for (item, vector) in items.iter().zip(&served).take(ITEMS) {
        let direct = embedder.embed(&[item])?.pop().context("no vector came back")?;
        lowest = lowest.min(cosine(&direct, vector)?);
    }
    anyhow::ensure!(
        lowest.is_finite() && lowest >= LEAST_COSINE,
        "the server's vectors are not those of direct calls: lowest cosine {lowest:.6}"
    );
    Ok(lowest)
}

/// The vectors of `/v1/embeddings`, asked for as base64.
///
/// # Errors
/// When the body is no such answer.
pub(crate) fn embeddings(body: &[u8]) -> anyhow::Result<Vec<Vec<f32>>> {
    let body: serde_json::Value = serde_json::from_slice(body)?;
    let data = body["data"].as_array().context("the answer has no `data`")?;
    data.iter()
        .map(|datum| {
            let text = datum["embedding"].as_str().context("`embedding` is not base64")?;
            Ok(floats(&STANDARD.decode(text)?))
        })
        .collect()
}

/// Little-endian numbers of 32 bits.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

fn cosine(left: &[f32], right: &[f32]) -> anyhow::Result<f64> {
    anyhow::ensure!(left.len() == right.len(), "{} and {} values", left.len(), right.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    Ok(dot(left, right) / (dot(left, left) * dot(right, right)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gives_its_vectors_back() {
        let bytes: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let body = serde_json::json!({"data": [{"embedding": STANDARD.encode(bytes)}]}).to_string();
        assert_eq!(embeddings(body.as_bytes()).unwrap(), [[1.5, -2.0]]);
    }

    #[test]
    fn opposite_vectors_have_cosine_minus_one() {
        assert!((cosine(&[1.0, 2.0], &[-2.0, -4.0]).unwrap() + 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0], &[1.0, 2.0]).is_err());
    }
}
