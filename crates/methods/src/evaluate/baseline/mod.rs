//! What is learnt without transfer: logistic regression on plain features of texts, pictures and sounds.

pub mod hog;
pub mod logistic;
pub mod picture;
pub mod sound;
pub mod sparse;
pub mod tf_idf;
