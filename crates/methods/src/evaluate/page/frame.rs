//! The frame of a chart: where a value lies, axes, ticks and lines.
//!
//! Elements of drawings are written `{}` and never `;`: HTML closes none of them by itself.

use maud::{Markup, html};

/// Size of a chart and of its margins, in pixels of its own.
pub(super) const WIDTH: f64 = 420.0;
pub(super) const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// A tick: where it lies, from 0 to 1, and what it says.
pub(super) type Tick = (f64, String);

/// Where a share of the width lies.
pub(super) fn x(share: f64) -> f64 {
    rounded(LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT))
}

/// Where a share of the height lies, from the bottom.
pub(super) fn y(share: f64) -> f64 {
    rounded(HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM))
}

/// A tenth of a pixel is less than any eye sees.
pub(super) fn rounded(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// Ticks at every fifth of 0 to 100 %.
pub(super) fn fifths() -> Vec<Tick> {
    (0..=5).map(|fifth| (f64::from(fifth) / 5.0, format!("{} %", fifth * 20))).collect()
}

/// A path through points, each from 0 to 1 both ways.
pub(super) fn line(class: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Markup {
    let places: Vec<String> =
        points.into_iter().map(|(across, up)| format!("{},{}", x(across), y(up))).collect();
    html! { polyline class=(class) points=(places.join(" ")) {} }
}

/// A chart with axes, their names and ticks around `content`.
pub(super) fn chart(
    title: &str,
    [across, up]: [&str; 2],
    [across_ticks, up_ticks]: [&[Tick]; 2],
    content: Markup,
) -> Markup {
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" {
            title { (title) }
            @for (place, name) in up_ticks {
                line class="grid" x1=(x(0.0)) x2=(x(1.0)) y1=(y(*place)) y2=(y(*place)) {}
                text x=(x(0.0) - 6.0) y=(y(*place) + 4.0) text-anchor="end" { (name) }
            }
            @for (place, name) in across_ticks {
                line class="axis" x1=(x(*place)) x2=(x(*place)) y1=(y(0.0)) y2=(y(0.0) + 4.0) {}
                text x=(x(*place)) y=(y(0.0) + 17.0) text-anchor="middle" { (name) }
            }
            (line("axis", [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0)]))
            text x=(x(0.5)) y=(HEIGHT - 8.0) text-anchor="middle" { (across) }
            text x="12" y=(y(0.5)) text-anchor="middle" transform=(format!("rotate(-90 12 {})", y(0.5))) { (up) }
            (content)
        }
    }
}
