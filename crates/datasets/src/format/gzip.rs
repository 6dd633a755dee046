//! Gzip, unpacked as a stream within limits. Source: RFC 1952; members may follow one another.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::draft::Fault;
use crate::source::SourceReader;
use crate::{Code, Limits, Source};

/// The unpacked bytes of a gzip file.
pub(crate) struct Unpacked {
    decoder: MultiGzDecoder<BufReader<SourceReader>>,
    given: u64,
    packed: u64,
    limits: Limits,
}

impl Unpacked {
    pub(crate) fn new(source: &Source, limits: &Limits) -> Self {
        let reader = BufReader::with_capacity(64 << 10, source.reader_at(0));
        Self {
            decoder: MultiGzDecoder::new(reader),
            given: 0,
            packed: source.bytes(),
            limits: limits.clone(),
        }
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.given += read as u64;
        if self.given > self.limits.max_unpacked_bytes {
            let message = format!("unpacks to more than {} bytes", self.limits.max_unpacked_bytes);
            return Err(Fault::new(Code::TooLarge, message).into());
        }
        if self.limits.is_suspicious(self.packed, self.given) {
            let message = format!(
                "its {} bytes unpack to more than {} times as many",
                self.packed, self.limits.max_ratio
            );
            return Err(Fault::new(Code::SuspiciousRatio, message).into());
        }
        Ok(read)
    }
}
