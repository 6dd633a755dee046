//! What the crate promises of bytes from outside: golden values of the reference libraries, and nothing worse than an
//! error for damaged and hostile input.

#[cfg(test)]
mod decoding;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod resizing;
#[cfg(test)]
mod sounds;
#[cfg(test)]
mod tokens;
