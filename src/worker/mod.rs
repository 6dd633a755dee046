//! Background work: jobs are claimed from the store, done step by step, and given back when the process stops.

mod alone;
mod auto;
mod bulk;
mod control;
mod evaluate;
mod examples;
mod fine_tune;
mod grounding;
mod held_out;
mod overlap;
mod pace;
mod prefix;
mod raw;
mod reading;
mod rehearsal;
mod rival;
mod run;
mod stages;
mod table;
mod training;
mod training_rows;
mod tune;
mod zero_shot;

pub use alone::work;
pub use run::Workers;
