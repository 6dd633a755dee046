//! What is decided of a manifest: given, or guessed for a reason; each is told by the field's name.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, ensure};
use headstart_types::{Manifest, ManifestError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is decided of a manifest.
#[derive(Debug, Default)]
pub(super) struct Facts {
    given: BTreeMap<String, toml::Value>,
    told: Vec<String>,
}

impl Facts {
    /// Reads values of `--set`: a field of the manifest by its dotted path, `=`, and a value as TOML writes it; what is no
    /// such value is a text.
    pub(super) fn given(settings: &[String]) -> anyhow::Result<Self> {
        let mut given = BTreeMap::new();
        for setting in settings {
            let (field, value) = setting.split_once('=').with_context(|| {
                format!("`--set` is `{setting}`; it is FIELD=VALUE, as in image.size=224")
            })?;
            let (field, value) = (field.trim(), value.trim());
            ensure!(field.split('.').all(|part| !part.is_empty()), "`--set` names the field `{field}`");
            let table: Option<toml::Table> = toml::from_str(&format!("value = {value}")).ok();
            let value = table.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
            let value = value.unwrap_or_else(|| toml::Value::String(plain(setting)));
            ensure!(given.insert(field.to_owned(), value).is_none(), "`--set {field}` is given twice");
        }
        Ok(Self { given, told: Vec::new() })
    }

    /// Decides a field: the value given, else the guess, told with its reason.
    pub(super) fn decide<T: Serialize + DeserializeOwned>(
        &mut self,
        field: &str,
        guess: T,
        because: impl AsRef<str>,
    ) -> anyhow::Result<T> {
        let value = self.given_for(field)?.unwrap_or(guess);
        self.tell(field, &value, because)?;
        Ok(value)
    }

    /// The value given for a field.
    pub(super) fn given_for<T: DeserializeOwned>(&self, field: &str) -> anyhow::Result<Option<T>> {
        let value = self.given.get(field).cloned();
        value.map(toml::Value::try_into).transpose().map_err(|error| {
            let error: toml::de::Error = error;
            anyhow!("`--set {field}`: {}", error.message())
        })
    }

    /// Tells a field's value and why it has it, unless it was given.
    pub(super) fn tell(
        &mut self,
        field: &str,
        value: &impl Serialize,
        because: impl AsRef<str>,
    ) -> anyhow::Result<()> {
        // A table that is given gives its fields.
        let within = |given: &String| {
            field.strip_prefix(given).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let because = if self.given.keys().any(within) { "it was given" } else { because.as_ref() };
        // JSON keeps the fewest digits that are the same number.
        let value = serde_json::to_string(value)?;
        let value = value.trim_matches('"');
        self.told.push(format!("{field}: {value} (because {because})"));
        Ok(())
    }

    /// Tells something else.
    pub(super) fn remark(&mut self, remark: impl Into<String>) {
        self.told.push(remark.into());
    }

    /// The lines since the last time.
    pub(super) fn take_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// The manifest with every value that was given in its place.
    pub(super) fn apply(&self, manifest: &Manifest) -> anyhow::Result<Manifest> {
        if self.given.is_empty() {
            return Ok(manifest.clone());
        }
        let mut table = toml::Table::try_from(manifest)?;
        for (field, value) in &self.given {
            let mut parts: Vec<&str> = field.split('.').collect();
            let last = parts.pop().unwrap_or_default();
            let mut inside = &mut table;
            for part in parts {
                let next = inside
                    .entry(part)
                    .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                    .as_table_mut();
                inside = next.with_context(|| format!("`--set {field}`: `{part}` holds no fields"))?;
            }
            inside.insert(last.to_owned(), value.clone());
        }
        Manifest::parse(&toml::to_string(&table)?).map_err(|error| match error {
            ManifestError::Parse(error) => anyhow!("`--set`: {}", error.message()),
            ManifestError::Field { .. } => error.into(),
        })
    }
}

/// What stands behind the first `=`.
fn plain(setting: &str) -> String {
    setting.split_once('=').map_or("", |(_, value)| value.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(settings: &[&str]) -> anyhow::Result<Facts> {
        Facts::given(&settings.iter().map(|&setting| setting.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_given_wins_over_the_guess_and_both_are_told() {
        let mut facts = given(&["image.size=96", "image.layout = nhwc", "image.std=[1, 2.5, 1]"]).unwrap();
        assert_eq!(facts.decide("image.size", 224_u32, "so it is").unwrap(), 96);
        assert_eq!(facts.decide("image.layout", "nchw".to_owned(), "so it is").unwrap(), "nhwc");
        assert_eq!(facts.decide("image.std", [1.0_f32; 3], "so it is").unwrap(), [1.0, 2.5, 1.0]);
        assert_eq!(facts.decide("image.scale", 0.017_f32, "so it is").unwrap(), 0.017);
        assert_eq!(
            facts.take_told()[2..],
            ["image.std: [1.0,2.5,1.0] (because it was given)", "image.scale: 0.017 (because so it is)"]
        );
    }

    #[test]
    fn values_of_another_type_and_settings_of_no_form_are_named() {
        for (setting, said) in
            [("image.size", "FIELD=VALUE"), ("=4", "names the field"), ("a..b=4", "names the field")]
        {
            assert!(given(&[setting]).unwrap_err().to_string().contains(said), "{setting}");
        }
        assert!(given(&["a=1", "a=2"]).unwrap_err().to_string().contains("twice"));
        let refused = given(&["image.size=wide"]).unwrap().decide("image.size", 1_u32, "").unwrap_err();
        assert!(refused.to_string().starts_with("`--set image.size`: "), "{refused}");
    }

    #[test]
    fn given_fields_reach_the_manifest_and_unknown_ones_are_refused() {
        let text = format!(
            "version = 1\n[backbone]\nid = \"a\"\nmodality = \"tensor\"\nfile = \"a.onnx\"\nsha256 = \"{}\"\n\
             licence = \"MIT\"\nsource_task = \"b\"\n",
            "0".repeat(64)
        );
        let manifest = Manifest::parse(&text).unwrap();
        let changed =
            given(&["engine.threads=2", "backbone.source_task=another"]).unwrap().apply(&manifest).unwrap();
        assert_eq!((changed.engine.threads, changed.backbone.source_task.as_str()), (Some(2), "another"));
        let said = |setting: &str| given(&[setting]).unwrap().apply(&manifest).unwrap_err().to_string();
        assert!(said("engine.speed=9").contains("speed"), "{}", said("engine.speed=9"));
        assert!(said("version.a=1").contains("holds no fields"));
        assert!(said("engine.threads=0").contains("engine.threads"));
    }
}
