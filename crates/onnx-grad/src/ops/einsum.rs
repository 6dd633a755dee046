//! `Einsum`: sums of products of elements, letters saying which axes go together. `dx` of each operand is the same
//! sum of `dy` and the other operands, with the letters of `x` as its result.
//!
//! <https://onnx.ai/onnx/operators/onnx__Einsum.html>, operator sets from 12; any number of operands, with or without
//! `…` and a result that is spelt out. Emits `Einsum`; axes of `x` that nothing else has come back by `Unsqueeze` and
//! `Expand`, and axes of one element that met longer ones are summed over.

use headstart_onnx::proto::Attribute;

use super::Op;
use crate::emit::Emit;
use crate::error::GradError;
use crate::probe::{ONE, Tried};
use crate::site::Site;

pub(super) struct Einsum;

impl Op for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn since(&self) -> i64 {
        12
    }

    fn covers(&self) -> &'static str {
        "no letter twice in one operand"
    }

    fn backward(&self, site: &Site<'_>, d: &str, emit: &mut Emit<'_>) -> Result<(), GradError> {
        let equation = Equation::of(site)?;
        for (at, letters) in equation.operands.iter().enumerate() {
            let x = site.input(at)?;
            if !emit.wants(x) {
                continue;
            }
            let mut others: Vec<(&str, &str)> = vec![(d, &equation.result)];
            for (other, letters) in equation.operands.iter().enumerate().filter(|(other, _)| *other != at) {
                others.push((site.input(other)?, letters));
            }
            let sizes = site.fact(x)?.all_tried();
            let mut met = String::new();
            let mut missing = Vec::new();
            for (axis, letter) in letters.chars().enumerate() {
                // One element that met more: what it gets is summed.
                let stretched = sizes[axis] == ONE && equation.size(letter, site) != ONE;
                if stretched || !others.iter().any(|(_, letters)| letters.contains(letter)) {
                    missing.push(axis as i64);
                } else {
                    met.push(letter);
                }
            }
            let names: Vec<&str> = others.iter().map(|(name, _)| *name).collect();
            let spelt: Vec<&str> = others.iter().map(|(_, letters)| *letters).collect();
            let told = Attribute::string("equation", &format!("{}->{met}", spelt.join(",")));
            let mut dx = emit.node_with("Einsum", &names, vec![told]);
            if !missing.is_empty() {
                let axes = emit.integers(&missing);
                dx = emit.node("Unsqueeze", &[&dx, &axes]);
            }
            // One element of another operand went along with several of x: so does its product with dy.
            let narrow = met.chars().any(|letter| {
                let alone = !equation.result.contains(letter) && equation.size(letter, site) != ONE;
                alone && equation.size_but(Some(at), letter, site) == ONE
            });
            if narrow || !missing.is_empty() {
                let shape = emit.shape_of(x)?;
                dx = emit.node("Expand", &[&dx, &shape]);
            }
            emit.give(x, dx);
        }
        Ok(())
    }
}

/// An equation without `…`, each axis a letter.
struct Equation {
    operands: Vec<String>,
    result: String,
}

impl Equation {
    fn of(site: &Site<'_>) -> Result<Self, GradError> {
        let text = site.node.text("equation").ok_or_else(|| site.refuse("it has no equation"))?;
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let (left, right) =
            text.split_once("->").map_or((text.as_str(), None), |(left, right)| (left, Some(right)));
        let mut free = ('A'..='Z').chain('a'..='z').filter(|letter| !text.contains(*letter));
        let mut ranks = Vec::new();
        for (at, operand) in left.split(',').enumerate() {
            let named = operand.replace("...", "").chars().count();
            ranks.push(site.input_fact(at)?.rank().saturating_sub(named));
        }
        let most = left.split(',').zip(&ranks).filter(|(operand, _)| operand.contains("..."));
        let most = most.map(|(_, &rank)| rank).max().unwrap_or_default();
        let dots: Vec<char> = free.by_ref().take(most).collect();
        if dots.len() < most {
            return Err(site.refuse("it has more axes than there are letters"));
        }
        let dots = |rank: usize| dots[most - rank..].iter().collect::<String>();
        let operands: Vec<String> =
            left.split(',').zip(&ranks).map(|(operand, &rank)| operand.replace("...", &dots(rank))).collect();
        let result = match right {
            Some(right) => right.replace("...", &dots(most)),
            None => implied(left, &dots(most)),
        };
        let twice = |letters: &String| letters.chars().any(|one| letters.matches(one).count() > 1);
        if operands.iter().chain([&result]).any(twice) {
            return Err(site.refuse("it names an axis of one operand twice"));
        }
        Ok(Self { operands, result })
    }

    /// The largest size that an axis has in any operand, in each run.
    fn size(&self, letter: char, site: &Site<'_>) -> Tried {
        self.size_but(None, letter, site)
    }

    /// The largest size that an axis has in any operand but one, in each run.
    fn size_but(&self, left_out: Option<usize>, letter: char, site: &Site<'_>) -> Tried {
        let mut size = ONE;
        for (at, letters) in self.operands.iter().enumerate().filter(|(at, _)| Some(*at) != left_out) {
            let axis = letters.chars().position(|found| found == letter);
            if let Some(found) = axis.and_then(|axis| site.input_fact(at).ok()?.tried(axis)) {
                size.iter_mut().zip(found).for_each(|(size, found)| *size = found.max(*size));
            }
        }
        size
    }
}

/// The result where none is spelt out: the dots, and every letter that is there once, in alphabetical order.
fn implied(left: &str, dots: &str) -> String {
    let mut once: Vec<char> =
        left.chars().filter(|one| one.is_alphabetic() && left.matches(*one).count() == 1).collect();
    once.sort_unstable();
    dots.chars().chain(once).collect()
}
