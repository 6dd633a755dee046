//! What the walk of files does with sounds.

use std::sync::Arc;

use headstart_engine::{Class, Input};
use headstart_media::{Limits, MediaError, SoundEncoder, decode_sound};
use headstart_telemetry::ModelMetrics;
use headstart_types::payload::{Datum, Media};
use tokio::sync::Semaphore;

use super::file::Decoder;
use crate::context::TaskContext;

impl Decoder for Arc<SoundEncoder> {
    const AT_ONCE: usize = 4;

    fn places(cx: &TaskContext, class: Class) -> &Semaphore {
        cx.decoded_sounds(class)
    }

    fn media(datum: Datum) -> Option<Media> {
        if let Datum::Audio(media) = datum { Some(media) } else { None }
    }

    fn decode(&self, bytes: &[u8], limits: &Limits) -> Result<(Input, f64), MediaError> {
        let sound = decode_sound(bytes, self.rate(), limits)?;
        let seconds = sound.seconds();
        let rows = self.encode(sound);
        Ok((Input::Signal { values: rows.values, width: rows.width }, seconds))
    }

    fn count(metrics: &ModelMetrics, seconds: f64) {
        metrics.audio_seconds_total.inc_by(seconds);
    }
}
