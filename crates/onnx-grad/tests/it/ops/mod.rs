//! One file for each family of operators.

mod arithmetic;
mod convolutions;
mod einsum;
mod functions;
mod gathers;
mod image_normalisation;
mod newest;
mod normalisation;
mod padding;
mod pools;
mod products;
mod reductions;
mod resizing;
mod shapes;
mod slices;
