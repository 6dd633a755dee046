//! Numbers and places in words.

use headstart_types::report::{Estimate, LearningPoint, Row, Verdict};

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A figure in percent with its interval.
pub(super) fn estimate(estimate: Estimate) -> String {
    format!("{:.1} % ({:.1} to {:.1})", estimate.value * 100.0, estimate.low * 100.0, estimate.high * 100.0)
}

/// A positive number to three digits that say something, however small it is.
pub(super) fn significant(value: f64) -> String {
    let magnitude = if value > 0.0 && value.is_finite() { value.log10().floor() } else { 0.0 };
    if magnitude < -6.0 {
        return format!("{value:.2e}");
    }
    let decimals = (2.0 - magnitude).max(0.0) as usize;
    format!("{value:.decimals$}")
}

/// Where an item stands.
pub(super) fn row(row: &Row) -> String {
    let place = match (&row.path, row.line) {
        (Some(path), Some(line)) => format!("{path}, line {line}"),
        (Some(path), None) => path.clone(),
        (None, Some(line)) => format!("line {line}"),
        (None, None) => "unknown".to_owned(),
    };
    match &row.split {
        Some(split) => format!("{split}: {place}"),
        None => place,
    }
}

/// How many examples a class a point of the curve has.
pub(super) fn point_name(point: &LearningPoint) -> String {
    let mean = point.examples_a_class;
    if point.all {
        "all".to_owned()
    } else if (mean - mean.round()).abs() < 0.05 {
        format!("{mean:.0}")
    } else {
        // Of uneven classes points may lie close together.
        format!("{mean:.1}")
    }
}

/// A verdict's class in the style sheet.
pub(super) fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Helped => "helped",
        Verdict::NoDifference => "dim",
        Verdict::Hurt => "hurt",
    }
}

/// Bytes in binary units.
pub(super) fn bytes(bytes: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let size = bytes as f64 / MIB;
    if size >= 1024.0 { format!("{:.1} GiB", size / 1024.0) } else { format!("{size:.1} MiB") }
}

/// A label cut to what fits beside a chart.
pub(super) fn short(label: &str) -> String {
    const FITS: usize = 14;
    if label.chars().count() <= FITS {
        return label.to_owned();
    }
    label.chars().take(FITS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_number_is_not_told_as_none() {
        let cases =
            [(1.5, "1.50"), (0.25, "0.250"), (1.75e-5, "0.0000175"), (3.25e-9, "3.25e-9"), (123.4, "123")];
        for (value, said) in cases {
            assert_eq!(significant(value), said);
        }
    }
}
