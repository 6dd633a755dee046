//! All heads of one backbone as one stacked matrix, of which a pass computes what it is asked for.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use ndarray::{ArcArray2, Array2, ArrayView2, Axis, concatenate, s};

use super::{Head, product};
use crate::error::MethodError;

/// Rows that one contiguous block holds. Adding a head copies at most one block.
const BLOCK_ROWS: usize = 2048;

/// A head's place in a stack; stays valid while other heads come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadId(u64);

/// One row of features and the head it is to be judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The row of the features.
    pub row: usize,
    /// The head.
    pub head: HeadId,
}

/// Heads whose first layers lie in one matrix.
#[derive(Debug, Clone)]
struct Block {
    rows: ArcArray2<f32>,
    heads: Vec<(HeadId, Arc<Head>, Range<usize>)>,
}

/// Heads of one backbone. Cloning it is cheap (blocks are shared), so a server can hold it behind an atomic pointer
/// and put a changed clone in its place.
#[derive(Debug, Clone)]
pub struct Stack {
    dim: usize,
    next: u64,
    blocks: Vec<Arc<Block>>,
    places: Arc<BTreeMap<HeadId, (usize, usize)>>,
}

impl Stack {
    /// A stack without heads, for features of `dim` numbers.
    pub fn new(dim: usize) -> Self {
        Self { dim, next: 0, blocks: Vec::new(), places: Arc::default() }
    }

    /// A stack of `heads`; their places in order.
    ///
    /// # Errors
    ///
    /// [`MethodError::Width`] when a head takes features of another width.
    pub fn build(dim: usize, heads: &[Arc<Head>]) -> Result<(Self, Vec<HeadId>), MethodError> {
        let mut stack = Self::new(dim);
        let mut ids = Vec::with_capacity(heads.len());
        let mut open: Vec<(HeadId, Arc<Head>)> = Vec::new();
        let mut rows = 0;
        for head in heads {
            let id = stack.admit(head)?;
            ids.push(id);
            if rows + head.rows() > BLOCK_ROWS && !open.is_empty() {
                stack.blocks.push(Arc::new(block(dim, std::mem::take(&mut open))?));
                rows = 0;
            }
            rows += head.rows();
            open.push((id, Arc::clone(head)));
        }
        if !open.is_empty() {
            stack.blocks.push(Arc::new(block(dim, open)?));
        }
        stack.index();
        Ok((stack, ids))
    }

    /// Adds a head. Blocks that are full stay shared with clones of this stack.
    ///
    /// # Errors
    ///
    /// [`MethodError::Width`] when the head takes features of another width.
    pub fn add(&mut self, head: &Arc<Head>) -> Result<HeadId, MethodError> {
        let id = self.admit(head)?;
        let open = self.blocks.last().filter(|last| last.rows.nrows() + head.rows() <= BLOCK_ROWS);
        let mut heads: Vec<_> = open.map_or_else(Vec::new, |open| members(open));
        let replaces = open.is_some();
        heads.push((id, Arc::clone(head)));
        let block = Arc::new(block(self.dim, heads)?);
        let slot = block.heads.len() - 1;
        if replaces {
            self.blocks.pop();
        }
        self.blocks.push(block);
        Arc::make_mut(&mut self.places).insert(id, (self.blocks.len() - 1, slot));
        Ok(id)
    }

    /// Takes a head out; `None` when there is no such head.
    pub fn remove(&mut self, id: HeadId) -> Option<Arc<Head>> {
        let &(at, slot) = self.places.get(&id)?;
        let old = self.blocks.get(at)?;
        let head = Arc::clone(&old.heads.get(slot)?.1);
        let kept: Vec<_> = members(old).into_iter().filter(|(other, _)| *other != id).collect();
        if kept.is_empty() {
            self.blocks.remove(at);
        } else {
            let block = block(self.dim, kept).ok()?;
            *self.blocks.get_mut(at)? = Arc::new(block);
        }
        self.index();
        Some(head)
    }

    /// The head of that place.
    pub fn get(&self, id: HeadId) -> Option<&Arc<Head>> {
        let &(at, slot) = self.places.get(&id)?;
        self.blocks.get(at)?.heads.get(slot).map(|(_, head, _)| head)
    }

    /// How many heads.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no head.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Raw logits for each ask, in order. Only the rows of heads that are asked for are computed: one product for
    /// each run of neighbouring heads that want the same rows.
    ///
    /// # Errors
    ///
    /// [`MethodError::Width`] or [`MethodError::Unknown`] when features, a row or a head do not fit.
    pub fn logits(&self, features: ArrayView2<'_, f32>, asks: &[Ask]) -> Result<Vec<Vec<f32>>, MethodError> {
        self.check_width(features)?;
        // Asks by head's place, so that neighbours in memory come one after the other.
        let mut wanted: BTreeMap<(usize, usize), Vec<(usize, usize)>> = BTreeMap::new();
        for (order, ask) in asks.iter().enumerate() {
            if ask.row >= features.nrows() {
                return Err(MethodError::Unknown { what: "row", index: ask.row });
            }
            let unknown = || MethodError::Unknown { what: "head", index: ask.head.0 as usize };
            let place = *self.places.get(&ask.head).ok_or_else(unknown)?;
            wanted.entry(place).or_default().push((ask.row, order));
        }
        let mut answers = vec![Vec::new(); asks.len()];
        let mut groups = wanted.into_iter().peekable();
        while let Some(((at, first), asked)) = groups.next() {
            let mut last = first;
            let mut orders: Vec<Vec<usize>> = vec![asked.iter().map(|(_, order)| *order).collect()];
            let same = |other: &[(usize, usize)]| other.iter().map(|a| a.0).eq(asked.iter().map(|a| a.0));
            while let Some((_, next)) =
                groups.next_if(|((block, slot), next)| *block == at && *slot == last + 1 && same(next))
            {
                last += 1;
                orders.push(next.iter().map(|(_, order)| *order).collect());
            }
            let rows: Vec<usize> = asked.iter().map(|(row, _)| *row).collect();
            self.group(features, at, first..last + 1, &rows, &orders, &mut answers);
        }
        Ok(answers)
    }

    /// Calibrated probabilities for each ask, in order.
    ///
    /// # Errors
    ///
    /// As [`Stack::logits`].
    pub fn probabilities(
        &self,
        features: ArrayView2<'_, f32>,
        asks: &[Ask],
    ) -> Result<Vec<Vec<f32>>, MethodError> {
        let mut answers = self.logits(features, asks)?;
        for (answer, ask) in answers.iter_mut().zip(asks) {
            if let Some(head) = self.get(ask.head) {
                let parts = head.parts();
                super::squash_row(answer, parts.temperature, parts.multi_label);
            }
        }
        Ok(answers)
    }

    /// Raw logits of every head for every row of features, by head in the stack's order; one product a block.
    ///
    /// # Errors
    ///
    /// [`MethodError::Width`] when the features do not fit.
    pub fn all(&self, features: ArrayView2<'_, f32>) -> Result<Vec<(HeadId, Array2<f32>)>, MethodError> {
        self.check_width(features)?;
        let lengths = product::inverse_lengths(features);
        let mut answers = Vec::with_capacity(self.len());
        for block in &self.blocks {
            let products = product::times_transposed(features, block.rows.view());
            for (id, head, range) in &block.heads {
                let first = products.slice(s![.., range.clone()]).to_owned();
                answers.push((*id, finish(head, first, &lengths)));
            }
        }
        Ok(answers)
    }

    fn group(
        &self,
        features: ArrayView2<'_, f32>,
        at: usize,
        slots: Range<usize>,
        rows: &[usize],
        orders: &[Vec<usize>],
        answers: &mut [Vec<f32>],
    ) {
        let Some(block) = self.blocks.get(at) else { return };
        let Some(heads) = block.heads.get(slots) else { return };
        let (Some(first), Some(last)) = (heads.first(), heads.last()) else { return };
        let span = first.2.start..last.2.end;
        let contiguous = rows.first().map(|&start| start..start + rows.len());
        let contiguous = contiguous.filter(|range| rows.iter().copied().eq(range.clone()));
        let gathered;
        let x = match contiguous {
            Some(range) => features.slice_move(s![range, ..]),
            None => {
                gathered = features.select(Axis(0), rows);
                gathered.view()
            }
        };
        let products = product::times_transposed(x, block.rows.slice(s![span.clone(), ..]));
        let lengths = if heads.iter().any(|head| head.1.parts().normalise) {
            product::inverse_lengths(x)
        } else {
            vec![]
        };
        for ((_, head, range), orders) in heads.iter().zip(orders) {
            let of = range.start - span.start..range.end - span.start;
            let logits = finish(head, products.slice(s![.., of]).to_owned(), &lengths);
            for (row, &order) in logits.outer_iter().zip(orders) {
                if let Some(answer) = answers.get_mut(order) {
                    *answer = row.to_vec();
                }
            }
        }
    }

    fn check_width(&self, features: ArrayView2<'_, f32>) -> Result<(), MethodError> {
        if features.ncols() == self.dim {
            return Ok(());
        }
        Err(MethodError::Width { expected: self.dim, given: features.ncols() })
    }

    fn admit(&mut self, head: &Head) -> Result<HeadId, MethodError> {
        if head.dim() != self.dim {
            return Err(MethodError::Width { expected: self.dim, given: head.dim() });
        }
        let id = HeadId(self.next);
        self.next += 1;
        Ok(id)
    }

    fn index(&mut self) {
        let mut places = BTreeMap::new();
        for (at, block) in self.blocks.iter().enumerate() {
            for (slot, (id, _, _)) in block.heads.iter().enumerate() {
                places.insert(*id, (at, slot));
            }
        }
        self.places = Arc::new(places);
    }
}

fn finish(head: &Head, mut first: Array2<f32>, inverse_lengths: &[f32]) -> Array2<f32> {
    head.finish_first(&mut first, head.parts().normalise.then_some(inverse_lengths));
    head.tail(first)
}

fn members(block: &Block) -> Vec<(HeadId, Arc<Head>)> {
    block.heads.iter().map(|(id, head, _)| (*id, Arc::clone(head))).collect()
}

/// Lays heads' first layers below each other; a block of one head shares that head's memory.
fn block(dim: usize, members: Vec<(HeadId, Arc<Head>)>) -> Result<Block, MethodError> {
    let rows = match members.as_slice() {
        [(_, only)] => only.parts().rows.clone(),
        several => {
            let views: Vec<_> = several.iter().map(|(_, head)| head.parts().rows.view()).collect();
            let wrong = |_| MethodError::Width { expected: dim, given: 0 };
            concatenate(Axis(0), &views).map_err(wrong)?.into_shared()
        }
    };
    let mut start = 0;
    let heads = members.into_iter().map(|(id, head)| {
        let range = start..start + head.rows();
        start = range.end;
        (id, head, range)
    });
    Ok(Block { heads: heads.collect(), rows })
}
