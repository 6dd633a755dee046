//! What is remembered of the rows: hashes, never contents.

use std::collections::{BTreeMap, HashMap};

use headstart_types::Modality;

use super::look::{self, Look};
use crate::draft::{Draft, Labels};
use crate::inspection::SplitCounts;
use crate::{Limits, Place, Split};

/// One row that is right.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) look: Look,
    pub(crate) place: Place,
    /// The number of the file, from 0.
    pub(crate) part: u16,
    pub(crate) split: Option<Split>,
    /// The number of its set of labels.
    pub(crate) labels: u32,
    pub(crate) has_list: bool,
}

impl Record {
    /// What it is for: rows that do not say are learned from.
    pub(crate) fn side(&self) -> Split {
        self.split.unwrap_or(Split::Train)
    }
}

/// One class.
#[derive(Debug, Default)]
pub(crate) struct Class {
    pub(crate) counts: SplitCounts,
    /// A row that has it.
    pub(crate) first: usize,
    /// The groups of its rows to learn from.
    pub(crate) groups: Groups,
}

/// How many groups something is in; a row without a group stands for itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    #[default]
    None,
    One(u128),
    Several,
}

impl Groups {
    fn add(&mut self, group: Option<u128>) {
        *self = match (*self, group) {
            (Self::None, Some(group)) => Self::One(group),
            (Self::One(known), Some(group)) if known == group => Self::One(known),
            (Self::None | Self::One(_) | Self::Several, _) => Self::Several,
        };
    }
}

/// All rows that are right.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) rows: Vec<Record>,
    /// The number of each class by its label.
    pub(crate) names: BTreeMap<String, u32>,
    pub(crate) classes: Vec<Class>,
    /// Every set of labels met, sorted, and its number.
    sets: HashMap<Box<[u32]>, u32>,
    /// A group's hash: which splits it is in (a bit each), and a row of it.
    pub(crate) groups: BTreeMap<u128, (u8, usize)>,
    /// An id's hash and its row.
    pub(crate) ids: Vec<(u128, usize)>,
    pub(crate) too_many_classes: bool,
}

impl Records {
    pub(crate) fn add(&mut self, draft: &Draft, look: Look, place: Place, part: u16, limits: &Limits) {
        let row = self.rows.len();
        let names: &[String] = match &draft.labels {
            Labels::One(label) => std::slice::from_ref(label),
            Labels::Many(labels) => labels,
        };
        let group = draft.group.as_ref().map(|group| look::key(&[group.as_bytes()]));
        let to_learn = draft.split.is_none_or(|split| split == Split::Train);
        let mut set = Vec::with_capacity(names.len());
        for name in names {
            let Some(number) = self.class(name, row, limits) else { continue };
            set.push(number);
            if let Some(class) = self.classes.get_mut(number as usize) {
                class.counts.add(draft.split);
                if to_learn {
                    class.groups.add(group);
                }
            }
        }
        set.sort_unstable();
        let next = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        let labels = *self.sets.entry(set.into_boxed_slice()).or_insert(next);
        if let Some(group) = group {
            let side = draft.split.unwrap_or(Split::Train);
            self.groups.entry(group).or_insert((0, row)).0 |= 1 << side as u8;
        }
        if let Some(id) = &draft.id {
            self.ids.push((look::key(&[&part.to_le_bytes(), id.as_bytes()]), row));
        }
        let has_list = matches!(draft.labels, Labels::Many(_));
        self.rows.push(Record { look, place, part, split: draft.split, labels, has_list });
    }

    /// The number of a class; `None` for a new one above the limit.
    fn class(&mut self, name: &str, row: usize, limits: &Limits) -> Option<u32> {
        if let Some(&number) = self.names.get(name) {
            return Some(number);
        }
        if self.classes.len() >= limits.max_classes {
            self.too_many_classes = true;
            return None;
        }
        let number = u32::try_from(self.classes.len()).ok()?;
        self.names.insert(name.to_owned(), number);
        self.classes.push(Class { first: row, ..Class::default() });
        Some(number)
    }

    /// The labels of each set, for messages.
    pub(crate) fn described(&self) -> Vec<String> {
        let mut by_number = vec![""; self.classes.len()];
        for (name, &number) in &self.names {
            if let Some(slot) = by_number.get_mut(number as usize) {
                *slot = name;
            }
        }
        let mut described = vec![String::new(); self.sets.len()];
        for (set, &number) in &self.sets {
            let names: Vec<String> = set
                .iter()
                .map(|&class| format!("`{}`", by_number.get(class as usize).copied().unwrap_or_default()))
                .collect();
            if let Some(slot) = described.get_mut(number as usize) {
                *slot = if names.is_empty() { "none".into() } else { names.join(", ") };
            }
        }
        described
    }

    pub(crate) fn count(&self, modality: Modality) -> usize {
        self.rows.iter().filter(|row| row.look.modality == modality).count()
    }
}
