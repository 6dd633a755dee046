//! What each family calls its weights.

/// Families whose encoders are the same but for names, positions and heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Devlin et al. 2019; MiniLM, BGE, E5 and GTE are models of it.
    Bert,
    /// Liu et al. 2019, and XLM-R (Conneau et al. 2020): positions are counted over tokens that are no padding.
    Roberta,
    /// Sanh et al. 2019: no segments.
    Distilbert,
    /// Song et al. 2020: positions as RoBERTa's, and a bias of attention by distance.
    Mpnet,
}

/// Names of a layer's weights, without `.weight` and `.bias`.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) query: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) attended: String,
    pub(crate) attention_norm: String,
    pub(crate) inner: String,
    pub(crate) outer: String,
    pub(crate) norm: String,
}

/// How a head makes logits of a text's first vector.
#[derive(Debug)]
pub(crate) struct Head {
    /// The projection in front.
    pub(crate) dense: &'static str,
    /// Whether its name begins as the encoder's do.
    pub(crate) dense_is_inside: bool,
    /// What follows it.
    pub(crate) activation: &'static str,
    /// The projection to classes.
    pub(crate) classes: &'static str,
}

impl Family {
    /// Whether positions are counted over tokens that are no padding, beginning behind padding's own.
    pub(crate) fn counts_from_padding(self) -> bool {
        match self {
            Self::Roberta | Self::Mpnet => true,
            Self::Bert | Self::Distilbert => false,
        }
    }

    /// Whether there are vectors of segments.
    pub(crate) fn has_segments(self) -> bool {
        match self {
            Self::Bert | Self::Roberta => true,
            Self::Distilbert | Self::Mpnet => false,
        }
    }

    pub(crate) fn layer(self, number: usize) -> Layer {
        let (layer, query, key, value, attended, attention_norm) = match self {
            Self::Bert | Self::Roberta => (
                format!("encoder.layer.{number}"),
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "attention.output.LayerNorm",
            ),
            Self::Mpnet => (
                format!("encoder.layer.{number}"),
                "attention.attn.q",
                "attention.attn.k",
                "attention.attn.v",
                "attention.attn.o",
                "attention.LayerNorm",
            ),
            Self::Distilbert => (
                format!("transformer.layer.{number}"),
                "attention.q_lin",
                "attention.k_lin",
                "attention.v_lin",
                "attention.out_lin",
                "sa_layer_norm",
            ),
        };
        let (inner, outer, norm) = match self {
            Self::Bert | Self::Roberta | Self::Mpnet => {
                ("intermediate.dense", "output.dense", "output.LayerNorm")
            }
            Self::Distilbert => ("ffn.lin1", "ffn.lin2", "output_layer_norm"),
        };
        let of = |part: &str| format!("{layer}.{part}");
        Layer {
            query: of(query),
            key: of(key),
            value: of(value),
            attended: of(attended),
            attention_norm: of(attention_norm),
            inner: of(inner),
            outer: of(outer),
            norm: of(norm),
        }
    }

    pub(crate) fn head(self) -> Head {
        match self {
            Self::Bert => Head {
                dense: "pooler.dense",
                dense_is_inside: true,
                activation: "Tanh",
                classes: "classifier",
            },
            Self::Roberta | Self::Mpnet => Head {
                dense: "classifier.dense",
                dense_is_inside: false,
                activation: "Tanh",
                classes: "classifier.out_proj",
            },
            Self::Distilbert => Head {
                dense: "pre_classifier",
                dense_is_inside: false,
                activation: "Relu",
                classes: "classifier",
            },
        }
    }
}
