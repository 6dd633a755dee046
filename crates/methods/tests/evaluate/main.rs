//! The evaluation against independent references, and the baselines on real data.

#[cfg(test)]
mod baselines;
#[cfg(test)]
mod datasets;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod page;
#[cfg(test)]
mod report;
