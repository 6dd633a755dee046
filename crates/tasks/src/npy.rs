//! Reading NumPy arrays: the format of the constant tables beside a backbone.
//!
//! Source: the `.npy` format, versions 1.0 and 2.0, little-endian `f2` and `f4` in C order.

use half::f16;

/// A table of floats in row order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) values: Vec<f32>,
}

impl Table {
    /// Reads an array of one or two dimensions; one dimension becomes one row.
    ///
    /// # Errors
    /// What the file is or lacks.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("not a .npy file")?;
        let (&[major, _minor], rest) = rest.split_first_chunk::<2>().ok_or("cut short")?;
        let (length, rest) = match major {
            1 => rest.split_first_chunk::<2>().map(|(size, rest)| (u16::from_le_bytes(*size) as usize, rest)),
            2 | 3 => {
                rest.split_first_chunk::<4>().map(|(size, rest)| (u32::from_le_bytes(*size) as usize, rest))
            }
            other => return Err(format!("format version {other} is not read")),
        }
        .ok_or("cut short")?;
        let (header, data) = rest.split_at_checked(length).ok_or("cut short")?;
        let header = std::str::from_utf8(header).map_err(|_| "the header is not text")?;
        if field(header, "fortran_order") != Some("False") {
            return Err("only C order is read".into());
        }
        let values = match field(header, "descr") {
            Some("'<f4'") => floats::<4>(data, f32::from_le_bytes),
            Some("'<f2'") => floats::<2>(data, |bytes| f16::from_le_bytes(bytes).to_f32()),
            other => return Err(format!("element type {} is not read", other.unwrap_or("unknown"))),
        };
        let (rows, columns) = shape(header).ok_or("the shape is not of one or two dimensions")?;
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(format!("{} values for a shape of {rows} × {columns}", values.len()));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err("a value is not finite".into());
        }
        Ok(Self { rows, columns, values })
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }
}

fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{name}':"))?;
    rest.split(',').next().map(str::trim)
}

fn shape(header: &str) -> Option<(usize, usize)> {
    let (_, rest) = header.split_once("'shape':")?;
    let (inside, _) = rest.split_once('(')?.1.split_once(')')?;
    let sizes: Vec<usize> = inside
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().ok())
        .collect::<Option<_>>()?;
    match sizes.as_slice() {
        [columns] => Some((1, *columns)),
        [rows, columns] => Some((*rows, *columns)),
        _ => None,
    }
}

fn floats<const SIZE: usize>(data: &[u8], read: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    data.as_chunks::<SIZE>().0.iter().map(|bytes| read(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn tables_of_single_and_half_precision_are_read() {
        let data: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let table = Table::read(&file("<f4", "(2, 2)", &data)).unwrap();
        assert_eq!((table.rows, table.row(1)), (2, [3.0, 4.0].as_slice()));
        // 1.5 and −2 in half precision.
        let table = Table::read(&file("<f2", "(2,)", &[0x00, 0x3e, 0x00, 0xc0])).unwrap();
        assert_eq!((table.rows, table.values), (1, vec![1.5, -2.0]));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let good = file("<f4", "(1, 1)", &1.0f32.to_le_bytes());
        for cut in 0..good.len() {
            assert!(Table::read(&good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Table::read(&file("<i8", "(1, 1)", &[0; 8])).is_err());
        assert!(Table::read(&file("<f4", "(1, 1)", &f32::NAN.to_le_bytes())).is_err());
        assert!(Table::read(&file("<f4", "(9999999999999999999, 9999999999999999999)", &[])).is_err());
    }
}
