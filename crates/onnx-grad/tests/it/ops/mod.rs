//! One file for each family of operators.

mod arithmetic;
mod functions;
mod normalisation;
mod products;
mod reductions;
mod shapes;
