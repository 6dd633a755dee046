//! A zip archive without some of its entries; the others are copied packed as they are.

use std::collections::HashSet;
use std::io::{BufReader, Write};

use ::zip::result::ZipError;
use ::zip::{ZipArchive, ZipWriter};

use crate::{DatasetError, Source};

pub(super) fn copy(source: &Source, gone: &HashSet<&str>, out: impl Write) -> Result<(), DatasetError> {
    let copied = || -> Result<(), ZipError> {
        let mut archive = ZipArchive::new(BufReader::with_capacity(64 << 10, source.reader_at(0)))?;
        let mut writer = ZipWriter::new_stream(out);
        for index in 0..archive.len() {
            let file = archive.by_index_raw(index)?;
            let path = String::from_utf8_lossy(file.name_raw()).into_owned();
            let path = file.name().map_or(path, std::borrow::Cow::into_owned);
            if !gone.contains(path.as_str()) {
                writer.raw_copy_file(file)?;
            }
        }
        writer.finish()?.into_inner().flush()?;
        Ok(())
    };
    copied().map_err(|error| {
        if let ZipError::Io(error) = error {
            return super::cannot(error);
        }
        DatasetError::CannotRewrite(error.to_string().to_ascii_lowercase())
    })
}
