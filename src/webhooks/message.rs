//! What is told: OpenAI's event of a job's end.

use headstart_types::webhook::Delivery;
use serde_json::json;

/// An event as it is sent. Each attempt at a delivery sends the same.
pub(super) struct Message {
    /// By which a receiver knows what it was told before.
    pub(super) id: String,
    /// JSON.
    pub(super) body: String,
}

impl Message {
    /// A job ends once: its id names the event too.
    pub(super) fn of(delivery: &Delivery) -> Self {
        let id = format!("evt_{}", delivery.job.tail());
        let body = json!({
            "id": id,
            "object": "event",
            "type": format!("fine_tuning.job.{}", delivery.state.as_str()),
            "created_at": delivery.ended_at.div_euclid(1000),
            "data": {"id": delivery.job},
        });
        Self { id, body: body.to_string() }
    }
}
