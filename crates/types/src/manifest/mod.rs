//! `headstart.toml`: all that a backbone's numbers depend on and that its graph cannot tell. One file a section.

mod audio;
mod backbone;
mod engine;
mod image;
mod output;
mod text;
mod text_tower;
mod words;
mod zero_shot;

use serde::{Deserialize, Serialize};

use crate::payload::Modality;

pub use audio::{
    AudioSpec, Edges, FrameLayout, LogSpec, MelNorm, MelScale, MelSpec, Silence, StageSpec, Tail, WindowOf,
    WindowSpec,
};
pub use backbone::BackboneSpec;
pub use engine::{EngineSpec, Spread};
pub use image::{ChannelOrder, Filter, Fit, ImageSpec, Layout};
pub use output::{FeaturesSpec, Form, LogitsSpec, OutputSpec, Pooling};
pub use text::{PaddingSpec, TextSpec};
pub use text_tower::TextTowerSpec;
pub use words::{Case, SifSpec, Split, WordForm, WordsSpec};
pub use zero_shot::{
    CalibrationSpec, ConseSpec, EntailmentSpec, LabelSpec, SimilaritySpec, TowersSpec, ZeroShotSpec,
};

/// The manifest format this build reads.
pub const VERSION: u32 = 1;

/// A backbone folder's `headstart.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version; [`VERSION`].
    pub version: u32,
    /// What the backbone is and where it comes from.
    pub backbone: BackboneSpec,
    /// How texts become token ids; needed when the modality is text and the backbone is a graph, or there is a text tower.
    pub text: Option<TextSpec>,
    /// The graph that reads texts, of a backbone whose own reads pictures.
    pub text_tower: Option<TextTowerSpec>,
    /// How texts become words; in place of `text` where the backbone is a table of word vectors.
    pub words: Option<WordsSpec>,
    /// How pictures become tensors; needed when the modality is image.
    pub image: Option<ImageSpec>,
    /// How sounds become tensors; needed when the modality is audio.
    pub audio: Option<AudioSpec>,
    /// What the graph gives; needed unless the modality is tensor.
    #[serde(default)]
    pub output: OutputSpec,
    /// How labels that nobody trained on are scored.
    pub zero_shot: Option<ZeroShotSpec>,
    /// Overrides of what the engine chooses by itself.
    #[serde(default)]
    pub engine: EngineSpec,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, an unknown key, or a value of the wrong type; the parser's message names the place.
    #[error("{0}")]
    Parse(#[from] Box<toml::de::Error>),
    /// A field whose value contradicts another or is out of range.
    #[error("`{field}` {problem}")]
    Field {
        /// Dotted path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] naming the key or field.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(Box::new)?;
        manifest.check()?;
        Ok(manifest)
    }

    pub(crate) fn check(&self) -> Result<(), ManifestError> {
        if self.version != VERSION {
            return refuse("version", &format!("is {}; this build reads {VERSION}", self.version));
        }
        self.backbone.check()?;
        self.check_modality()?;
        self.check_pairs()?;
        self.check_towers()?;
        self.check_table()?;
        self.text.as_ref().map_or(Ok(()), TextSpec::check)?;
        self.words.as_ref().map_or(Ok(()), WordsSpec::check)?;
        self.image.as_ref().map_or(Ok(()), ImageSpec::check)?;
        self.audio.as_ref().map_or(Ok(()), AudioSpec::check)?;
        self.output.check()?;
        self.engine.check()?;
        self.zero_shot.as_ref().map_or(Ok(()), ZeroShotSpec::check)?;
        for (field, file) in self.files() {
            // A manifest may come from anywhere; it must not reach outside its own folder.
            if std::path::Path::new(file)
                .components()
                .any(|part| !matches!(part, std::path::Component::Normal(_)))
            {
                return refuse(field, "must be a path inside the folder");
            }
        }
        Ok(())
    }

    /// The section that says how its media become tensors is there, and no other modality's.
    fn check_modality(&self) -> Result<(), ManifestError> {
        let modality = self.backbone.modality;
        let sections = [
            (Modality::Text, "text", self.text.is_some() || self.words.is_some()),
            (Modality::Image, "image", self.image.is_some()),
            (Modality::Audio, "audio", self.audio.is_some()),
        ];
        for (of, section, present) in sections {
            if of == modality && !present {
                return refuse(
                    section,
                    &format!("is missing for a backbone of modality {}", modality.as_str()),
                );
            }
            let tower = of == Modality::Text && self.text_tower.is_some();
            if of != modality && present && !tower {
                let problem = format!("does not belong to a backbone of modality {}", modality.as_str());
                return refuse(section, &problem);
            }
        }
        if modality == Modality::Audio && self.output.logits.is_some() {
            return refuse("output.logits", "is not read of a backbone of modality audio");
        }
        if modality == Modality::Audio && self.zero_shot.is_some() {
            return refuse(
                "zero_shot",
                "needs a backbone that reads labels too, or one with a head of its own",
            );
        }
        if modality != Modality::Tensor && self.output.features.is_none() {
            return refuse("output.features", "is missing");
        }
        let unpooled =
            self.output.features.as_ref().is_some_and(|features| features.pooling == Pooling::None);
        if modality == Modality::Audio && unpooled && self.cuts() {
            return refuse(
                "output.features.pooling",
                "must say how the vectors of a sound's windows become one",
            );
        }
        if modality == Modality::Tensor && self.zero_shot.is_some() {
            return refuse("zero_shot", "does not belong to a backbone of modality tensor");
        }
        Ok(())
    }

    /// What reads pairs says something of them, and only such a backbone tells entailment.
    fn check_pairs(&self) -> Result<(), ManifestError> {
        let pairs = self.reads_pairs();
        match (&self.output.logits, &self.zero_shot) {
            (None, _) if pairs => refuse("output.logits", "is missing for a backbone that reads pairs"),
            (_, Some(ZeroShotSpec::Entailment(_))) if !pairs => {
                refuse("zero_shot.kind", "is `entailment`, which needs `text.pairs`")
            }
            (_, Some(ZeroShotSpec::Similarity(_) | ZeroShotSpec::Conse(_))) if pairs => {
                refuse("zero_shot.kind", "must be `entailment` for a backbone that reads pairs")
            }
            _ => Ok(()),
        }
    }

    /// A text tower stands beside pictures, has its tokenizer, and alone makes zero-shot by towers possible.
    fn check_towers(&self) -> Result<(), ManifestError> {
        let by_towers = matches!(self.zero_shot, Some(ZeroShotSpec::Towers(_)));
        let Some(tower) = &self.text_tower else {
            return if by_towers {
                refuse("zero_shot.kind", "is `towers`, which needs `[text_tower]`")
            } else {
                Ok(())
            };
        };
        if self.backbone.modality != Modality::Image {
            return refuse("text_tower", "belongs to a backbone of modality image");
        }
        match &self.text {
            None => return refuse("text", "is missing for the text tower"),
            Some(text) if text.pairs => return refuse("text.pairs", "does not belong to a text tower"),
            Some(_) => {}
        }
        if self.zero_shot.is_some() && !by_towers {
            return refuse("zero_shot.kind", "must be `towers` beside `[text_tower]`");
        }
        tower.check(self.output.features.as_ref())
    }

    /// All that it reads, the backbone's own modality first.
    #[must_use]
    pub fn modalities(&self) -> Vec<Modality> {
        let tower = self.text_tower.as_ref().map(|_| Modality::Text);
        std::iter::once(self.backbone.modality).chain(tower).collect()
    }

    /// The same backbone without its text tower.
    #[must_use]
    pub fn without_text_tower(&self) -> Self {
        let text = if self.text_tower.is_some() { None } else { self.text.clone() };
        Self { text, text_tower: None, ..self.clone() }
    }

    /// What the text tower would say of itself, were it a backbone of its own.
    #[must_use]
    pub fn text_half(&self) -> Option<Self> {
        let tower = self.text_tower.as_ref()?;
        let (file, sha256, external) = (tower.file.clone(), tower.sha256.clone(), tower.external.clone());
        Some(Self {
            version: self.version,
            backbone: BackboneSpec {
                modality: Modality::Text,
                file,
                sha256,
                external,
                ..self.backbone.clone()
            },
            text: self.text.clone(),
            words: None,
            text_tower: None,
            image: None,
            audio: None,
            output: OutputSpec { features: Some(tower.features.clone()), logits: None },
            zero_shot: None,
            engine: self.engine.clone(),
        })
    }

    /// Whether it reads two texts at once; such a backbone has logits to give and no features.
    #[must_use]
    pub fn reads_pairs(&self) -> bool {
        self.text.as_ref().is_some_and(|text| text.pairs)
    }

    /// Whether a sound is cut in windows.
    fn cuts(&self) -> bool {
        self.audio.as_ref().is_some_and(|audio| audio.windows.is_some())
    }

    /// Length of its vectors; 0 where it gives none.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.output.features.as_ref().map_or(0, |features| features.dimension)
    }

    /// A table of word vectors has no tensors to name, and a graph names its own.
    fn check_table(&self) -> Result<(), ManifestError> {
        let Some(features) = &self.output.features else { return Ok(()) };
        if self.words.is_none() {
            let unnamed = features.tensor.is_empty();
            return if unnamed { refuse("output.features.tensor", "is missing for a graph") } else { Ok(()) };
        }
        if self.text.is_some() {
            return refuse("words", "stands beside `text`: a backbone is a table or a graph");
        }
        if !features.tensor.is_empty() {
            return refuse("output.features.tensor", "does not belong to a table of word vectors");
        }
        if features.pooling != Pooling::Mean {
            return refuse("output.features.pooling", "is `mean` for a table of word vectors");
        }
        if self.output.logits.is_some() {
            return refuse("output.logits", "does not belong to a table of word vectors");
        }
        Ok(())
    }

    /// Every file the manifest names, with the field that names it.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        let mut files = vec![("backbone.file", self.backbone.file.as_str())];
        files.extend(self.backbone.external.keys().map(|file| ("backbone.external", file.as_str())));
        if let Some(tower) = &self.text_tower {
            files.push(("text_tower.file", tower.file.as_str()));
            files.extend(tower.external.keys().map(|file| ("text_tower.external", file.as_str())));
        }
        files.extend(self.text.as_ref().map(|text| ("text.tokenizer", text.tokenizer.as_str())));
        files.extend(self.words.as_ref().map(|words| ("words.vectors", words.vectors.as_str())));
        let labels = self.output.logits.as_ref().and_then(|logits| logits.labels.as_deref());
        files.extend(labels.map(|labels| ("output.logits.labels", labels)));
        let stage = self.audio.as_ref().and_then(|audio| audio.stage.as_ref());
        files.extend(stage.map(|stage| ("audio.stage.file", stage.file.as_str())));
        match &self.zero_shot {
            Some(ZeroShotSpec::Conse(spec)) => files.push(("zero_shot.classes", spec.classes.as_str())),
            Some(ZeroShotSpec::Similarity(_) | ZeroShotSpec::Entailment(_) | ZeroShotSpec::Towers(_))
            | None => {}
        }
        files
    }
}

/// A field's refusal.
fn refuse(field: &'static str, problem: &str) -> Result<(), ManifestError> {
    Err(ManifestError::Field { field, problem: problem.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(modality: &str) -> String {
        format!(
            "version = 1\n[backbone]\nid = \"a\"\nmodality = \"{modality}\"\nfile = \"a.onnx\"\nsha256 = \"{0}\"\n\
             licence = \"MIT\"\nsource_task = \"b\"\n",
            "0".repeat(64)
        )
    }

    fn pairs() -> String {
        head("text")
            + "[text]\ntokenizer = \"t.json\"\nmax_tokens = 16\npairs = true\n\
               [output.features]\ntensor = \"l\"\npooling = \"none\"\nnormalise = false\ndimension = 2\n\
               [output.logits]\ntensor = \"l\"\nclasses = [\"entailment\", \"contradiction\"]\n\
               [zero_shot]\nkind = \"entailment\"\ntemplates = [\"It is {}.\"]\n"
    }

    fn towers() -> String {
        let features = "tensor = \"e\"\npooling = \"none\"\nnormalise = true\ndimension = 8\n";
        let sha256 = "1".repeat(64);
        format!(
            "{}[text]\ntokenizer = \"t.json\"\nmax_tokens = 16\n[image]\nsize = 32\nresize = 32\nfilter = \"bicubic\"\n\
             scale = 1.0\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\nchannel_order = \"rgb\"\nlayout = \"nchw\"\n\
             [output.features]\n{features}[text_tower]\nfile = \"t.onnx\"\nsha256 = \"{sha256}\"\n\
             [text_tower.features]\n{features}[zero_shot]\nkind = \"towers\"\nlogit_scale = 100.0\n\
             [zero_shot.labels]\ntemplates = [\"a {{}}\"]\ndescription_weight = 0.5\nexample_prior = 5.0\n",
            head("image")
        )
    }

    fn refused(text: &str) -> String {
        match Manifest::parse(text).unwrap_err() {
            ManifestError::Field { field, .. } => field.to_owned(),
            ManifestError::Parse(error) => error.to_string(),
        }
    }

    #[test]
    fn weights_are_rounded_again_for_a_backbone_that_names_its_original_alone() {
        let manifest = |lines: &str| pairs().replace("[text]", &format!("{lines}\n[text]"));
        let both = "original = \"b\"\nrequantise = true";
        assert!(Manifest::parse(&manifest(both)).unwrap().backbone.requantise);
        assert!(!Manifest::parse(&manifest("original = \"b\"")).unwrap().backbone.requantise);
        assert_eq!(refused(&manifest("requantise = true")), "backbone.requantise");
    }

    #[test]
    fn bounds_of_the_engine_are_at_least_one() {
        let engine = |line: &str| pairs() + "[engine]\n" + line;
        assert_eq!(Manifest::parse(&engine("sessions = 2")).unwrap().engine.sessions, Some(2));
        for field in ["threads", "lanes", "sessions", "max_batch_items", "max_batch_tokens"] {
            assert_eq!(refused(&engine(&format!("{field} = 0"))), format!("engine.{field}"));
        }
    }

    #[test]
    fn what_reads_pairs_has_logits_and_labels_by_entailment_alone() {
        let good = pairs();
        assert!(Manifest::parse(&good).unwrap().reads_pairs());
        assert_eq!(refused(&good.replace("pairs = true", "pairs = false")), "zero_shot.kind");
        let (without, _) = good.split_once("[output.logits]").unwrap();
        assert_eq!(refused(without), "output.logits");
        assert_eq!(
            refused(&good.replace("classes =", "labels = \"l.txt\"\nclasses =")),
            "output.logits.labels"
        );
        assert_eq!(refused(&good.replace("It is {}.", "It is.")), "zero_shot.templates");
    }

    #[test]
    fn two_towers_have_one_dimension_one_tokenizer_and_their_own_zero_shot() {
        let good = towers();
        let manifest = Manifest::parse(&good).unwrap();
        assert_eq!(manifest.modalities(), [Modality::Image, Modality::Text]);
        let half = manifest.text_half().unwrap();
        half.check().unwrap();
        assert_eq!((half.backbone.file.as_str(), half.backbone.modality), ("t.onnx", Modality::Text));
        let pictures = manifest.without_text_tower();
        assert!(pictures.text.is_none() && pictures.modalities() == [Modality::Image]);
        let (before, after) = good.split_once("[text_tower.features]").unwrap();
        let other = format!("{before}[text_tower.features]{}", after.replacen("= 8", "= 9", 1));
        assert_eq!(refused(&other), "text_tower.features.dimension");
        assert_eq!(
            refused(&good.replace("logit_scale = 100.0", "logit_scale = 0.0")),
            "zero_shot.logit_scale"
        );
        let outside = good.replace("file = \"t.onnx\"", "file = \"../t.onnx\"");
        assert_eq!(refused(&outside), "text_tower.file");
        let padded =
            good.replace("max_tokens = 16\n", "max_tokens = 16\npadding = { length = 8, token = 1 }\n");
        assert_eq!(refused(&padded), "text.padding.length");
    }
}
