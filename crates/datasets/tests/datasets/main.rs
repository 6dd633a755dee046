//! What the crate promises of uploads, on files that other programs wrote and on files made to deceive.

#[cfg(test)]
mod archives;
#[cfg(test)]
mod duplicates;
#[cfg(test)]
mod files;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod problems;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod without;
