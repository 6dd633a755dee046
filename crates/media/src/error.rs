//! Why media was refused, in variants that let a service choose its answer.

/// Why media was refused. All but [`MediaError::Tokenizer`] are the sender's to mend.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// Not a format or a variant that is decoded here: another media type would help (415).
    #[error("unsupported media: {found}; {takes}")]
    Unsupported {
        /// What the bytes look like.
        found: String,
        /// What would be taken.
        takes: &'static str,
    },
    /// More pixels than are decoded (413).
    #[error("the image has {width}×{height} pixels; at most {max} in all are decoded")]
    TooLarge {
        /// Width the header claims, in pixels.
        width: u32,
        /// Height the header claims, in pixels.
        height: u32,
        /// The limit on their product.
        max: u64,
    },
    /// A strip: few pixels in all, and one side of more than are resized (413).
    #[error("the image has {width}×{height} pixels; a side of at most {max} is taken")]
    SideTooLong {
        /// Width the header claims, in pixels.
        width: u32,
        /// Height the header claims, in pixels.
        height: u32,
        /// The limit on each.
        max: u32,
    },
    /// A sound that lasts longer than is decoded (413).
    #[error("the sound lasts longer than {max} seconds, the most that is decoded")]
    SoundTooLong {
        /// The limit in seconds.
        max: u32,
    },
    /// More bytes than are read (413).
    #[error("{what} has {bytes} bytes; at most {max} are taken")]
    TooManyBytes {
        /// What was counted.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Decoding would hold far more memory than the pixels account for: a file made to do so (413).
    #[error("decoding the image would take more than {max} bytes of memory")]
    TooMuchMemory {
        /// The limit in bytes.
        max: u64,
    },
    /// A known format whose bytes are damaged, cut short, or contradict themselves (400).
    #[error("undecodable {format} {kind}: {reason}")]
    Undecodable {
        /// The format's usual name.
        format: &'static str,
        /// What the file shows: `image` or `sound`.
        kind: &'static str,
        /// What the decoder met.
        reason: String,
    },
    /// A file without a byte (400).
    #[error("the {kind} is empty")]
    Empty {
        /// What it was to be: `image` or `sound`.
        kind: &'static str,
    },
    /// A URL in place of content (400).
    #[error("this is a URL, and no URL is fetched: send the file itself in base64 or as a data URL")]
    Url,
    /// Neither base64 alphabet, or not a `data:` URL that carries base64 (400).
    #[error("not base64: {0}")]
    Base64(String),
    /// The text has more tokens than the model takes, and may not be cut (400).
    #[error("the input has {tokens} tokens; the model takes at most {max}")]
    TooLong {
        /// Tokens of the input, special tokens included.
        tokens: usize,
        /// Tokens the model takes, special tokens included.
        max: usize,
    },
    /// What stands around a text takes all the tokens that the model does (400).
    #[error(
        "what stands around the text has {tokens} tokens; the model takes at most {max}, so none is left for the text"
    )]
    NoRoom {
        /// Tokens around the text, special tokens included.
        tokens: usize,
        /// Tokens the model takes, special tokens included.
        max: usize,
    },
    /// A token id that the model has no row for (400).
    #[error("token id {id} at index {index} is outside the vocabulary of {vocabulary} tokens")]
    TokenId {
        /// Place in the list, from 0.
        index: usize,
        /// The id given.
        id: i64,
        /// Number of ids; the largest is one less.
        vocabulary: usize,
    },
    /// A list of token ids without any (400).
    #[error("the list of token ids is empty")]
    NoTokens,
    /// The backbone's own `tokenizer.json` does not load, does not fit its manifest, or fails on a text: the
    /// operator's to mend (500).
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}
