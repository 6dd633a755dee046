//! NumPy's arrays beside a backbone. The reader is nobody's business but its crate's, so its file is compiled in here.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/tasks/src/npy.rs"]
mod npy;

fuzz_target!(init: headstart_fuzz::watch_panics(), |file: &[u8]| {
    let Ok(table) = npy::Table::read(file) else { return };
    assert_eq!(table.values.len(), table.rows * table.columns);
    if table.columns > 0 {
        let summed: f64 = (0..table.rows).flat_map(|row| table.row(row)).map(|value| f64::from(*value)).sum();
        assert!(summed.is_finite());
    }
});
