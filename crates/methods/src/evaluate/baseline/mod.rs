//! What is learnt without transfer: logistic regression on plain features of texts and pictures.

pub mod hog;
pub mod logistic;
pub mod picture;
pub mod sparse;
pub mod tf_idf;
