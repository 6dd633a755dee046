//! Which of a graph's outputs are read, and where an item's vector lies in them.

use std::borrow::Cow;

use half::f16;
use headstart_types::manifest::{Form, Layout, Manifest};
use ort::session::SessionOutputs;
use ort::value::{Outlet, TensorElementType, ValueType};

/// The outputs that are read.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) features: String,
    pub(crate) form: Form,
    /// The source head's output and how many classes it has.
    pub(crate) logits: Option<(String, usize)>,
}

impl Outputs {
    /// Finds the outputs that the manifest names; `None` where it names none. `classes` is the label file's length.
    ///
    /// # Errors
    /// What does not fit, naming the output or the field.
    pub(crate) fn of(
        outputs: &[Outlet],
        manifest: &Manifest,
        classes: Option<usize>,
    ) -> Result<Option<Self>, String> {
        let Some(spec) = &manifest.output.features else { return Ok(None) };
        let layout = manifest.image.as_ref().map_or(Layout::Nhwc, |image| image.layout);
        let features = shape(outputs, &spec.tensor)?;
        // Vectors of a signal's windows are counted when they are there.
        let form = if manifest.audio.is_some() { Form::Vector } else { spec.form(features, layout)? };
        let logits = match (&manifest.output.logits, classes) {
            (Some(spec), Some(classes)) => {
                let shape = shape(outputs, &spec.tensor)?;
                let fits = shape.len() == 2 && (shape[1] < 0 || shape[1] == classes as i64);
                if !fits {
                    return Err(format!(
                        "output `{}` has shape {shape:?}; output.logits.labels has {classes} lines",
                        spec.tensor
                    ));
                }
                Some((spec.tensor.clone(), classes))
            }
            _ => None,
        };
        Ok(Some(Self { features: spec.tensor.clone(), form, logits }))
    }
}

fn shape<'a>(outputs: &'a [Outlet], name: &str) -> Result<&'a [i64], String> {
    let output = outputs.iter().find(|output| output.name() == name).ok_or_else(|| {
        let names: Vec<&str> = outputs.iter().map(Outlet::name).collect();
        format!("the graph has no output `{name}`; it has {}", names.join(", "))
    })?;
    let refused = || format!("output `{name}` is not a tensor of float32 or float16");
    let ValueType::Tensor { ty, shape, .. } = output.dtype() else { return Err(refused()) };
    if matches!(ty, TensorElementType::Float32 | TensorElementType::Float16) {
        Ok(shape)
    } else {
        Err(refused())
    }
}

/// An output's values, `per_row` or a multiple of it for each of `rows`; half precision is widened.
///
/// # Errors
/// An output that is missing, or whose size does not fit.
pub(crate) fn values<'a>(
    outputs: &'a SessionOutputs<'_>,
    name: &str,
    rows: usize,
    per_row: usize,
) -> Result<Cow<'a, [f32]>, String> {
    let (shape, data) = numbers(outputs, name)?;
    if shape.first() == Some(&(rows as i64)) && !data.is_empty() && data.len() % (rows * per_row) == 0 {
        Ok(data)
    } else {
        Err(format!(
            "output `{name}` has shape {shape:?} where {rows} rows of {per_row} values were expected"
        ))
    }
}

/// An output's shape and values; half precision is widened.
///
/// # Errors
/// An output that is missing or of another type.
pub(crate) fn numbers<'a>(
    outputs: &'a SessionOutputs<'_>,
    name: &str,
) -> Result<(&'a [i64], Cow<'a, [f32]>), String> {
    let value = outputs.get(name).ok_or_else(|| format!("the graph gave no output `{name}`"))?;
    match value.try_extract_tensor::<f32>() {
        Ok((shape, data)) => Ok((&shape[..], Cow::Borrowed(data))),
        Err(_) => {
            let (shape, data) = value.try_extract_tensor::<f16>().map_err(|error| error.to_string())?;
            Ok((&shape[..], Cow::Owned(data.iter().map(|value| value.to_f32()).collect())))
        }
    }
}
