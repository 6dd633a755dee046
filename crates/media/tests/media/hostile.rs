//! Cut, damaged and lying files: errors, quickly, and no memory for what they claim.

use std::time::{Duration, Instant};

use headstart_media::{Limits, MediaError, RgbImage8, decode, probe};

use crate::fixtures::{Chance, Golden, Picture};

fn pictures() -> Vec<Picture> {
    Golden::load().pictures()
}

/// So small that a damaged header which claims more is refused: the damage is to reach the decoders, not the clock.
fn small() -> Limits {
    Limits { max_pixels: 1_000_000, ..Limits::default() }
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_the_whole_picture() {
    let mut whole = 0;
    for picture in pictures() {
        let full = decode(&picture.bytes, &small()).unwrap();
        for length in 0..picture.bytes.len() {
            if let Ok(image) = decode(&picture.bytes[..length], &small()) {
                // Only what no pixel depends on was cut: metadata, a checksum, an end mark, later frames. Without its
                // orientation a picture lies as it was stored.
                assert!(
                    image == full || image == as_stored(&full, &picture.file),
                    "{} cut to {length} bytes gives another picture",
                    picture.file
                );
                whole += 1;
            }
        }
    }
    assert!(whole > 0);
}

/// A picture before it was turned by the orientation that its file is named after; as it is where the name has none.
fn as_stored(turned: &RgbImage8, file: &str) -> RgbImage8 {
    let told = file.split_once("orientation").and_then(|(_, rest)| rest.chars().find_map(|c| c.to_digit(10)));
    let orientation = told.unwrap_or(1);
    let (across, down) = (turned.width() as usize, turned.height() as usize);
    let (width, height) = if orientation > 4 { (down, across) } else { (across, down) };
    let place = |x: usize, y: usize| match orientation {
        1 => (x, y),
        2 => (width - 1 - x, y),
        3 => (width - 1 - x, height - 1 - y),
        4 => (x, height - 1 - y),
        5 => (y, x),
        6 => (height - 1 - y, x),
        7 => (height - 1 - y, width - 1 - x),
        8 => (y, width - 1 - x),
        other => panic!("{file}: no orientation is {other}"),
    };
    let pixels = turned.pixels();
    let mut stored = Vec::with_capacity(pixels.len());
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let (x, y) = place(x, y);
        stored.extend_from_slice(&pixels[3 * (y * across + x)..][..3]);
    }
    RgbImage8::new(width as u32, height as u32, stored).unwrap()
}

#[test]
fn damaged_files_never_panic() {
    let mut chance = Chance::new();
    for picture in pictures() {
        for _ in 0..60 {
            let bytes = chance.damage(&picture.bytes);
            let _ = decode(&bytes, &small());
        }
    }
}

/// A file of the golden set with some bytes replaced.
fn patched(name: &str, patches: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = crate::fixtures::read(&format!("tests/golden/images/{name}"));
    for (at, patch) in patches {
        bytes[*at..*at + patch.len()].copy_from_slice(patch);
    }
    bytes
}

fn position(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).position(|window| window == pattern).unwrap()
}

/// A line of what the system says of this process's memory, in MiB; 0 where it says nothing.
fn memory_mib(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|each| each.strip_prefix(line));
    found.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Runs a test of this file again in a process of its own, whose memory no other test moves; whether this is that process.
fn is_alone(test: &str) -> bool {
    if std::env::args().any(|argument| argument == "--exact") {
        return true;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let done = again.args(["--exact", &format!("hostile::{test}")]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Peak resident memory.
fn peak_mib() -> u64 {
    memory_mib("VmHWM:")
}

#[test]
fn a_header_that_claims_a_hundred_megapixels_is_refused_before_anything_is_expanded() {
    if !is_alone("a_header_that_claims_a_hundred_megapixels_is_refused_before_anything_is_expanded") {
        return;
    }
    let side = 10_000_u32;
    let jpeg = patched("jpeg-444.jpg", &[]);
    let frame = position(&jpeg, b"\xFF\xC0") + 5;
    let tiff = patched("tiff-rgb.tiff", &[]);
    let tag = |tag: u16| position(&tiff, &[&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0]].concat()) + 8;
    let short = |value: u16| value.to_be_bytes();
    let bombs = [
        patched("png-rgb-8.png", &[(16, &side.to_be_bytes()), (20, &side.to_be_bytes())]),
        patched("jpeg-444.jpg", &[(frame, &short(10_000)), (frame + 2, &short(10_000))]),
        patched("gif.gif", &[(6, &[0x10, 0x27]), (8, &[0x10, 0x27])]),
        patched("bmp-24.bmp", &[(18, &side.to_le_bytes()), (22, &side.to_le_bytes())]),
        patched("tiff-rgb.tiff", &[(tag(256), &side.to_le_bytes()), (tag(257), &side.to_le_bytes())]),
        patched("webp-lossless.webp", &[(21, &((side - 1) | (side - 1) << 14).to_le_bytes())]),
    ];
    let refuse = |_| {
        let started = Instant::now();
        for bomb in &bombs {
            for refused in [probe(bomb, &Limits::default()).err(), decode(bomb, &Limits::default()).err()] {
                let refused = refused.unwrap();
                assert!(matches!(refused, MediaError::TooLarge { max: 50_000_000, .. }), "{refused}");
            }
        }
        started.elapsed()
    };
    let before = peak_mib();
    // The least of several tries: whatever else runs takes its share of the processor.
    let least = (0..5).map(refuse).min().unwrap();
    assert!(least < Duration::from_millis(500), "{least:?}");
    // Expanding a single bomb takes 300.
    assert!(peak_mib() - before < 100, "{} MiB", peak_mib() - before);
}

#[test]
fn a_strip_of_more_than_a_million_pixels_is_refused_by_its_header() {
    for (width, height) in [(1_000_001_u32, 1_u32), (1, 1_000_001)] {
        let png = patched("png-rgb-8.png", &[(16, &width.to_be_bytes()), (20, &height.to_be_bytes())]);
        let refused = probe(&png, &Limits::default()).unwrap_err();
        assert!(matches!(refused, MediaError::SideTooLong { max: 1_000_000, .. }), "{refused}");
    }
}

#[test]
fn metadata_that_claims_more_than_the_file_takes_no_memory() {
    if !is_alone("metadata_that_claims_more_than_the_file_takes_no_memory") {
        return;
    }
    let file = patched("webp-orientation-5.webp", &[]);
    let whole = decode(&file, &Limits::default()).unwrap();
    let length = position(&file, b"EXIF") + 4;
    let claims = patched("webp-orientation-5.webp", &[(length, &u32::MAX.to_le_bytes())]);
    // Memory that nobody touched is address space alone.
    let before = memory_mib("VmPeak:");
    let image = decode(&claims, &Limits::default()).unwrap();
    assert!(memory_mib("VmPeak:") - before < 2048);
    // Without its orientation the picture lies as it was stored.
    assert_eq!((image.width(), image.height()), (whole.height(), whole.width()));
}

/// A zlib stream of `matches` × 258 zero bytes and one, by fixed codes: 13 bits for every 258 bytes.
fn zeros(matches: usize) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (vec![0x78, 0x01], 0_u64, 0);
    let mut put = |value: u64, length: u32| {
        bits |= value << count;
        count += length;
        while count >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    let code = |value: u64, length: u32| (value.reverse_bits() >> (64 - length), length);
    let (zero, longest, end) = (code(0b0011_0000, 8), code(0b1100_0101, 8), code(0, 7));
    put(0b011, 3);
    put(zero.0, zero.1);
    for _ in 0..matches {
        put(longest.0, longest.1);
        put(0, 5);
    }
    put(end.0, end.1);
    put(0, 7);
    // The checksum: of zeros, the lower sum stays 1 and the upper counts them.
    let upper = ((matches * 258 + 1) % 65_521) as u16;
    out.extend(upper.to_be_bytes());
    out.extend([0, 1]);
    out
}

#[test]
fn metadata_that_expands_without_end_costs_no_memory() {
    if !is_alone("metadata_that_expands_without_end_costs_no_memory") {
        return;
    }
    // 200 MB of colour profile in one; whether the profile is refused or skipped does not matter here.
    let profile = [&b"profile\0\0"[..], &zeros(800_000)].concat();
    let mut bytes = patched("png-rgb-8.png", &[]);
    let mut chunk = (profile.len() as u32).to_be_bytes().to_vec();
    chunk.extend(b"iCCP");
    chunk.extend(&profile);
    chunk.extend(checksum(&chunk[4..]).to_be_bytes());
    bytes.splice(33..33, chunk);
    let before = peak_mib();
    let _ = decode(&bytes, &Limits::default());
    assert!(peak_mib() - before < 100, "{} MiB", peak_mib() - before);
}

/// The CRC of PNG chunks.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[test]
fn a_claim_within_the_limit_without_the_data_for_it_is_an_error() {
    let side = 7_000_u32;
    let bytes = patched("png-rgb-8.png", &[(16, &side.to_be_bytes()), (20, &side.to_be_bytes())]);
    let refused = decode(&bytes, &Limits::default()).unwrap_err();
    assert!(matches!(refused, MediaError::Undecodable { format: "PNG", .. }), "{refused}");
}

#[test]
fn an_empty_picture_is_an_error() {
    for (name, at) in [("png-rgb-8.png", 16), ("bmp-24.bmp", 18)] {
        let refused = decode(&patched(name, &[(at, &[0; 4])]), &Limits::default()).unwrap_err();
        assert!(matches!(refused, MediaError::Undecodable { .. }), "{name}: {refused}");
    }
}

#[test]
fn other_formats_are_unsupported_and_named() {
    for (bytes, name) in [
        (&b"\0\0\0\x20ftypavif\0\0\0\0"[..], "AVIF"),
        (b"%PDF-1.7", "PDF"),
        (b"<svg xmlns=", "SVG"),
        (b"hello", "no known format"),
    ] {
        let refused = decode(bytes, &Limits::default()).unwrap_err();
        assert!(
            matches!(&refused, MediaError::Unsupported { found, .. } if found.contains(name)),
            "{refused}"
        );
    }
    assert!(matches!(decode(b"", &Limits::default()), Err(MediaError::Empty { .. })));
}
