//! Stand-in until the real crate moves in.
use headstart_types::manifest::{ImageSpec, TextSpec};
use headstart_types::payload::Truncate;
#[derive(Debug, Clone, Copy)]
pub struct Limits { pub max_pixels: u64, pub max_bytes: usize }
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error("unsupported")] Unsupported { found: String },
    #[error("too large")] TooLarge { pixels: u64, limit: u64 },
    #[error("bad: {0}")] Undecodable(String),
    #[error("has {tokens} tokens; the model takes {max}")] TooLong { tokens: usize, max: usize },
}
pub struct RgbImage8(image::RgbImage);
impl RgbImage8 { pub fn width(&self) -> u32 { self.0.width() } pub fn height(&self) -> u32 { self.0.height() } }
pub fn decode(bytes: &[u8], _l: &Limits) -> Result<RgbImage8, MediaError> { Ok(RgbImage8(image::load_from_memory(bytes).map_err(|e| MediaError::Undecodable(e.to_string()))?.to_rgb8())) }
pub fn preprocess(p: &RgbImage8, s: &ImageSpec) -> Vec<f32> {
    let (w, h) = p.0.dimensions();
    let r = s.resize as f64 / w.min(h) as f64;
    let (nw, nh) = ((w as f64 * r).round() as u32, (h as f64 * r).round() as u32);
    let im = image::imageops::resize(&p.0, nw, nh, image::imageops::FilterType::Triangle);
    let (x0, y0) = ((nw - s.size) / 2, (nh - s.size) / 2);
    let n = s.size as usize;
    let mut o = vec![0.0; 3 * n * n];
    for y in 0..n { for x in 0..n { let px = im.get_pixel(x0 + x as u32, y0 + y as u32); for c in 0..3 { o[c * n * n + y * n + x] = (px[c] as f32 * s.scale - s.mean[c]) / s.std[c]; } } }
    o
}
pub fn decode_base64(text: &str, _l: &Limits) -> Result<Vec<u8>, MediaError> {
    use base64::Engine;
    let t = text.split_once(',').map_or(text, |(_, b)| b);
    base64::engine::general_purpose::STANDARD.decode(t).map_err(|e| MediaError::Undecodable(e.to_string()))
}
pub struct TextEncoder { t: tokenizers::Tokenizer, max: usize }
pub struct Encoded { pub ids: Vec<u32>, pub type_ids: Option<Vec<u32>>, pub truncated_tokens: usize }
impl TextEncoder {
    pub fn load(b: &[u8], s: &TextSpec) -> Result<Self, MediaError> {
        let mut t = tokenizers::Tokenizer::from_bytes(b).map_err(|e| MediaError::Undecodable(e.to_string()))?;
        t.with_padding(None); let _ = t.with_truncation(None);
        Ok(Self { t, max: s.max_tokens })
    }
    pub fn encode(&self, text: &str, prompt: Option<&str>, _tr: Truncate) -> Result<Encoded, MediaError> {
        let full = format!("{}{text}", prompt.unwrap_or(""));
        let e = self.t.encode_fast(full, true).map_err(|e| MediaError::Undecodable(e.to_string()))?;
        let mut ids = e.get_ids().to_vec();
        let cut = ids.len().saturating_sub(self.max);
        if cut > 0 { let last = ids[ids.len()-1]; ids.truncate(self.max - 1); ids.push(last); }
        Ok(Encoded { ids, type_ids: None, truncated_tokens: cut })
    }
    pub fn from_ids(&self, ids: Vec<u32>, _t: Truncate) -> Result<Encoded, MediaError> { Ok(Encoded { ids, type_ids: None, truncated_tokens: 0 }) }
}
