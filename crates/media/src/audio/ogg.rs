//! Whether an Ogg file is whole: readers of it take what is there, and a cut file is not to pass for a short one.

use super::SoundFormat;
use crate::MediaError;

/// Bytes of a page's header before its table of segments.
const HEADER_BYTES: usize = 27;
/// The flag of a stream's last page.
const LAST: u8 = 4;

/// Steps from page to page. Source: RFC 3533, §6.
///
/// # Errors
/// [`MediaError::Undecodable`] when the file ends inside a page, or no page says that it is the last.
pub(super) fn check_whole(bytes: &[u8]) -> Result<(), MediaError> {
    let cut = || SoundFormat::Ogg.undecodable("it ends too early");
    let (mut rest, mut ended) = (bytes, false);
    while rest.starts_with(b"OggS") {
        let segments = usize::from(*rest.get(HEADER_BYTES - 1).ok_or_else(cut)?);
        let table = rest.get(HEADER_BYTES..HEADER_BYTES + segments).ok_or_else(cut)?;
        let body: usize = table.iter().map(|length| usize::from(*length)).sum();
        ended = rest[5] & LAST != 0;
        rest = rest.get(HEADER_BYTES + segments + body..).ok_or_else(cut)?;
    }
    // Something else may follow, as tags do.
    if ended { Ok(()) } else { Err(cut()) }
}
