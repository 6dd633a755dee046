//! Archives of one folder a class, read entry by entry; nothing is written to disk.

mod layout;
mod listing;
mod tar;
mod zip;

use std::io::Read;

use headstart_types::Modality;

pub(crate) use self::listing::Listing;
pub(crate) use self::tar::{Tar, pieces as tar_pieces};
pub(crate) use self::zip::Zip;
use super::fault_of;
use crate::draft::{Draft, Fault, Labels, Material, Step, check_text};
use crate::{Code, DatasetError, Limits, Place};
use layout::{Kind, Seat};

/// An entry's content within its declared size, or what is wrong with it.
fn content(
    reader: impl Read,
    declared: u64,
    limits: &Limits,
) -> Result<Result<Vec<u8>, Fault>, DatasetError> {
    let most = declared.min(limits.max_entry_bytes);
    // The declared size is not to be trusted with memory.
    let mut bytes = Vec::with_capacity(usize::try_from(most.min(1 << 20)).unwrap_or(0));
    if let Err(error) = reader.take(most + 1).read_to_end(&mut bytes) {
        return fault_of(error).map(Err);
    }
    if bytes.len() as u64 != declared {
        let message = format!("the entry unpacks to another size than the {declared} bytes it declares");
        return Ok(Err(Fault::new(Code::DamagedFile, message)));
    }
    Ok(Ok(bytes))
}

/// A row from an entry's bytes.
fn row(path: &str, bytes: Vec<u8>, seat: Seat, limits: &Limits) -> Step {
    let shown = headstart_media::sniff(&bytes).map(|sniffed| sniffed.modality);
    let material = match shown.filter(|modality| *modality != Modality::Text) {
        Some(Modality::Image) => Ok(Material::Image(bytes)),
        Some(_) => Ok(Material::Audio(bytes)),
        None if seat.kind == Kind::Picture => Ok(Material::Image(bytes)),
        None if seat.kind == Kind::Sound => Ok(Material::Audio(bytes)),
        None if seat.kind == Kind::Text => text(bytes, limits).map(Material::Text),
        None => {
            let message = "neither a picture (JPEG, PNG, WebP, GIF, BMP, TIFF) nor a sound (WAV, FLAC, MP3, Ogg, \
                           M4A) nor a .txt file";
            Err(Fault::new(Code::UnsupportedMedia, message))
        }
    };
    let draft = material.map_err(|fault| vec![fault]).map(|material| Draft {
        material,
        labels: Labels::One(seat.label),
        group: seat.group,
        split: seat.split,
        id: None,
    });
    Step::Row { place: Place::Path(path.into()), draft }
}

fn text(bytes: Vec<u8>, limits: &Limits) -> Result<String, Fault> {
    if let Some(encoding) = super::encoding::foreign(&bytes) {
        return Err(Fault::new(Code::WrongEncoding, format!("the text is {encoding}; save it as UTF-8")));
    }
    let marked = bytes.starts_with(b"\xEF\xBB\xBF");
    let text = String::from_utf8(bytes).map_err(|error| {
        let fault = super::encoding::fault(error.as_bytes(), 0);
        fault.unwrap_or_else(|| Fault::new(Code::WrongEncoding, "the text is not UTF-8"))
    })?;
    let text = if marked { text.trim_start_matches('\u{feff}').to_owned() } else { text };
    check_text(&text, limits).map(|()| text)
}

/// A fault of an entry: of a row, if it stands in the way of one, or else a note.
fn report(place: Place, fault: Fault) -> Step {
    match fault.code.severity() {
        crate::Severity::Problem => Step::Row { place, draft: Err(vec![fault]) },
        crate::Severity::Warning => Step::Note { place: Some(place), fault },
    }
}

/// Says which folders were taken as groups.
fn groups_note(groups: &std::collections::BTreeSet<String>) -> Option<Step> {
    const MOST: usize = 8;
    let mut names: Vec<String> =
        groups.iter().take(MOST).map(|name| format!("`{}`", super::jsonl::clipped(name))).collect();
    if groups.len() > MOST {
        names.push("…".into());
    }
    let message = format!("folders above the class folders are taken as groups: {}", names.join(", "));
    (!groups.is_empty()).then(|| Step::about_file(Fault::new(Code::FoldersAsGroups, message)))
}
