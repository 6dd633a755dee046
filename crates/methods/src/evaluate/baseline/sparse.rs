//! Rows of features that are mostly zero.

/// A matrix by rows: the columns and values that are not zero.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseRows {
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    width: usize,
}

impl SparseRows {
    /// No rows yet, of `width` columns.
    pub fn new(width: usize) -> Self {
        Self { starts: vec![0], columns: Vec::new(), values: Vec::new(), width }
    }

    /// Adds a row: columns below the width, each once. Others are left out.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (column, value) in row {
            if (column as usize) < self.width && value != 0.0 {
                self.columns.push(column);
                self.values.push(value);
            }
        }
        self.starts.push(self.columns.len());
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Columns and values of a row; none for a row that does not exist.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + Clone + '_ {
        let range = match (self.starts.get(row), self.starts.get(row + 1)) {
            (Some(&start), Some(&end)) => start..end,
            _ => 0..0,
        };
        self.columns[range.clone()].iter().zip(&self.values[range]).map(|(c, v)| (*c as usize, *v))
    }

    /// The sum of squares of a row.
    pub fn square(&self, row: usize) -> f32 {
        self.row(row).map(|(_, value)| value * value).sum()
    }
}
