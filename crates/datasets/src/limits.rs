//! What a file may cost, and what is asked of its classes.

/// The limits of an inspection. Each is checked before its cost arises, where the file says it in advance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most examples of a file. About 100 bytes are held for each, and its path in an archive.
    pub max_examples: u64,
    /// Most classes of a file.
    pub max_classes: usize,
    /// Most labels of one example.
    pub max_labels: usize,
    /// Most bytes of a label, a group, a split or an id.
    pub max_name_bytes: usize,
    /// Most bytes of a text.
    pub max_text_bytes: usize,
    /// Most bytes of a line of JSON, or of a record of CSV.
    pub max_line_bytes: usize,
    /// Most entries of an archive, folders included.
    pub max_entries: u64,
    /// Most bytes of one entry, unpacked.
    pub max_entry_bytes: u64,
    /// Most bytes of pages of Parquet that are held at a time, unpacked: of each column that is read one.
    pub max_page_bytes: u64,
    /// Most bytes of the whole file, unpacked.
    pub max_unpacked_bytes: u64,
    /// Most bytes that one packed byte may become. Asked only above [`Limits::ratio_free_bytes`].
    pub max_ratio: u64,
    /// Unpacked bytes that need no ratio: a small blank picture packs very well.
    pub ratio_free_bytes: u64,
    /// What one picture or sound may cost.
    pub media: headstart_media::Limits,
    /// Fewest training rows of a class; at least 1.
    pub min_class_examples: u64,
    /// Most findings of a kind (problems, warnings) that are listed; all are counted.
    pub max_listed: usize,
    /// Of the eight parts of a text's signature, how many must agree in near duplicates. Five find nearly all pairs
    /// that share 95 % of their letter runs, and next to none that share 70 %.
    pub near_text_parts: u32,
    /// Of the 128 bits of a picture's signature, how many may differ in near duplicates; above 7 some are missed.
    pub near_image_bits: u32,
    /// Threads that decode pictures and sounds; 0 takes as many as there are cores.
    pub threads: usize,
}

impl Default for Limits {
    /// A million examples, 10,000 classes, pictures and lines of 64 MiB, pages of 256 MiB, for a page may hold a hundred
    /// pictures, 8 GiB unpacked.
    fn default() -> Self {
        Self {
            max_examples: 1_000_000,
            max_classes: 10_000,
            max_labels: 1000,
            max_name_bytes: 500,
            max_text_bytes: 1 << 20,
            max_line_bytes: 64 << 20,
            max_entries: 1_000_000,
            max_entry_bytes: 64 << 20,
            max_page_bytes: 256 << 20,
            max_unpacked_bytes: 8 << 30,
            max_ratio: 250,
            ratio_free_bytes: 4 << 20,
            media: headstart_media::Limits::default(),
            min_class_examples: 2,
            max_listed: 100,
            near_text_parts: 5,
            near_image_bits: 5,
            threads: 0,
        }
    }
}

impl Limits {
    /// Whether `unpacked` bytes are more than `packed` bytes of data become.
    pub(crate) fn is_suspicious(&self, packed: u64, unpacked: u64) -> bool {
        unpacked > self.ratio_free_bytes && unpacked / self.max_ratio.max(1) > packed
    }

    /// Threads to use.
    pub(crate) fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.threads == 0 { cores() } else { self.threads }
    }
}
