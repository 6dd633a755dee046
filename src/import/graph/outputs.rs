//! Which output is an item's vector, how it becomes one, and which output is a classifier's.

use anyhow::{Context as _, ensure};
use headstart_types::manifest::{FeaturesSpec, Layout, LogitsSpec, OutputSpec, Pooling};

use super::super::facts::Facts;
use super::{LABELS, Output};

/// Names of outputs that are vectors, the surest first.
const VECTORS: [&str; 6] =
    ["image_embeds", "sentence_embedding", "pooler_output", "embedding", "feature", "last_hidden_state"];

/// Names of outputs that are classes.
const CLASSES: [&str; 6] = ["logit", "prob", "softmax", "predict", "class", "score"];

/// Classes of ImageNet-1k, without and with one for none of them.
pub(super) const IMAGENET: [usize; 2] = [1000, 1001];

/// What an item is made of: how the vectors of its parts become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Tokens, by their mean unless the family is known to use the first.
    Tokens { first: bool },
    /// Patches or places of a picture.
    Places(Layout),
    /// Windows of a sound, one vector each or several.
    Windows { cut: bool },
}

/// Whether an output is a classifier's.
pub(super) fn is_classes(output: &Output, labels: Option<&[String]>) -> bool {
    let &[_, size] = output.dims.as_slice() else { return false };
    let named = output.name.to_lowercase();
    let said = CLASSES.iter().any(|name| named.contains(name));
    said || IMAGENET.contains(&size) || labels.is_some_and(|labels| labels.len() == size)
}

pub(super) fn decide(
    outputs: &[Output],
    of: Of,
    labels: Option<&[String]>,
    facts: &mut Facts,
) -> anyhow::Result<OutputSpec> {
    let given: Option<String> = facts.given_for("output.features.tensor")?;
    let names = || outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", ");
    let (chosen, because) = match &given {
        Some(name) => {
            let found = outputs.iter().find(|output| output.name == *name);
            let found = found.with_context(|| {
                format!(
                    "`--set output.features.tensor`: the graph has no output `{name}`; it has {}",
                    names()
                )
            })?;
            (found, String::new())
        }
        None => vector(outputs, labels).with_context(|| {
            format!(
                "`output.features.tensor`: no output is a vector of floats for each item; there are {}",
                names()
            )
        })?,
    };
    ensure!(
        !chosen.values.is_empty(),
        "`output.features.tensor`: the output `{}` is no tensor of floats with values",
        chosen.name
    );
    let tensor = facts.decide("output.features.tensor", chosen.name.clone(), because)?;
    let (pooling, because) = pooling(chosen, of);
    let pooling = facts.decide("output.features.pooling", pooling, because)?;
    let (dimension, because) = dimension(chosen, of);
    let dimension = facts.decide("output.features.dimension", dimension, because)?;
    let normalise = "vectors are compared by their cosine";
    let normalise = facts.decide("output.features.normalise", true, normalise)?;
    let features = Some(FeaturesSpec { tensor, pooling, normalise, dimension });
    let logits = labels.and_then(|labels| {
        let fits = |output: &&Output| matches!(output.dims.as_slice(), [_, size] if *size == labels.len());
        let output = outputs.iter().filter(fits).max_by_key(|output| is_classes(output, None))?;
        Some(LogitsSpec { tensor: output.name.clone(), labels: Some(LABELS.to_owned()), classes: Vec::new() })
    });
    if let Some(logits) = &logits {
        facts.tell("output.logits.tensor", &logits.tensor, "it has as many values as there are labels")?;
    }
    Ok(OutputSpec { features, logits })
}

/// The output that is most likely an item's vector.
fn vector<'a>(outputs: &'a [Output], labels: Option<&[String]>) -> Option<(&'a Output, String)> {
    let usable = || {
        let fits = |output: &&Output| (2..=4).contains(&output.dims.len()) && !output.values.is_empty();
        outputs.iter().filter(fits)
    };
    for name in VECTORS {
        let named = |output: &&Output| output.name.to_lowercase().contains(name);
        if let Some(output) = usable().filter(|output| !is_classes(output, labels)).find(named) {
            return Some((output, format!("the name `{}` says so", output.name)));
        }
    }
    if let Some(output) = usable().find(|output| !is_classes(output, labels)) {
        return Some((output, format!("it is the first output that is no class's: {:?}", output.dims)));
    }
    let output = usable().next()?;
    Some((output, format!("there is none but the classifier's: {:?}", output.dims)))
}

fn pooling(output: &Output, of: Of) -> (Pooling, String) {
    let dims = &output.dims;
    let shown = format!("the output is {dims:?}");
    match (of, dims.as_slice()) {
        (Of::Windows { cut: true }, _) => (Pooling::Mean, "a sound's windows become one vector".to_owned()),
        (Of::Windows { cut: false }, [_, parts, _]) if *parts > 1 => {
            (Pooling::Mean, format!("{shown}: a vector for each part of the sound"))
        }
        (Of::Windows { cut: false }, _) | (_, [_, _] | [_, _, 1, 1] | [_, 1, 1, _]) => (Pooling::None, shown),
        (Of::Tokens { first: true }, _) => {
            (Pooling::Cls, format!("{shown}, and models of this name use the first token"))
        }
        (Of::Places(_), [_, places, _]) if is_square(places.saturating_sub(1)) && *places > 1 => {
            (Pooling::Cls, format!("{shown}: one vector ahead of a square of patches"))
        }
        (Of::Places(_) | Of::Tokens { .. }, _) => {
            (Pooling::Mean, format!("{shown}: a vector for each place"))
        }
    }
}

fn is_square(number: usize) -> bool {
    number.isqrt().pow(2) == number
}

/// Length of a vector in an output. Where both ends of a map might be its channels, they are where the pictures' are.
fn dimension(output: &Output, of: Of) -> (usize, String) {
    let channels_first = match (of, output.dims.as_slice()) {
        (_, [_, _, 1, 1]) => true,
        (_, [_, 1, 1, _]) => false,
        (_, [_, first, height, width]) if height == width && first != height => true,
        (_, [_, height, width, last]) if height == width && last != width => false,
        (Of::Places(layout), [_, _, _, _]) => layout == Layout::Nchw,
        _ => false,
    };
    let axis = if channels_first { output.dims.get(1) } else { output.dims.last() };
    let place = if channels_first { "second" } else { "last" };
    (axis.copied().unwrap_or(0), format!("it is the {place} size of {:?}", output.dims))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, dims: &[usize]) -> Output {
        Output { name: name.into(), dims: dims.to_vec(), values: vec![0.0; dims.iter().product()] }
    }

    fn features(outputs: &[Output], of: Of) -> (String, Pooling, usize) {
        let features = decide(outputs, of, None, &mut Facts::default()).unwrap().features.unwrap();
        (features.tensor, features.pooling, features.dimension)
    }

    #[test]
    fn vectors_come_before_classes_and_maps_are_averaged() {
        let pictures = Of::Places(Layout::Nchw);
        let both = [output("logits", &[1, 1000]), output("out", &[1, 1280])];
        assert_eq!(features(&both, pictures), ("out".into(), Pooling::None, 1280));
        assert_eq!(features(&both[..1], pictures), ("logits".into(), Pooling::None, 1000));
        assert_eq!(features(&[output("m", &[1, 512, 7, 7])], pictures), ("m".into(), Pooling::Mean, 512));
        assert_eq!(features(&[output("m", &[1, 7, 7, 512])], pictures), ("m".into(), Pooling::Mean, 512));
        assert_eq!(features(&[output("m", &[1, 512, 1, 1])], pictures), ("m".into(), Pooling::None, 512));
        assert_eq!(features(&[output("m", &[1, 197, 8])], pictures), ("m".into(), Pooling::Cls, 8));
        assert_eq!(features(&[output("m", &[1, 196, 8])], pictures), ("m".into(), Pooling::Mean, 8));
        let named = [output("a", &[1, 9]), output("pooler_output", &[1, 8])];
        assert_eq!(features(&named, pictures), ("pooler_output".into(), Pooling::None, 8));
    }

    #[test]
    fn tokens_and_windows_become_one_vector() {
        let tokens = [output("last_hidden_state", &[1, 8, 384])];
        let mean = Of::Tokens { first: false };
        assert_eq!(features(&tokens, mean), ("last_hidden_state".into(), Pooling::Mean, 384));
        assert_eq!(features(&tokens, Of::Tokens { first: true }).1, Pooling::Cls);
        assert_eq!(features(&[output("e", &[1, 96])], Of::Windows { cut: true }).1, Pooling::Mean);
        assert_eq!(features(&[output("e", &[1, 96])], Of::Windows { cut: false }).1, Pooling::None);
        assert_eq!(features(&[output("e", &[1, 50, 96])], Of::Windows { cut: false }).1, Pooling::Mean);
    }

    #[test]
    fn labels_find_their_output_and_a_name_that_is_given_must_be_one() {
        let labels: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let outputs = [output("x", &[1, 3]), output("y", &[1, 8])];
        let mut facts = Facts::default();
        let spec = decide(&outputs, Of::Places(Layout::Nchw), Some(&labels), &mut facts).unwrap();
        assert_eq!((spec.features.unwrap().tensor, spec.logits.unwrap().tensor), ("y".into(), "x".into()));
        let mut facts = Facts::given(&["output.features.tensor=z".to_owned()]).unwrap();
        let refused = decide(&outputs, Of::Places(Layout::Nchw), None, &mut facts).unwrap_err();
        assert!(refused.to_string().contains("it has x, y"), "{refused}");
    }
}
