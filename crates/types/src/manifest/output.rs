//! `[output]`: what the graph gives.

use serde::{Deserialize, Serialize};

use super::{Layout, ManifestError, refuse};

/// What the graph gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The embedding; needed unless the modality is tensor.
    pub features: Option<FeaturesSpec>,
    /// The source task's own classifier, where it was kept.
    pub logits: Option<LogitsSpec>,
}

/// The embedding output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesSpec {
    /// Name of the graph's output; a table of word vectors has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tensor: String,
    /// How the vectors of tokens, patches or places become one.
    pub pooling: Pooling,
    /// Whether vectors are scaled to unit length.
    pub normalise: bool,
    /// Length of the vector.
    pub dimension: usize,
}

/// The source head's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogitsSpec {
    /// Name of the graph's output.
    pub tensor: String,
    /// File with one class name a line, relative to the folder.
    pub labels: Option<String>,
    /// The class names themselves, in place of a file.
    #[serde(default)]
    pub classes: Vec<String>,
}

/// How the vectors of tokens, patches or places become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The first token's vector.
    Cls,
    /// Mean over the real tokens, or over a map's places.
    Mean,
    /// Largest value of each dimension over the real tokens, or over a map's places.
    Max,
    /// The last real token's vector.
    Last,
    /// The output already is one vector an item.
    None,
}

impl OutputSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if self.features.as_ref().is_some_and(|features| features.dimension == 0) {
            return refuse("output.features.dimension", "must be at least 1");
        }
        match &self.logits {
            Some(logits) if logits.labels.is_some() != logits.classes.is_empty() => refuse(
                "output.logits.labels",
                "names a file with the classes, or `classes` does; one of both",
            ),
            _ => Ok(()),
        }
    }
}

impl Pooling {
    /// The name used in manifests and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Last => "last",
            Self::None => "none",
        }
    }
}

/// How an item's features lie in their output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `[n, dimension]`.
    Vector,
    /// `[n, positions, dimension]`: tokens, patches, or places of a map whose channels come last.
    Positions,
    /// `[n, dimension, …places]`: a map whose channels come first.
    Planes,
}

impl FeaturesSpec {
    /// How features lie in an output of this shape, whose dynamic dimensions are negative. Where both ends of a map could
    /// be its channels, they are where the pictures' own are.
    ///
    /// # Errors
    /// What does not fit, naming the fields and the output.
    pub fn form(&self, shape: &[i64], layout: Layout) -> Result<Form, String> {
        let is = |axis: usize| shape[axis] < 0 || shape[axis] == self.dimension as i64;
        let pools_places = matches!(self.pooling, Pooling::Mean | Pooling::Max);
        match (shape.len(), self.pooling) {
            (2, Pooling::None) if is(1) => Ok(Form::Vector),
            (4, Pooling::None) if is(1) && shape[2..] == [1, 1] => Ok(Form::Vector),
            (4, Pooling::None) if is(3) && shape[1..3] == [1, 1] => Ok(Form::Vector),
            (3, pooling) if pooling != Pooling::None && is(2) => Ok(Form::Positions),
            (4, _) if pools_places && is(1) && (!is(3) || layout == Layout::Nchw) => Ok(Form::Planes),
            (4, _) if pools_places && is(3) => Ok(Form::Positions),
            (rank, pooling) => Err(format!(
                "output.features has pooling {} and dimension {}, but output `{}` has {rank} dimensions: {shape:?}",
                pooling.as_str(),
                self.dimension,
                self.tensor
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shape: &[i64], pooling: Pooling, layout: Layout) -> Option<Form> {
        let spec = FeaturesSpec { tensor: "features".into(), pooling, normalise: true, dimension: 8 };
        spec.form(shape, layout).ok()
    }

    #[test]
    fn a_map_is_read_by_where_its_channels_are() {
        assert_eq!(of(&[-1, 8, 7, 7], Pooling::Mean, Layout::Nhwc), Some(Form::Planes));
        assert_eq!(of(&[-1, 7, 7, 8], Pooling::Max, Layout::Nchw), Some(Form::Positions));
        // Where the graph does not tell, the pictures' own layout does.
        assert_eq!(of(&[-1, 8, 8, 8], Pooling::Mean, Layout::Nchw), Some(Form::Planes));
        assert_eq!(of(&[-1, -1, -1, -1], Pooling::Mean, Layout::Nhwc), Some(Form::Positions));
    }

    #[test]
    fn vectors_and_sequences_want_the_pooling_that_fits() {
        assert_eq!(of(&[-1, 8], Pooling::None, Layout::Nchw), Some(Form::Vector));
        assert_eq!(of(&[-1, 8, 1, 1], Pooling::None, Layout::Nchw), Some(Form::Vector));
        assert_eq!(of(&[-1, 197, 8], Pooling::Cls, Layout::Nchw), Some(Form::Positions));
        for (shape, pooling) in [
            (&[-1, 8][..], Pooling::Mean),
            (&[-1, 9], Pooling::None),
            (&[-1, 197, 8], Pooling::None),
            (&[-1, 8, 7, 7], Pooling::None),
            (&[-1, 8, 7, 7], Pooling::Cls),
            (&[8], Pooling::None),
        ] {
            assert_eq!(of(shape, pooling, Layout::Nchw), None, "{shape:?} {pooling:?}");
        }
    }
}
