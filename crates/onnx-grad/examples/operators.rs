//! Prints the table of operators through which gradients flow: `docs/OPERATORS.md`.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().lock().write_all(headstart_onnx_grad::coverage().as_bytes())
}
