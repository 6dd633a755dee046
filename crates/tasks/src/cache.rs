//! Vectors already computed, by what they were computed from: a byte budget, least valuable out first.

use std::sync::Arc;

use headstart_telemetry::CacheMetrics;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Weighter};

/// A key that names model, preprocessing, output and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 16]);

impl Key {
    /// Hashes the parts; each is preceded by its length, so that no two lists of parts collide by joining.
    #[must_use]
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = blake3::Hasher::new();
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut key = [0; 16];
        hash.finalize_xof().fill(&mut key);
        Self(key)
    }

    /// The key as a part of another.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What is known of an item.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    /// Its embedding; empty when only logits were asked for.
    pub(crate) features: Arc<[f32]>,
    /// Its logits; empty when only the embedding was asked for.
    pub(crate) logits: Arc<[f32]>,
    /// Tokens of the texts that a label's prototype is made of; 0 for items, whose tokens are counted on the way.
    pub(crate) tokens: usize,
}

#[derive(Clone)]
struct Bytes;

/// Key, pointers and the cache's own bookkeeping of one entry, in bytes.
const OVERHEAD: u64 = 128;

impl Weighter<Key, Cached> for Bytes {
    fn weight(&self, _: &Key, value: &Cached) -> u64 {
        OVERHEAD + 4 * (value.features.len() + value.logits.len()) as u64
    }
}

/// A cache of vectors.
pub(crate) struct VectorCache {
    cache: Option<Cache<Key, Cached, Bytes>>,
    metrics: CacheMetrics,
}

impl VectorCache {
    /// A cache of at most `bytes`; zero means none.
    #[must_use]
    pub(crate) fn new(bytes: u64, metrics: CacheMetrics) -> Self {
        let expected = (bytes / (OVERHEAD + 4 * 384)).clamp(16, 1 << 20) as usize;
        let cache = (bytes > 0).then(|| {
            Cache::with(
                expected,
                bytes,
                Bytes,
                DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            )
        });
        Self { cache, metrics }
    }

    /// Looks an item up.
    #[must_use]
    pub(crate) fn get(&self, key: &Key) -> Option<Cached> {
        let found = self.cache.as_ref()?.get(key);
        match &found {
            Some(_) => self.metrics.hits_total.inc(),
            None => self.metrics.misses_total.inc(),
        }
        found
    }

    /// Remembers an item.
    pub(crate) fn put(&self, key: Key, value: Cached) {
        if let Some(cache) = &self.cache {
            cache.insert(key, value);
            self.metrics.bytes.set(cache.weight().cast_signed());
            self.metrics.entries.set(cache.len() as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use headstart_telemetry::Metrics;

    use super::*;

    fn vector(length: usize) -> Cached {
        Cached { features: vec![1.0; length].into(), logits: Vec::new().into(), tokens: 0 }
    }

    #[test]
    fn the_cache_keeps_within_its_bytes_and_counts_hits() {
        let metrics = Metrics::new("0").unwrap().for_cache("features");
        let cache = VectorCache::new(100_000, metrics.clone());
        for number in 0..1000u32 {
            cache.put(Key::of(&[&number.to_le_bytes()]), vector(384));
        }
        assert!(metrics.bytes.get() <= 100_000, "{}", metrics.bytes.get());
        assert!(metrics.entries.get() > 10);
        let key = Key::of(&[b"a"]);
        assert!(cache.get(&key).is_none());
        cache.put(key, vector(384));
        assert!(cache.get(&key).is_some());
        assert_eq!((metrics.hits_total.get(), metrics.misses_total.get()), (1, 1));
    }

    #[test]
    fn a_cache_of_zero_bytes_keeps_nothing() {
        let cache = VectorCache::new(0, Metrics::new("0").unwrap().for_cache("features"));
        cache.put(Key::of(&[b"a"]), vector(4));
        assert!(cache.get(&Key::of(&[b"a"])).is_none());
    }

    #[test]
    fn parts_that_join_to_the_same_bytes_have_different_keys() {
        assert_ne!(Key::of(&[b"ab", b"c"]), Key::of(&[b"a", b"bc"]));
    }
}
