//! What the walk of files does with pictures.

use headstart_engine::{Class, Input};
use headstart_media::{Limits, MediaError};
use headstart_telemetry::ModelMetrics;
use headstart_types::manifest::ImageSpec;
use headstart_types::payload::{Datum, Media};
use tokio::sync::Semaphore;

use super::file::Decoder;
use crate::context::TaskContext;

impl Decoder for ImageSpec {
    const AT_ONCE: usize = 8;

    fn places(cx: &TaskContext, class: Class) -> &Semaphore {
        cx.decoded_pictures(class)
    }

    fn media(datum: Datum) -> Option<Media> {
        if let Datum::Image(media) = datum { Some(media) } else { None }
    }

    fn decode(&self, bytes: &[u8], limits: &Limits) -> Result<(Input, f64), MediaError> {
        let picture = headstart_media::decode(bytes, limits)?;
        let pixels = f64::from(picture.width()) * f64::from(picture.height());
        Ok((Input::Dense(headstart_media::preprocess(&picture, self)), pixels))
    }

    fn count(metrics: &ModelMetrics, pixels: f64) {
        // Far fewer than a double counts exactly.
        metrics.pixels_total.inc_by(pixels as u64);
    }
}
