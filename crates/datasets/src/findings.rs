//! Collecting findings: every one is counted, some of each kind are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::draft::Fault;
use crate::inspection::{Finding, OtherRow};
use crate::{Code, Place, Severity};

/// Of each kind so many are listed before any kind gets more.
const FAIR_SHARE: usize = 5;

/// Findings so far.
#[derive(Debug)]
pub(crate) struct Findings {
    kept: BTreeMap<Code, Vec<(u64, Finding)>>,
    counts: BTreeMap<Code, u64>,
    most: usize,
    met: u64,
    /// The files by number; named only where there are several.
    names: Vec<Arc<str>>,
}

impl Findings {
    /// Lists at most `most` problems and as many warnings, of these files.
    pub(crate) fn new(most: usize, names: Vec<Arc<str>>) -> Self {
        Self { kept: BTreeMap::new(), counts: BTreeMap::new(), most, met: 0, names }
    }

    fn name(&self, part: usize) -> Option<String> {
        self.names.get(part).filter(|_| self.names.len() > 1).map(|name| name.to_string())
    }

    pub(crate) fn add(&mut self, part: Option<usize>, place: Option<&Place>, fault: Fault) {
        *self.counts.entry(fault.code).or_default() += 1;
        self.met += 1;
        if self.kept.get(&fault.code).is_some_and(|kept| kept.len() >= self.most) {
            return;
        }
        let (line, path) = line_or_path(place);
        let other = fault.other.map(|(part, place)| {
            let (line, path) = line_or_path(Some(&place));
            OtherRow { file: self.name(usize::from(part)), line, path }
        });
        let finding = Finding {
            file: part.and_then(|part| self.name(part)),
            line,
            path,
            code: fault.code,
            message: fault.message,
            other,
        };
        self.kept.entry(fault.code).or_default().push((self.met, finding));
    }

    pub(crate) fn count(&self, code: Code) -> u64 {
        self.counts.get(&code).copied().unwrap_or(0)
    }

    pub(crate) fn has_problems(&self) -> bool {
        self.counts.keys().any(|code| code.severity() == Severity::Problem)
    }

    /// The list and the counts of one severity.
    pub(crate) fn of(&self, severity: Severity) -> (Vec<Finding>, BTreeMap<Code, u64>) {
        let counts: BTreeMap<Code, u64> = self
            .counts
            .iter()
            .filter(|(code, _)| code.severity() == severity)
            .map(|(&code, &count)| (code, count))
            .collect();
        let kept = || self.kept.iter().filter(|(code, _)| code.severity() == severity).map(|(_, kept)| kept);
        let first = kept().flat_map(|kept| kept.iter().take(FAIR_SHARE));
        let further = kept().flat_map(|kept| kept.iter().skip(FAIR_SHARE));
        let mut list: Vec<&(u64, Finding)> = first.chain(further).take(self.most).collect();
        list.sort_by_key(|(met, _)| *met);
        (list.into_iter().map(|(_, finding)| finding.clone()).collect(), counts)
    }
}

fn line_or_path(place: Option<&Place>) -> (Option<u64>, Option<String>) {
    match place {
        Some(Place::Line(line)) => (Some(*line), None),
        Some(Place::Path(path)) => (None, Some(path.to_string())),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_kind_does_not_hide_a_rare_one() {
        let mut findings = Findings::new(10, Vec::new());
        for line in 0..1000 {
            findings.add(None, Some(&Place::Line(line)), Fault::new(Code::EmptyText, "empty"));
        }
        findings.add(None, Some(&Place::Line(1000)), Fault::new(Code::NotJson, "not JSON"));
        findings.add(None, None, Fault::new(Code::LabelConflict, "a warning"));
        let (list, counts) = findings.of(Severity::Problem);
        assert_eq!(list.len(), 10);
        assert_eq!(list.last().map(|finding| finding.line), Some(Some(1000)));
        assert_eq!(counts, BTreeMap::from([(Code::EmptyText, 1000), (Code::NotJson, 1)]));
        assert_eq!(findings.of(Severity::Warning).0.len(), 1);
    }
}
