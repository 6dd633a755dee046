//! What webhooks are signed with, by the Standard Webhooks specification 1.0.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What every secret starts with.
const PREFIX: &str = "whsec_";
/// Least and most bytes of a secret, by the specification.
const BYTES: (usize, usize) = (24, 64);
/// Secrets at a time: the one in use, and the one that replaces it.
const MOST: usize = 2;

/// Why a secret cannot be used. It is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It has another form.
    #[error("must be `{PREFIX}` and the base64 form of {} to {} bytes, such as openssl rand -base64 32 gives", BYTES.0, BYTES.1)]
    Form,
    /// There are more than are of use.
    #[error("has more than {MOST} secrets")]
    TooMany,
}

/// What webhooks are signed with. Nothing prints it.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Hmac<Sha256>>);

impl Secrets {
    /// Reads one secret, or two with a comma between them.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn parse_list(text: &str) -> Result<Self, SecretError> {
        let parse = |secret: &str| {
            let encoded = secret.trim().strip_prefix(PREFIX).ok_or(SecretError::Form)?;
            let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Form)?;
            if !(BYTES.0..=BYTES.1).contains(&bytes.len()) {
                return Err(SecretError::Form);
            }
            Hmac::new_from_slice(&bytes).map_err(|_| SecretError::Form)
        };
        let secrets = text.split(',').filter(|secret| !secret.trim().is_empty());
        let secrets: Vec<_> = secrets.map(parse).collect::<Result<_, _>>()?;
        if secrets.len() > MOST { Err(SecretError::TooMany) } else { Ok(Self(secrets)) }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The header's value: a signature by each secret, so that a receiver may know either.
    #[must_use]
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let sign = |secret: &Hmac<Sha256>| {
            let mut mac = secret.clone();
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification's own libraries are tested with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn example(secrets: &str) -> String {
        let body = br#"{"test": 2432232314}"#;
        Secrets::parse_list(secrets).unwrap().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
    }

    #[test]
    fn the_specifications_example_has_the_specifications_signature() {
        assert_eq!(example(SECRET), SIGNATURE);
    }

    #[test]
    fn while_a_secret_is_replaced_both_sign() {
        let new = format!("{PREFIX}{}", STANDARD.encode([7; 32]));
        let both = example(&format!("{new}, {SECRET}"));
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!((first, second), (example(&new).as_str(), SIGNATURE));
    }

    #[test]
    fn a_secret_of_another_form_is_refused_and_not_repeated() {
        let short = format!("{PREFIX}{}", STANDARD.encode([1; 23]));
        let long = format!("{PREFIX}{}", STANDARD.encode([1; 65]));
        let many = [SECRET; 3].join(",");
        for text in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_MfKQ9r8!", &short, &long, &many] {
            let refused = Secrets::parse_list(text).unwrap_err().to_string();
            assert!(!refused.contains("MfKQ9r8"), "{refused}");
        }
        assert!(Secrets::parse_list("").unwrap().is_empty());
        assert_eq!(format!("{:?}", Secrets::parse_list(SECRET).unwrap()), "1 secrets");
    }
}
