//! Ends of jobs told to hosts that the operator allows: signed, tried again for a day, never redirected. What is to be
//! told stands in the store's outbox; this is who reads it.

mod client;
mod deliver;
mod hosts;
mod message;
mod secrets;

pub(crate) use client::Client;
pub use deliver::Webhooks;
pub use hosts::{HostError, Hosts, Target, UrlError};
pub use secrets::{SecretError, Secrets};
